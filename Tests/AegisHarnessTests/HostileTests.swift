import AegisChannel
import Glibc
import Testing

/// Harnesses and clients that mean harm. The sandbox's first process is a shell that writes what it likes.
@Suite struct HostileTests {
    private static func octal(_ bytes: [UInt8]) -> String {
        bytes.map { byte in
            let digits = String(byte, radix: 8)
            return "\\0" + String(repeating: "0", count: 3 - digits.count) + digits
        }.joined()
    }
    private static func frame(_ type: FrameType, flags: UInt8 = 0, stream: UInt16 = 0, _ payload: [UInt8] = [])
        -> String
    {
        var queue = ByteQueue()
        queue.appendFrame(type, flags: flags, stream: stream, payload)
        return octal(queue.bytes(at: 0, count: queue.count))
    }
    private static var hello: String { frame(.hello, Hello(build: Array("evil".utf8)).encoded()) }
    private static func offset(_ value: UInt64) -> [UInt8] { Acknowledgement(offset: value).encoded() }

    /// What is sent after hello and the daemon's `start 1`, and a part of the reason that the daemon must hear.
    static let attacks: [(name: String, script: String, reason: String)] = [
        ("unknown type", say(octal([200, 0, 0, 0, 0, 0, 0, 0])), "malformed frame"),
        ("oversized", say(octal([1, 0, 0, 1, 0xff, 0xff, 0xff, 0xff])), "malformed frame"),
        ("short data", say(octal([1, 0, 0, 1, 0, 0, 0, 3, 1, 2, 3])), "malformed frame"),
        ("noise", "head -c 300000 /dev/urandom", "malformed frame"),
        ("hello twice", say(hello), "hello twice"),
        ("unknown process", say(frame(.stdout, stream: 9, offset(0))), "process that does not run"),
        ("output before start", say(frame(.stdout, stream: 1, offset(0))), "process that does not run"),
        ("wrong offset", say(started + frame(.stdout, stream: 1, offset(5) + [1])), "wrong offset"),
        ("daemon's frame", say(frame(.kill)), "only a daemon may send"),
        (
            "ended by itself", say(frame(.ended, SandboxEnded(code: 0, signal: 0, requested: true).encoded())),
            "only a daemon"
        ),
        ("started twice", say(started + started), "malformed start report"),
        ("exit of nobody", say(frame(.exited, stream: 7, exit(0))), "nobody started"),
        ("exit with false counts", say(started + frame(.exited, stream: 1, exit(5))), "malformed exit report"),
        (
            "exit twice", say(started + frame(.exited, stream: 1, exit(0)) + frame(.exited, stream: 1, exit(0))),
            "nobody started"
        ),
        ("unasked health", say(frame(.healthy, [1])), "nobody asked"),
        ("acknowledges what was not given", say(frame(.ack, stream: 1, offset(1 << 40))), "was not given"),
        ("truncated report", say(frame(.started, stream: 1, [1])), "malformed start report"),
        (
            "more than its window",
            "\(say(started)); i=0; while [ $i -lt 5 ]; do printf '\\001\\000\\000\\001\\000\\001\\000\\010\\000\\000\\000\\000\\000'; "
                + "printf \"\\\\$(printf %03o $i)\"'\\000\\000'; head -c 65536 /dev/zero; i=$((i+1)); done",
            "window"
        ),
    ]
    private static func say(_ octal: String) -> String { "printf '%b' '\(octal)'" }
    private static var started: String { frame(.started, stream: 1, ProcessStarted(pid: 2).encoded()) }
    private static func exit(_ bytes: UInt64) -> [UInt8] {
        ProcessExited(code: 0, signal: 0, stdoutBytes: bytes, stderrBytes: 0).encoded()
    }

    @Test(arguments: attacks.indices) func aHarnessThatBreaksTheProtocolIsKilled(index: Int) throws {
        let attack = Self.attacks[index]
        let keeper = try KeeperFixture(.runc)
        // It waits for the header of the start frame, so that the keeper knows process 1.
        let script = Self.say(Self.hello) + "; head -c 8 >/dev/null; " + attack.script + "; sleep 300"
        try keeper.boot(keeper.usingHarness(["/bin/sh", "-c", script]))
        keeper.client.processes[1]?.acknowledges = false
        try keeper.client.start(1, ["x"])
        keeper.client.processes[1]?.acknowledges = false
        try keeper.client.wait("the end of \(attack.name); \(keeper.log)") { $0.ended != nil }
        let ended = try #require(keeper.client.ended)
        #expect(ended.signal == 9 && !ended.requested)
        #expect(String(decoding: ended.reason, as: UTF8.self).contains(attack.reason), "\(attack.name)")
        try keeper.client.send(.release)
        #expect(try keeper.waitForKeeper() == 0)
    }

