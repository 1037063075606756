import AegisChannel
import AegisTestSupport
import Testing

@Suite struct KeeperRelayTests {
    /// A relay between a daemon and a harness that are played by the test.
    private struct Stage {
        var relay = KeeperRelay()
        var toHarness = ByteQueue()

        mutating func daemon(_ type: FrameType, flags: UInt8 = 0, stream: UInt16 = 0, _ payload: [UInt8] = []) throws {
            var queue = ByteQueue()
            queue.appendFrame(type, flags: flags, stream: stream, payload)
            let header = try #require(try queue.frame())
            try relay.takeFromDaemon(header, in: queue, to: &toHarness)
        }
        mutating func harness(_ type: FrameType, flags: UInt8 = 0, stream: UInt16 = 0, _ payload: [UInt8] = []) throws {
            var queue = ByteQueue()
            queue.appendFrame(type, flags: flags, stream: stream, payload)
            let header = try #require(try queue.frame())
            try relay.takeFromHarness(header, in: queue)
        }
        mutating func start(_ number: UInt16) throws {
            try daemon(.start, stream: number, [1])
            try harness(.started, stream: number, ProcessStarted(pid: 5).encoded())
        }
        mutating func output(_ number: UInt16, _ offset: UInt64, _ bytes: [UInt8], end: Bool = false) throws {
            try harness(.stdout, flags: end ? 1 : 0, stream: number, Acknowledgement(offset: offset).encoded() + bytes)
        }
        /// Everything that the daemon is sent now, as (type, stream, bytes without offset).
        mutating func received(limit: Int = 1 << 20) throws -> [(FrameType, UInt16, [UInt8])] {
            var queue = ByteQueue()
            _ = relay.fill(&queue, limit: limit)
            var frames: [(FrameType, UInt16, [UInt8])] = []
            while let header = try queue.frame() {
                let payload = queue.payload(of: header)
                frames.append((header.type, header.stream, header.type.isData ? Array(payload.dropFirst(8)) : payload))
                queue.consumeFrame(header)
            }
            #expect(queue.isEmpty)
            return frames
        }
    }

