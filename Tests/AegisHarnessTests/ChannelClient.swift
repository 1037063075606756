import AegisChannel
import Glibc

/// What went wrong in a test's own dealings with a harness or keeper.
struct TestFailure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// A frame as it came.
struct Frame {
    let header: FrameHeader
    let payload: [UInt8]
    var type: FrameType { header.type }
    var text: String { String(decoding: payload, as: UTF8.self) }
}

/// What is known about one process.
struct Collected {
    var started: ProcessStarted?
    var failed: ProcessFailed?
    var exited: ProcessExited?
    var stdout: [UInt8] = []
    var stderr: [UInt8] = []
    var stdoutEnded = false
    var stderrEnded = false
    /// Offsets from which the two are kept here (not 0 after a re-attach).
    var stdoutOffset: UInt64 = 0
    var stderrOffset: UInt64 = 0
    var stdinAcknowledged: UInt64 = 0
    var pendingInput: [UInt8] = []
    var inputSent: UInt64 = 0
    var inputEnds = false
    var inputEnded = false
    /// Whether output is acknowledged as it comes.
    var acknowledges = true
    var isOver: Bool { failed != nil || exited != nil }
    var out: String { String(decoding: stdout, as: UTF8.self) }
    var err: String { String(decoding: stderr, as: UTF8.self) }
}

/// The daemon's side of a channel, with blocking calls that have deadlines.
final class ChannelClient {
    private(set) var descriptor: Int32
    private var incoming = ByteQueue()
    var processes: [UInt16: Collected] = [:]
    var hello: Hello?
    var booted: Booted?
    var bootFailed: BootFailed?
    var ended: SandboxEnded?
    var state: KeeperState?
    var healthy: [[UInt8]] = []
    /// Whether the peer closed the connection.
    var isClosed = false
    /// Keeps no output, only counts it (for throughput).
    var discards = false
    var received: UInt64 = 0

    init(_ descriptor: Int32) { self.descriptor = descriptor }
    deinit { close() }

    func close() {
        if descriptor >= 0 { Glibc.close(descriptor) }
        descriptor = -1
    }

    // MARK: Sending

    func send(_ type: FrameType, flags: UInt8 = 0, stream: UInt16 = 0, _ payload: [UInt8] = []) throws {
        var queue = ByteQueue()
        queue.appendFrame(type, flags: flags, stream: stream, payload)
        try sendRaw(queue.bytes(at: 0, count: queue.count))
    }

    func sendRaw(_ bytes: [UInt8]) throws {
        var done = 0
        while done < bytes.count {
            let count = unsafe Glibc.send(descriptor, Array(bytes[done...]), bytes.count - done, Int32(MSG_NOSIGNAL))
            guard count > 0 else { throw TestFailure("send: errno \(errno)") }
            done += count
        }
    }

    func start(
        _ number: UInt16, _ arguments: [String], kind: ProcessKind = .exec,
        environment: [String] = ["PATH=/usr/bin:/bin"],
        directory: String = "/", user: String = "", terminal: Bool = false, stdin: Bool = false,
        createDirectory: Bool = false, columns: UInt16 = 80, rows: UInt16 = 24, limit: UInt32 = 0
    ) throws {
        let message = StartProcess(
            kind: kind, arguments: arguments.map { Array($0.utf8) }, environment: environment.map { Array($0.utf8) },
            directory: Array(directory.utf8), user: Array(user.utf8), terminal: terminal, stdin: stdin,
            createDirectory: createDirectory, columns: columns, rows: rows, limit: limit)
        processes[number] = Collected()
        try send(.start, stream: number, message.encoded())
    }

    /// Queues input; it is sent as the window allows.
    func input(_ number: UInt16, _ bytes: [UInt8], end: Bool = false) throws {
        processes[number, default: Collected()].pendingInput += bytes
        if end { processes[number]?.inputEnds = true }
        try sendInput(number)
    }

    private func sendInput(_ number: UInt16) throws {
        guard var process = processes[number], !process.inputEnded else { return }
        while true {
            let room = Int(Channel.window - (process.inputSent - process.stdinAcknowledged))
            let count = min(room, min(Channel.dataLimit, process.pendingInput.count))
            let last = process.inputEnds && count == process.pendingInput.count
            guard count > 0 || last else { break }
            var queue = ByteQueue()
            queue.appendDataHeader(
                .stdin, flags: last ? Channel.endFlag : 0, stream: number, offset: process.inputSent, count: count)
            queue.append(Array(process.pendingInput[..<count]))
            try sendRaw(queue.bytes(at: 0, count: queue.count))
            process.pendingInput.removeFirst(count)
            process.inputSent += UInt64(count)
            process.inputEnded = last
            if last { break }
        }
        processes[number] = process
    }

    func acknowledge(_ number: UInt16, _ stream: UInt8, _ offset: UInt64) throws {
        try send(.ack, flags: stream, stream: number, Acknowledgement(offset: offset).encoded())
    }