    @Test func garbageBeforeHelloFailsTheBoot() throws {
        for script in ["head -c 4000 /dev/zero; sleep 300", "head -c 4000 /dev/urandom; sleep 300"] {
            let keeper = try KeeperFixture(.runc)
            try keeper.sendPlan(keeper.usingHarness(["/bin/sh", "-c", script]))
            try keeper.client.wait("failure") { $0.bootFailed != nil }
            keeper.client.close()
            #expect(try keeper.waitForKeeper() == 0)
        }
    }

    @Test func aHarnessThatStopsReadingStopsUpNobody() throws {
        let keeper = try KeeperFixture(.runc)
        try keeper.boot(keeper.usingHarness(["/bin/sh", "-c", Self.say(Self.hello) + "; exec sleep 300"]))
        // Starts pile up: in the socket, then in the keeper up to its limit, then here. Others can still kill.
        let blob = [String](repeating: String(repeating: "x", count: 30_000), count: 8)
        let filler = StartProcess(
            kind: .exec, arguments: blob.map { Array($0.utf8) }, environment: [], directory: Array("/".utf8)
        ).encoded()
        let flags = fcntl(keeper.client.descriptor, F_GETFL)
        #expect(fcntl(keeper.client.descriptor, F_SETFL, flags | O_NONBLOCK) == 0)
        var accepted = 0
        for number in 1...200 as ClosedRange<UInt16> {
            do { try keeper.client.send(.start, stream: number, filler) } catch { break }
            accepted += 1
        }
        #expect(accepted < 30)
        let killer = try keeper.connect()
        try killer.send(.kill)
        try keeper.client.wait("ended") { $0.ended != nil }
        let last = try keeper.attach()
        try last.wait("ended") { $0.ended != nil }
        try last.send(.release)
        #expect(try keeper.waitForKeeper() == 0)
    }

    @Test func aSandboxThatFloodsItsErrorOutputIsCutOff() throws {
        let keeper = try KeeperFixture(.runc)
        let script = Self.say(Self.hello) + "; trap '' PIPE; head -c 3000000 /dev/zero >&2; exec sleep 300"
        try keeper.boot(keeper.usingHarness(["/bin/sh", "-c", script]))
        try keeper.end()
        var info = stat()
        unsafe lstat(keeper.scratch.path + "/keep.log", &info)
        #expect(info.st_size < 300_000)
    }

    @Test func aDaemonThatBreaksTheProtocolLosesItsConnectionOnly() throws {
        let keeper = try KeeperFixture(.runc)
        try keeper.boot()
        try keeper.client.start(1, ["cat"], stdin: true)
        try keeper.client.wait("started") { $0.processes[1]?.started != nil }
        var client = keeper.client
        let breaches: [[UInt8]] = [
            [99, 0, 0, 0, 0, 0, 0, 0],  // no such type
            [16, 0, 0, 0, 0, 0, 0, 0],  // hello
            [17, 0, 0, 1, 0, 0, 0, 0],  // number in use
            [3, 1, 0, 1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 1, 0, 0],  // acknowledges what was never sent
            [0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 9, 9, 1],  // leaves out input
            [66, 0, 0, 0, 0, 0, 0, 0],  // a second plan
        ]
        for breach in breaches {
            try client.sendRaw(breach)
            while try client.next() != nil {}
            client = try keeper.attach()
            #expect(client.state?.phase == .running)
            #expect(client.state?.processes.count == 1)
        }
        client.processes[1] = Collected()
        try client.input(1, Array("still here\n".utf8), end: true)
        #expect(try client.finish(1).out == "still here\n")
        try keeper.end(client)
    }

    @Test func othersMayNotAttach() throws {
        let keeper = try KeeperFixture(.runc)
        try keeper.boot()
        unsafe chmod(keeper.scratch.path, 0o755)
        unsafe chmod(keeper.scratch.path + "/keep.sock", 0o777)
        run([
            "/usr/bin/setpriv", "--reuid", "1000", "--clear-groups", "logger", "-u", keeper.scratch.path + "/keep.sock",
            "hi",
        ])
        let limit = now() + 10
        while !keeper.log.contains("refused a connection of user 1000") && now() < limit { sched_yield() }
        #expect(keeper.log.contains("refused a connection of user 1000"))
        // Connections that never say what they want do not keep a daemon out.
        let idle = try (0..<12).map { _ in try keeper.connect() }
        let client = try keeper.attach()
        #expect(client.state?.phase == .running)
        _ = idle
        try keeper.end(client)
    }
}
