import AegisChannel
import Testing

@Suite struct CodecTests {
    static let plan = BootPlan(
        uids: [IDRange(inside: 0, outside: 100_000, count: 65_536)],
        gids: [IDRange(inside: 0, outside: 100_000, count: 65_536)],
        maps: [
            IDMap(uids: [], gids: []),
            IDMap(
                uids: [
                    IDRange(inside: 1000, outside: 0, count: 1), IDRange(inside: 5, outside: 7, count: 9),
                ], gids: [IDRange(inside: 100, outside: 0, count: 1)]),
        ],
        mounts: [
            .idmapped(source: 5, map: 1, target: Array("/a".utf8), readOnly: true),
            .bind(source: 6, target: Array("/b".utf8), readOnly: false),
            .overlay(
                lower: [Array("/l1".utf8), Array("/l2".utf8)], upper: Array("/u".utf8), work: Array("/w".utf8),
                target: Array("/t".utf8), isVolatile: true),
            .makeDirectory(Array("/d".utf8)), .makeFile(Array("/f".utf8)),
            .placeFile(root: Array("/r".utf8), path: Array("/etc/f".utf8), content: [10, 0, 255], replace: true),
            .expect(root: Array("/r".utf8), path: Array("/m".utf8), isDirectory: false),
        ],
        entry: .inside, runtime: [Array("/usr/bin/runsc".utf8), Array("run".utf8)], environment: [Array("A=b".utf8)],
        configPath: Array("/c".utf8), config: Array("{}".utf8), pidFile: Array("/p".utf8),
        cgroupProcs: [Array("/g".utf8)], deadline: 9000)

    @Test func planRoundTripsAndEveryTruncationIsRefused() throws {
        let bytes = Self.plan.encoded()
        #expect(try BootPlan(decoding: bytes) == Self.plan)
        for length in 0..<bytes.count {
            #expect(throws: ChannelError.self) { try BootPlan(decoding: Array(bytes[..<length])) }
        }
        // A newer daemon may append fields.
        #expect(try BootPlan(decoding: bytes + [1, 2, 3]) == Self.plan)
    }

    @Test func startRoundTripsAndEveryTruncationIsRefused() throws {
        let start = StartProcess(
            kind: .exec, arguments: [[0xff, 0x00, 0x41], []], environment: [Array("K=V".utf8)],
            directory: Array("/".utf8),
            user: Array("1000:1000".utf8), terminal: true, stdin: true, createDirectory: true, columns: 120, rows: 50)
        let bytes = start.encoded()
        #expect(try StartProcess(decoding: bytes) == start)
        for length in 0..<bytes.count {
            #expect(throws: ChannelError.self) { try StartProcess(decoding: Array(bytes[..<length])) }
        }
        // What came later stands at the end, and is left out where it says nothing.
        var limited = start
        limited.limit = 90_000
        #expect(limited.encoded() == bytes + [0, 1, 0x5f, 0x90])
        #expect(try StartProcess(decoding: limited.encoded()) == limited)
        for length in 1..<4 {
            #expect(throws: ChannelError.self) { try StartProcess(decoding: bytes + [0, 1, 0x5f].prefix(length)) }
        }
    }

    @Test func smallMessagesRoundTrip() throws {
        let failed = ProcessFailed(reason: .notExecutable, errno: 13, text: Array("x".utf8))
        #expect(try ProcessFailed(decoding: failed.encoded()) == failed)
        let exited = ProcessExited(code: 137, signal: 9, stdoutBytes: 1 << 40, stderrBytes: 3)
        #expect(try ProcessExited(decoding: exited.encoded()) == exited)
        let hello = Hello(build: Array("1".utf8))
        #expect(try Hello(decoding: hello.encoded()) == hello)
        let state = KeeperState(
            phase: .running, sandboxPid: 77,
            processes: [ProcessState(number: 1, stdinTaken: 1, stdoutAcknowledged: 2, stderrAcknowledged: 3)])
        #expect(try KeeperState(decoding: state.encoded()) == state)
        let booted = Booted(sandboxPid: 5, namespacePid: 6, steps: [1, 2, 3])
        #expect(try Booted(decoding: booted.encoded()) == booted)
        for shutdown in [Shutdown(grace: 5000), Shutdown(grace: 0, stays: true)] {
            #expect(try Shutdown(decoding: shutdown.encoded()) == shutdown)
        }
        // As it was before the harness could stay.
        #expect(try Shutdown(decoding: [0, 0, 1, 0]) == Shutdown(grace: 256))
        let ended = SandboxEnded(code: 143, signal: 15, requested: true)
        #expect(try SandboxEnded(decoding: ended.encoded()) == ended)
    }

    @Test func headerRoundTripsAndRefusesUnknownAndOversized() throws {
        var bytes: [UInt8] = []
        FrameHeader(.stdout, flags: 1, stream: 513, length: 65_544).encode(into: &bytes)
        #expect(bytes == [1, 1, 2, 1, 0, 1, 0, 8])
        #expect(
            try FrameHeader((1, 1, 2, 1, 0, 1, 0, 8)) == FrameHeader(.stdout, flags: 1, stream: 513, length: 65_544))
        #expect(throws: ChannelError.tooLong(type: 1, length: 65_545)) { try FrameHeader((1, 1, 2, 1, 0, 1, 0, 9)) }
        #expect(throws: ChannelError.unknownType(99)) { try FrameHeader((99, 0, 0, 0, 0, 0, 0, 0)) }
        #expect(throws: ChannelError.malformed(type: 2)) { try FrameHeader((2, 0, 0, 0, 0, 0, 0, 7)) }
    }

    @Test func anOlderProtocolIsRefusedByName() {
        #expect(throws: ChannelError.version(0)) { try Hello(decoding: Hello(version: 0, build: []).encoded()) }
    }
}