    func signal(_ number: UInt16, _ signal: Int32, group: Bool = false) throws {
        try send(
            .signal, flags: group ? ProcessSignal.groupFlag : 0, stream: number,
            ProcessSignal(number: UInt8(signal)).encoded())
    }

    // MARK: Receiving

    /// The next frame, `nil` at the end of the connection.
    func next(seconds: Double = 30) throws -> Frame? {
        let limit = now() + seconds
        while true {
            if let header = try incoming.frame() {
                let payload = incoming.payload(of: header)
                incoming.consumeFrame(header)
                return Frame(header: header, payload: payload)
            }
            var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            let rest = limit - now()
            guard rest > 0 else { throw TestFailure("nothing came within \(seconds) s; \(summary)") }
            guard unsafe poll(&entry, 1, Int32(rest * 1000) + 1) > 0 else { continue }
            let count = unsafe incoming.fill(1 << 17) { unsafe read(descriptor, $0.baseAddress, $0.count) }
            if count <= 0 {
                isClosed = true
                return nil
            }
        }
    }

    /// Takes frames until `condition` holds.
    func wait(_ what: String = "", seconds: Double = 30, until condition: (ChannelClient) -> Bool) throws {
        let limit = now() + seconds
        while !condition(self) {
            guard now() < limit else { throw TestFailure("not within \(seconds) s: \(what); \(summary)") }
            guard let frame = try next(seconds: limit - now()) else {
                if condition(self) { return }
                throw TestFailure("the connection ended while waiting: \(what); \(summary)")
            }
            try take(frame)
        }
    }

    /// Waits until a process is over.
    @discardableResult
    func finish(_ number: UInt16, seconds: Double = 30) throws -> Collected {
        try wait("process \(number)", seconds: seconds) { $0.processes[number]?.isOver ?? false }
        return processes[number] ?? Collected()
    }

    private func take(_ frame: Frame) throws {
        let number = frame.header.stream
        switch frame.type {
        case .stdout, .stderr: try takeData(frame)
        case .started: processes[number]?.started = try ProcessStarted(decoding: frame.payload)
        case .failed: processes[number]?.failed = try ProcessFailed(decoding: frame.payload)
        case .exited: processes[number]?.exited = try ProcessExited(decoding: frame.payload)
        case .ack:
            processes[number]?.stdinAcknowledged = try Acknowledgement(decoding: frame.payload).offset
            try sendInput(number)
        case .hello: hello = try Hello(decoding: frame.payload)
        case .booted: booted = try Booted(decoding: frame.payload)
        case .bootFailed: bootFailed = try BootFailed(decoding: frame.payload)
        case .ended: ended = try SandboxEnded(decoding: frame.payload)
        case .state: state = try KeeperState(decoding: frame.payload)
        case .healthy: healthy.append(frame.payload)
        default: throw TestFailure("unexpected frame \(frame.type)")
        }
    }

    private func takeData(_ frame: Frame) throws {
        let number = frame.header.stream
        var queue = ByteQueue()
        queue.appendHeader(frame.header)
        queue.append(Array(frame.payload.prefix(8)))
        let offset = queue.dataOffset()
        let isOut = frame.type == .stdout
        guard var process = processes[number] else { throw TestFailure("output of unknown process \(number)") }
        guard process.exited == nil else { throw TestFailure("output after the exit of \(number)") }
        let base = isOut ? process.stdoutOffset : process.stderrOffset
        let have = UInt64(isOut ? process.stdout.count : process.stderr.count)
        guard discards || offset == base + have else {
            throw TestFailure("offset \(offset) where \(base + have) was expected")
        }
        let data = frame.payload.dropFirst(8)
        received += UInt64(data.count)
        if !discards {
            if isOut { process.stdout += data } else { process.stderr += data }
        }
        if frame.header.flags & Channel.endFlag != 0 {
            if isOut { process.stdoutEnded = true } else { process.stderrEnded = true }
        }
        processes[number] = process
        if process.acknowledges && !data.isEmpty {
            try acknowledge(number, isOut ? 1 : 2, offset + UInt64(data.count))
        }
    }

    var summary: String {
        let list = processes.sorted { $0.key < $1.key }.map {
            "\($0.key): \($0.value.stdout.count)+\($0.value.stderr.count) bytes"
                + ($0.value.failed.map { ", failed \(String(decoding: $0.text, as: UTF8.self))" } ?? "")
                + ($0.value.exited.map { ", exited \($0.code)" } ?? "")
        }
        let failure = bootFailed.map { " boot failed: \(String(decoding: $0.text, as: UTF8.self))" } ?? ""
        return list.prefix(8).joined(separator: "; ") + failure
    }
}

/// Monotonic seconds.
func now() -> Double {
    var time = timespec()
    unsafe clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}
