import AegisChannel
import CHarness
import Glibc
import Testing

/// A daemon at the door of a harness, as far as a test needs one: takes frames, and does with them what it is told.
final class DoorDaemon {
    let client: ChannelClient
    let number: UInt16 = 700
    private var link: DoorLink
    private var incoming = ByteQueue()
    private var taken: Int
    /// Bytes of each connection, and which have been finished or reset.
    var bytes: [UInt32: [UInt8]] = [:]
    var finished: Set<UInt32> = []
    var reset: Set<UInt32> = []
    var opened: [UInt32] = []
    /// Whether credit is given for what came.
    var grants = true
    /// Bytes that wait for credit.
    private var waiting: [UInt32: [UInt8]] = [:]

    init(_ client: ChannelClient, resumes: Bool = false) {
        self.client = client
        link = DoorLink(.daemon, resumes: resumes)
        taken = client.processes[700]?.stdout.count ?? 0
    }

    /// Opens the door; returns the port.
    func open(_ socket: String, port: UInt16) throws {
        try client.start(number, ["\(port)", socket], kind: .door, stdin: true)
        try client.wait("the door") { $0.processes[700]?.started != nil || $0.processes[700]?.failed != nil }
    }

    func send(_ body: (inout DoorLink, inout ByteQueue) -> Void) throws {
        var queue = ByteQueue()
        body(&link, &queue)
        if !queue.isEmpty { try client.input(number, queue.bytes(at: 0, count: queue.count)) }
    }

    func begin() throws { try send { $0.begin(into: &$1) } }

    func write(_ connection: UInt32, _ bytes: [UInt8]) throws {
        waiting[connection, default: []] += bytes
        try drain(connection)
    }

    func finish(_ connection: UInt32) throws { try send { $0.finish(connection, into: &$1) } }
    func isOpen(_ connection: UInt32) -> Bool { link.isOpen(connection) }
    func isSent(_ connection: UInt32) -> Bool { waiting[connection]?.isEmpty ?? true }

    private func drain(_ connection: UInt32) throws {
        while let rest = waiting[connection], !rest.isEmpty, let room = link.room(connection), room > 0 {
            let piece = Array(rest.prefix(room))
            waiting[connection]?.removeFirst(piece.count)
            try send { link, queue in
                queue.append(link.data(connection, count: piece.count))
                queue.append(piece)
            }
        }
    }

    /// Takes what has come.
    private func take() throws {
        let all = client.processes[number]?.stdout ?? []
        incoming.append(Array(all[taken...]))
        taken = all.count
        while let header = try incoming.doorFrame() {
            let event = try link.take(header, in: incoming)
            let data = incoming.bytes(at: Door.headerSize, count: header.length)
            incoming.consumeDoorFrame(header)
            switch event {
            case .opened(let connection):
                opened.append(connection)
                try send { $0.grant(connection, 0, into: &$1) }
            case .data(let connection):
                bytes[connection, default: []] += data
                if grants { try send { $0.grant(connection, data.count, into: &$1) } }
            case .finished(let connection): finished.insert(connection)
            case .reset(let connection): reset.insert(connection)
            case .credit(let connection): try drain(connection)
            case .none, .begin: break
            }
        }
    }

    /// Waits until the harness has done all that it was sent.
    func settle() throws {
        try wait("all is sent") { $0.client.processes[$0.number]?.pendingInput.isEmpty ?? true }
        let answers = client.healthy.count
        try client.send(.health, [1])
        try wait("it answers") { $0.client.healthy.count > answers }
    }

    func wait(_ what: String, until condition: (DoorDaemon) -> Bool) throws {
        var failure: (any Error)?
        try client.wait(what) { _ in
            do { try take() } catch { failure = error }
            return failure != nil || condition(self)
        }
        if let failure { throw failure }
    }
}

/// A program's end of a connection; it blocks, for at most half a minute.
final class Program {
    let descriptor: Int32

    init(port: UInt16) throws {
        descriptor = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        try connect(&address)
    }

    init(path: String) throws {
        descriptor = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var address = unixAddress(path)
        try connect(&address)
    }

    deinit { close(descriptor) }

    private func connect<Address>(_ address: inout Address) throws {
        var limit = timeval(tv_sec: 30, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            unsafe setsockopt(descriptor, SOL_SOCKET, option, &limit, socklen_t(MemoryLayout<timeval>.size))
        }
        let result = unsafe withUnsafePointer(to: &address) {
            unsafe $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<Address>.size))
            }
        }
        guard result == 0 else { throw TestFailure("connect: errno \(errno)") }
    }

    func write(_ bytes: [UInt8]) throws {
        var done = 0
        while done < bytes.count {
            let count = unsafe Glibc.send(descriptor, Array(bytes[done...]), bytes.count - done, Int32(MSG_NOSIGNAL))
            guard count > 0 else { throw TestFailure("write: errno \(errno)") }
            done += count
        }
    }

    func finish() { shutdown(descriptor, Int32(SHUT_WR)) }

    /// Bytes until there are so many, or the end; nil for a connection that broke.
    func read(_ most: Int = .max) -> [UInt8]? {
        var all: [UInt8] = []
        var room = [UInt8](repeating: 0, count: 65_536)
        while all.count < most {
            let count = unsafe Glibc.read(descriptor, &room, min(room.count, most - all.count))
            if count < 0 { return nil }
            if count == 0 { break }
            all += room[..<count]
        }
        return all
    }
}