    @Test func whatIsNotAcknowledgedComesAgainInOrder() throws {
        var stage = Stage()
        try stage.start(1)
        try stage.output(1, 0, [1, 2, 3, 4])
        #expect(try stage.received().map(\.0) == [.started, .stdout])
        #expect(try stage.received().isEmpty)
        try stage.daemon(.ack, flags: 1, stream: 1, Acknowledgement(offset: 3).encoded())
        try stage.output(1, 4, [5], end: true)
        let exit = ProcessExited(code: 3, signal: 0, stdoutBytes: 5, stderrBytes: 0).encoded()
        try stage.harness(.exited, stream: 1, exit)
        stage.relay.rewind()
        #expect(
            stage.relay.state(phase: .running, sandboxPid: 9).processes == [
                ProcessState(number: 1, stdinTaken: 0, stdoutAcknowledged: 3, stderrAcknowledged: 0)
            ])
        let again = try stage.received()
        #expect(again.map(\.0) == [.started, .stdout, .exited])
        #expect(again[1].2 == [4, 5])
        try stage.daemon(.forget, stream: 1)
        #expect(stage.relay.processCount == 0 && stage.relay.retainedBytes == 0)
    }

    @Test func aLateAcknowledgementSkipsWhatWouldBeSentAgain() throws {
        var stage = Stage()
        try stage.start(1)
        try stage.output(1, 0, [1, 2, 3, 4])
        // The successor of a daemon that saved all four without saying so.
        try stage.daemon(.ack, flags: 1, stream: 1, Acknowledgement(offset: 4).encoded())
        #expect(try stage.received().map(\.0) == [.started])
    }

    @Test func theEndOfAProcessComesAfterItsLastByteWhateverTheLimit() throws {
        var stage = Stage()
        for number in 1...3 as ClosedRange<UInt16> {
            try stage.start(number)
            try stage.output(number, 0, [UInt8](repeating: 1, count: 60_000))
            try stage.output(number, 60_000, [UInt8](repeating: 2, count: 60_000), end: true)
            let exit = ProcessExited(code: 0, signal: 0, stdoutBytes: 120_000, stderrBytes: 0)
            try stage.harness(.exited, stream: number, exit.encoded())
        }
        var counts: [UInt16: Int] = [:]
        var over: Set<UInt16> = []
        while over.count < 3 {
            for (type, stream, bytes) in try stage.received(limit: 1) {
                #expect(!over.contains(stream))
                if type == .stdout { counts[stream, default: 0] += bytes.count }
                if type == .exited { over.insert(stream) }
            }
        }
        #expect(counts == [1: 120_000, 2: 120_000, 3: 120_000])
    }

    @Test func inputIsTakenOnceWhateverIsRepeated() throws {
        var stage = Stage()
        try stage.start(1)
        _ = stage.toHarness
        stage.toHarness.clear()
        func input(_ offset: UInt64, _ bytes: [UInt8], end: Bool = false) throws {
            try stage.daemon(.stdin, flags: end ? 1 : 0, stream: 1, Acknowledgement(offset: offset).encoded() + bytes)
        }
        try input(0, [1, 2, 3])
        try input(1, [2, 3, 4])
        try input(0, [1])
        try input(4, [], end: true)
        try input(4, [], end: true)
        var seen: [UInt8] = []
        var ends = 0
        while let header = try stage.toHarness.frame() {
            #expect(stage.toHarness.dataOffset() == UInt64(seen.count))
            seen += stage.toHarness.payload(of: header).dropFirst(8)
            if header.flags == 1 { ends += 1 }
            stage.toHarness.consumeFrame(header)
        }
        #expect(seen == [1, 2, 3, 4] && ends == 1)
        #expect(throws: ChannelViolation.self) { try input(9, [1]) }
        #expect(throws: ChannelViolation.self) { try input(4, [1]) }
    }

    @Test func inputIsBoundedByItsWindow() throws {
        var stage = Stage()
        try stage.start(1)
        let chunk = [UInt8](repeating: 0, count: Channel.dataLimit)
        for i in 0..<4 as Range<UInt64> {
            try stage.daemon(.stdin, stream: 1, Acknowledgement(offset: i * 65_536).encoded() + chunk)
        }
        #expect(throws: ChannelViolation.self) {
            try stage.daemon(.stdin, stream: 1, Acknowledgement(offset: Channel.window).encoded() + [1])
        }
        try stage.harness(.ack, stream: 1, Acknowledgement(offset: 65_536).encoded())
        try stage.daemon(.stdin, stream: 1, Acknowledgement(offset: Channel.window).encoded() + [1])
        #expect(try stage.received().contains { $0.0 == .ack })
    }

    @Test func onlySoManyProcessesAreRemembered() throws {
        var stage = Stage()
        for number in 1...UInt16(Channel.processLimit) { try stage.daemon(.start, stream: number, [1]) }
        try stage.daemon(.start, stream: 5000, [1])
        let answer = try #require(try stage.received().first)
        #expect(answer.0 == .failed && answer.1 == 5000)
        #expect(try ProcessFailed(decoding: answer.2).reason == .limit)
        #expect(stage.relay.processCount == Channel.processLimit)
        #expect(throws: ChannelViolation.self) { try stage.daemon(.start, stream: 1, [1]) }
        #expect(throws: ChannelViolation.self) { try stage.daemon(.start, stream: 0, [1]) }
    }

    /// It is no process: its number is free for that of which it speaks.
    @Test func anAnnouncementIsHandedOnAndNotRemembered() throws {
        var stage = Stage()
        let message = StartProcess.spare(in: Array("/w".utf8), stdin: true)
        try stage.daemon(.start, stream: 1, message.encoded())
        let header = try #require(try stage.toHarness.frame())
        #expect(header.type == .start && header.stream == 1)
        #expect(try StartProcess(decoding: stage.toHarness.payload(of: header)) == message)
        #expect(try stage.relay.processCount == 0 && stage.received().isEmpty)
        #expect(throws: ChannelViolation.self) {
            try stage.harness(.started, stream: 1, ProcessStarted(pid: 5).encoded())
        }
        try stage.start(1)
        #expect(stage.relay.processCount == 1)
        #expect(throws: ChannelViolation.self) { try stage.daemon(.start, stream: 1, message.encoded()) }
        #expect(throws: ChannelViolation.self) { try stage.daemon(.start, stream: 0, message.encoded()) }
    }

    @Test func healthIsAnsweredOnlyWhenAsked() throws {
        var stage = Stage()
        #expect(throws: ChannelViolation.self) { try stage.harness(.healthy, [1]) }
        try stage.daemon(.health, [1])
        try stage.harness(.healthy, [1])
        #expect(try stage.received().map(\.0) == [.healthy])
        #expect(throws: ChannelViolation.self) { try stage.harness(.healthy, [1]) }
        #expect(throws: ChannelViolation.self) { try stage.daemon(.health, [UInt8](repeating: 0, count: 65)) }
    }

    /// Whatever a harness sends, in any order: no trap, and never more memory than windows allow.
    @Test func randomFramesAreTakenOrRefusedWithinBounds() throws {
        var generator = Mutator(seed: 99)
        let types: [FrameType] = [
            .stdin, .stdout, .stderr, .ack, .hello, .start, .started, .failed, .exited, .signal, .healthy, .kill,
            .state,
        ]
        var refused = 0
        var taken = 0
        for _ in 0..<40 {
            var stage = Stage()
            for number in 1...4 as ClosedRange<UInt16> { try stage.daemon(.start, stream: number, [1]) }
            for _ in 0..<150 {
                let type = types.randomElement(using: &generator) ?? .stdout
                let number = UInt16.random(in: 0...5, using: &generator)
                var payload = (0..<Int.random(in: 0...40, using: &generator)).map { _ in
                    UInt8.random(in: 0...3, using: &generator)
                }
                if type.isData {
                    let offset = Bool.random(using: &generator) ? 0 : UInt64.random(in: 0...70_000, using: &generator)
                    let count = Int.random(in: 0...9, using: &generator) > 0 ? 3 : Channel.dataLimit
                    payload = Acknowledgement(offset: offset).encoded() + [UInt8](repeating: 1, count: count)
                }
                do {
                    try stage.harness(type, flags: .random(in: 0...2, using: &generator), stream: number, payload)
                    taken += 1
                } catch is ChannelViolation { refused += 1 }
                #expect(stage.relay.retainedBytes <= 8 * Int(Channel.window))
            }
            _ = try stage.received()
        }
        #expect(refused > 300 && taken > 100)
    }
}
