import AegisChannel
import AegisTestSupport
import Testing

/// A keeper's relay between a daemon and a harness of which each may do anything.
@Suite struct RelayFuzzTests {
    /// What plays both sides, and what must hold all the time.
    private struct Play {
        var mutator: Mutator
        var relay = KeeperRelay()
        var toHarness = ByteQueue()
        /// The next offset that the present daemon may get, by process and stream (1, 2).
        var expected: [UInt32: UInt64] = [:]
        var accepted = 0
        var violations = 0

        private mutating func number() -> UInt16 { UInt16(mutator.below(5)) }

        /// An offset near one that fits, most times.
        private mutating func offset(near known: UInt64) -> UInt64 {
            mutator.pick([known, known, known, known, 0, known &+ 1, known &- 1, known / 2, .max, .max - 3])
        }

        private mutating func known(_ stream: UInt16) -> ProcessState? {
            relay.state(phase: .running, sandboxPid: 1).processes.first { $0.number == stream }
        }

        mutating func daemonFrame() -> (FrameType, UInt8, UInt16, [UInt8]) {
            let stream = number()
            let process = known(stream)
            switch mutator.below(10) {
            case 0, 1:
                let start = StartProcess(kind: .exec, arguments: [[65]], environment: [], directory: [])
                return (.start, 0, stream, start.encoded())
            case 2, 3, 4:
                let at = offset(near: process?.stdinTaken ?? 0)
                let data = [UInt8](repeating: 1, count: mutator.pick([0, 0, 1, 5, 60_000]))
                return (.stdin, UInt8(mutator.below(2)), stream, Acknowledgement(offset: at).encoded() + data)
            case 5, 6:
                let which = UInt8(mutator.below(4))
                let at = which == 1 ? process?.stdoutAcknowledged : process?.stderrAcknowledged
                let step = UInt64(mutator.pick([0, 1, 10, 60_000]))
                return (.ack, which, stream, Acknowledgement(offset: (at ?? 0) + step).encoded())
            case 7: return (.health, 0, 0, mutator.bytes(mutator.below(70)))
            case 8: return (.forget, 0, stream, [])
            default:
                let type = mutator.pick([FrameType.signal, .resize, .shutdown, .stdout, .hello, .exited])
                return (type, 0, stream, mutator.bytes(8 + mutator.below(70)))
            }
        }

        mutating func harnessFrame() -> (FrameType, UInt8, UInt16, [UInt8]) {
            let stream = number()
            switch mutator.below(10) {
            case 0: return (.hello, 0, 0, Hello(build: [65]).encoded())
            case 1, 2: return (.started, 0, stream, ProcessStarted(pid: 3).encoded())
            case 3, 4, 5:
                let kind = mutator.pick([FrameType.stdout, .stderr])
                let at = offset(near: produced[UInt32(stream) << 8 | UInt32(kind.rawValue)] ?? 0)
                let data = mutator.bytes(mutator.pick([0, 1, 100, 3000]))
                return (
                    kind, UInt8(mutator.below(8) == 0 ? 1 : 0), stream, Acknowledgement(offset: at).encoded() + data
                )
            case 6:
                let totals = [1, 2].map { produced[UInt32(stream) << 8 | $0] ?? 0 }
                let exit = ProcessExited(code: 0, signal: 0, stdoutBytes: totals[0], stderrBytes: totals[1])
                return (.exited, 0, stream, exit.encoded())
            case 7:
                let at = offset(near: known(stream)?.stdinTaken ?? 0)
                return (.ack, 0, stream, Acknowledgement(offset: at).encoded())
            case 8: return (.healthy, 0, 0, mutator.bytes(mutator.below(70)))
            default:
                let type = mutator.pick([FrameType.failed, .start, .stdin, .shutdown])
                return (type, 0, stream, mutator.bytes(8 + mutator.below(30)))
            }
        }

        /// Bytes that the relay took of each stream.
        var produced: [UInt32: UInt64] = [:]