/// The door in the real harness.
@Suite struct DoorTests {
    /// A port that nobody has.
    static func port() throws -> UInt16 {
        let descriptor = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        unsafe withUnsafeMutablePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe _ = bind(descriptor, $0, size)
                unsafe _ = getsockname(descriptor, $0, &size)
            }
        }
        return UInt16(bigEndian: address.sin_port)
    }

    private func opened(_ body: (HostHarness, DoorDaemon, UInt16, String) throws -> Void) throws {
        for attempt in 1... {
            let (harness, scratch, port) = (try HostHarness(), try Scratch(), try Self.port())
            let (daemon, path) = (DoorDaemon(harness.client), scratch.path + "/run/api.sock")
            try daemon.open(path, port: port)
            let refusal = String(decoding: harness.client.processes[700]?.failed?.text ?? [], as: UTF8.self)
            // Whoever connects to somewhere meanwhile may have got the port.
            if attempt < 20, refusal.contains("in use") { continue }
            #expect(harness.client.processes[700]?.started != nil, "\(harness.client.summary)")
            return try body(harness, daemon, port, path)
        }
    }

    @Test func bothWaysInLeadToTheDaemon() throws {
        try opened { _, daemon, port, path in
            for (connection, program) in try [(1, Program(port: port)), (2, Program(path: path))] as [(UInt32, Program)]
            {
                try program.write(Array("question".utf8))
                try daemon.wait("a question") { $0.bytes[connection] == Array("question".utf8) }
                try daemon.write(connection, Array("answer".utf8))
                #expect(program.read(6) == Array("answer".utf8))
            }
            var info = stat()
            #expect(unsafe stat(path, &info) == 0 && info.st_mode & 0o777 == 0o666)
        }
    }

    /// Each answer told as arrived would wake keeper and daemon once more for nothing; what fills the window is told.
    @Test func smallAnswersAreNotAcknowledgedOneByOne() throws {
        try opened { harness, daemon, port, _ in
            let program = try Program(port: port)
            try daemon.wait("it is there") { $0.opened == [1] }
            for _ in 0..<100 {
                try daemon.write(1, [UInt8](repeating: 7, count: 100))
                #expect(program.read(100)?.count == 100)
            }
            try daemon.settle()
            #expect(harness.client.processes[700]?.stdinAcknowledged == 0)
            let reader = ThreadResult { program.read(65_536) ?? [] }
            try daemon.write(1, [UInt8](repeating: 7, count: 65_536))
            try daemon.wait("it is sent") { $0.isSent(1) }
            #expect(try reader.value().count == 65_536)
            try daemon.settle()
            #expect(try #require(harness.client.processes[700]).stdinAcknowledged >= 65_536)
        }
    }

    @Test func muchInBothDirectionsWithEachEndFinishedForItself() throws {
        try opened { _, daemon, port, path in
            let (up, down) = (
                (0..<700_000).map { UInt8(truncatingIfNeeded: $0 / 7) },
                (0..<500_000).map { UInt8(truncatingIfNeeded: $0 / 11) }
            )
            for (connection, program) in try [(1, Program(port: port)), (2, Program(path: path))] as [(UInt32, Program)]
            {
                let writer = ThreadResult {
                    try program.write(up); program.finish(); return []
                }
                try daemon.wait("all of it") { $0.finished.contains(connection) }
                _ = try writer.value()
                #expect(daemon.bytes[connection] == up)
                // Its half is over, ours goes on.
                let reader = ThreadResult { program.read() ?? [] }
                try daemon.write(connection, down)
                try daemon.wait("it is sent") { $0.isSent(connection) }
                try daemon.finish(connection)
                #expect(try reader.value() == down)
                #expect(!daemon.isOpen(connection))
            }
        }
    }

    @Test func theDaemonMayFinishFirstAndStillRead() throws {
        try opened { _, daemon, port, _ in
            let program = try Program(port: port)
            try daemon.wait("it is there") { $0.opened == [1] }
            try daemon.write(1, [1, 2, 3])
            try daemon.finish(1)
            #expect(program.read() == [1, 2, 3])
            try program.write([4, 5])
            program.finish()
            try daemon.wait("the rest") { $0.finished == [1] }
            #expect(daemon.bytes[1] == [4, 5] && !daemon.isOpen(1))
        }
    }

    /// An answer that is longer than what the program reads at once, by a daemon that is gone right after it.
    @Test func whatWasSentBeforeAResetArrives() throws {
        try opened { _, daemon, _, path in
            let program = try Program(path: path)
            try daemon.wait("it is there") { $0.opened == [1] }
            let answer = [UInt8](repeating: 7, count: Door.downWindow)
            try daemon.write(1, answer)
            try daemon.send { link, queue in
                link.finish(1, into: &queue)
                link.reset(1, into: &queue)
            }
            try daemon.settle()
            #expect(program.read() == answer)
        }
    }

    @Test func manyConnectionsAreBoundedAndTheOthersGoOn() throws {
        try opened { harness, daemon, port, path in
            daemon.grants = false
            let programs = try (0..<400).map { try $0 % 2 == 0 ? Program(port: port) : Program(path: path) }
            try daemon.wait("as many as there may be") { $0.opened.count == Door.connectionLimit }
            // Each sends more than it may, and reads nothing of what it gets; but for one.
            let held = daemon.opened
            for connection in held { try daemon.write(connection, [UInt8](repeating: 1, count: Door.downWindow)) }
            let isRefused = { (program: Program) in
                var entry = pollfd(fd: program.descriptor, events: Int16(POLLIN), revents: 0)
                return unsafe poll(&entry, 1, 0) > 0
                    && Glibc.recv(program.descriptor, &Self.byte, 1, Int32(MSG_PEEK)) <= 0
            }
            try daemon.settle()
            #expect(programs.filter(isRefused).count == programs.count - held.count)
            #expect(try Self.resident(harness.pid) < 8 << 20)
            // Whoever goes makes room.
            for connection in held { try daemon.send { $0.reset(connection, into: &$1) } }
            try daemon.settle()
            let last = try Program(port: port)
            try last.write([9])
            try daemon.wait("the last one") { $0.bytes[$0.opened.last ?? 0] == [9] }
        }
    }

    nonisolated(unsafe) private static var byte: UInt8 = 0

    /// Bytes of memory that a process has.
    private static func resident(_ pid: pid_t) throws -> Int {
        let fields = String(decoding: try contents("/proc/\(pid)/statm"), as: UTF8.self).split(separator: " ")
        return (Int(fields[1]) ?? 0) * 4096
    }

    @Test func anotherDaemonGoesOnWithTheSameDoor() throws {
        try opened { harness, daemon, port, _ in
            let program = try Program(port: port)
            try daemon.wait("it is there") { $0.opened == [1] }
            try daemon.settle()
            let next = DoorDaemon(harness.client, resumes: true)
            try next.begin()
            #expect(program.read()?.isEmpty != false)
            let other = try Program(port: port)
            try other.write([1])
            try next.wait("the other one") { $0.bytes[2] == [1] }
            #expect(next.opened == [2])
        }
    }

    @Test func aSignalShutsItAndItMayBeOpenedAgain() throws {
        try opened { harness, daemon, port, path in
            let program = try Program(port: port)
            try daemon.wait("it is there") { $0.opened == [1] }
            try harness.client.start(701, ["\(port)", ""], kind: .door)
            #expect(try harness.client.finish(701).failed?.reason == .limit)
            try harness.client.signal(700, 9)
            #expect(try harness.client.finish(700).exited?.code == 137)
            #expect(program.read()?.isEmpty != false)
            #expect(throws: TestFailure.self) { try Program(port: port) }
            // Nothing of it is left. What others put there is not replaced: the port serves without it.
            #expect(unsafe access(path, F_OK) != 0)
            run(["/bin/mkdir", "-p", path])
            try harness.client.start(702, ["\(port)", path], kind: .door)
            try harness.client.wait("it is there again") { $0.processes[702]?.err.contains("in use") == true }
            _ = try Program(port: port)
        }
    }

    @Test func whatCannotBeOpenedIsSaid() throws {
        try opened { _, _, port, _ in
            let harness = try HostHarness()
            for (number, text, reason) in [
                (1, "\(port)", "in use"), (2, "0", "not a port"), (3, "70000", "not a port"),
            ]
                as [(UInt16, String, String)]
            {
                try harness.client.start(number, [text, ""], kind: .door)
                let failure = try #require(try harness.client.finish(number).failed).text
                #expect(String(decoding: failure, as: UTF8.self).contains(reason), "\(text)")
            }
        }
    }

    @Test func aBrokenFrameEndsTheDoorAlone() throws {
        try opened { harness, daemon, _, _ in
            try harness.client.input(700, [99, 0, 0, 0, 0, 0, 0, 0])
            #expect(try harness.client.finish(700).exited?.code == 1)
            #expect(harness.client.processes[700]?.err == "an unknown frame")
            try harness.client.start(1, ["echo", "alive"])
            #expect(try harness.client.finish(1).out == "alive\n")
        }
    }
}

/// What another thread finds out.
final class ThreadResult: @unchecked Sendable {
    private var thread = pthread_t()
    private let body: () throws -> [UInt8]
    private var result: Result<[UInt8], any Error>?

    init(_ body: @escaping () throws -> [UInt8]) {
        self.body = body
        let own = unsafe Unmanaged.passRetained(self).toOpaque()
        unsafe pthread_create(
            &thread, nil,
            { @Sendable argument in
                guard let argument = unsafe argument else { return nil }
                let own = unsafe Unmanaged<ThreadResult>.fromOpaque(argument).takeRetainedValue()
                own.result = Result { try own.body() }
                return nil
            }, own)
    }

    func value() throws -> [UInt8] {
        pthread_join(thread, nil)
        return try result?.get() ?? []
    }
}