        mutating func step() throws {
            let fromDaemon = mutator.below(2) == 0
            var (type, flags, stream, payload) = fromDaemon ? daemonFrame() : harnessFrame()
            if mutator.below(6) == 0 { payload = mutator.mutate(payload) }
            if mutator.below(20) == 0 { flags = UInt8(mutator.below(256)) }
            var queue = ByteQueue()
            queue.appendFrame(type, flags: flags, stream: stream, payload)
            guard let header = try? queue.frame() else { return }
            do {
                if fromDaemon {
                    try relay.takeFromDaemon(header, in: queue, to: &toHarness)
                    if type == .forget, known(stream) == nil { forget(stream) }
                } else {
                    try relay.takeFromHarness(header, in: queue)
                    if type.isData {
                        produced[UInt32(stream) << 8 | UInt32(type.rawValue), default: 0] += UInt64(payload.count - 8)
                    }
                }
                accepted += 1
            } catch {
                violations += 1
                // A harness that breaks the protocol is killed; of a daemon only the connection goes.
                if fromDaemon {
                    newDaemon()
                } else {
                    self = Play(mutator: mutator, accepted: accepted, violations: violations)
                }
            }
            if mutator.below(40) == 0 { newDaemon() }
            if mutator.below(50) == 0 { relay.shrink() }
            try deliver()
        }

        private mutating func forget(_ stream: UInt16) {
            for kind in [1, 2] as [UInt32] {
                produced[UInt32(stream) << 8 | kind] = nil
                expected[UInt32(stream) << 8 | kind] = nil
            }
        }

        private mutating func newDaemon() {
            relay.rewind()
            expected = [:]
            for process in relay.state(phase: .running, sandboxPid: 1).processes {
                expected[UInt32(process.number) << 8 | 1] = process.stdoutAcknowledged
                expected[UInt32(process.number) << 8 | 2] = process.stderrAcknowledged
            }
        }

        /// Takes what either side is sent: whole frames, bytes without a gap, within the bounds.
        private mutating func deliver() throws {
            #expect(relay.retainedBytes <= relay.processCount * 2 * Int(Channel.window))
            try drain(&toHarness)
            var toDaemon = ByteQueue()
            _ = relay.fill(&toDaemon, limit: mutator.pick([1, 5000, 1 << 20]))
            while let header = try toDaemon.frame() {
                if header.type.isData {
                    let key = UInt32(header.stream) << 8 | UInt32(header.type.rawValue)
                    // A late acknowledgement lets it skip, never repeat.
                    #expect(toDaemon.dataOffset() >= expected[key] ?? 0)
                    expected[key] = toDaemon.dataOffset() + UInt64(header.length) - 8
                }
                toDaemon.consumeFrame(header)
            }
            #expect(toDaemon.isEmpty)
        }

        private func drain(_ queue: inout ByteQueue) throws {
            while let header = try queue.frame() { queue.consumeFrame(header) }
            #expect(queue.isEmpty)
        }
    }

    @Test(arguments: 0..<8) func whateverEitherSideSendsTheRelayHolds(_ seed: UInt64) throws {
        var play = Play(mutator: Mutator(seed: seed))
        for _ in 0..<3000 { try play.step() }
        #expect(play.accepted > 500 && play.violations > 100, "\(play.accepted) taken, \(play.violations) refused")
    }

    /// An end of input that comes again, or too early, must not count backwards.
    @Test func anEarlyEndOfInputIsRefused() throws {
        var relay = KeeperRelay()
        var toHarness = ByteQueue()
        func send(_ type: FrameType, _ flags: UInt8, _ payload: [UInt8]) throws {
            var queue = ByteQueue()
            queue.appendFrame(type, flags: flags, stream: 1, payload)
            let header = try #require(try queue.frame())
            try relay.takeFromDaemon(header, in: queue, to: &toHarness)
        }
        try send(.start, 0, StartProcess(kind: .exec, arguments: [[65]], environment: [], directory: []).encoded())
        try send(.stdin, 0, Acknowledgement(offset: 0).encoded() + [1, 2, 3])
        var queue = ByteQueue()
        queue.appendFrame(.ack, stream: 1, Acknowledgement(offset: 3).encoded())
        let header = try #require(try queue.frame())
        try relay.takeFromHarness(header, in: queue)
        #expect(throws: ChannelViolation.self) { try send(.stdin, 1, Acknowledgement(offset: 1).encoded()) }
        try send(.stdin, 1, Acknowledgement(offset: 3).encoded())
        // The same once more says nothing new.
        try send(.stdin, 1, Acknowledgement(offset: 0).encoded() + [1, 2, 3])
    }
}
