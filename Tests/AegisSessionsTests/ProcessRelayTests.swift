import AegisChannel
import AegisCore
import AegisSessions
import Synchronization
import Testing

/// Keeps what a relay did.
private final class Recorder: OutputJournal {
    let acks = Mutex<[(OutputKind, UInt64)]>([])
    let saved = Mutex<[UInt8]>([])
    func save(_ kind: OutputKind, offset: UInt64, bytes: ArraySlice<UInt8>) -> UInt64 {
        saved.withLock { $0 += bytes }
        return offset + UInt64(bytes.count)
    }
    func finish(_ kind: OutputKind) {}
    var lastAck: UInt64 { acks.withLock { $0.last?.1 ?? 0 } }
}

@Suite struct ProcessRelayTests {
    private func relay(_ recorder: Recorder, holds: Bool = false, from: UInt64 = 0) -> ProcessRelay {
        ProcessRelay(number: 1, journal: recorder, holdsForWatcher: holds, stdoutFrom: from) { kind, offset in
            recorder.acks.withLock { $0.append((kind, offset)) }
        }
    }
    private let ten = Array("0123456789".utf8)

    private func bytes(_ piece: ProcessRelay.Piece?) -> [UInt8]? {
        if case .bytes(_, _, let bytes)? = piece { Array(bytes) } else { nil }
    }

    @Test func withoutWatchersBytesAreSavedAndAcknowledgedAtOnce() {
        let recorder = Recorder()
        let relay = relay(recorder)
        relay.output(.stdout, offset: 0, bytes: ten[...])
        #expect(recorder.lastAck == 10)
        #expect(recorder.saved.withLock { $0 } == ten)
    }

    @Test func bytesThatAWatcherHasNotConsumedAreNotAcknowledged() async throws {
        let recorder = Recorder()
        let relay = relay(recorder)
        let (watcher, offsets) = try relay.attach(from: nil)
        #expect(offsets[.stdout] == 0)
        relay.output(.stdout, offset: 0, bytes: ten[...])
        #expect(recorder.acks.withLock { $0.isEmpty })
        #expect(bytes(await relay.next(watcher)) == ten)
        relay.consumed(watcher, .stdout, upTo: 4)
        #expect(recorder.lastAck == 4)
        relay.detach(watcher)
        #expect(recorder.lastAck == 10)
    }

    @Test func aProcessThatLivesByItsClientKeepsBytesForTheNextOne() async throws {
        let recorder = Recorder()
        let relay = relay(recorder, holds: true)
        let (first, _) = try relay.attach(from: nil)
        relay.output(.stdout, offset: 0, bytes: ten[...])
        _ = await relay.next(first)
        relay.consumed(first, .stdout, upTo: 4)
        relay.detach(first)
        #expect(recorder.lastAck == 4)
        let (second, _) = try relay.attach(from: [.stdout: 6, .stderr: 0])
        #expect(bytes(await relay.next(second)) == Array("6789".utf8))
    }

    @Test func offsetsThatAreGoneOrToComeAreRefused() throws {
        let recorder = Recorder()
        let relay = relay(recorder, from: 100)
        relay.output(.stdout, offset: 100, bytes: ten[...])
        for offset in [99, 111] as [UInt64] {
            let error = #expect(throws: AegisError.self) { try relay.attach(from: [.stdout: offset]) }
            #expect(error?.code == "output-gone")
        }
    }

    @Test func bytesThatComeAgainAfterAReconnectAreNotDoubled() async throws {
        let recorder = Recorder()
        let relay = relay(recorder, holds: true)
        let (watcher, _) = try relay.attach(from: nil)
        relay.output(.stdout, offset: 0, bytes: ten[...])
        relay.output(.stdout, offset: 0, bytes: ten[...])
        relay.output(.stdout, offset: 5, bytes: (ten + ten)[5...14])
        #expect(bytes(await relay.next(watcher)) == ten)
        #expect(bytes(await relay.next(watcher)) == Array("01234".utf8))
    }

    @Test func theEndComesAfterAllBytesAndToEveryWatcher() async throws {
        let recorder = Recorder()
        let relay = relay(recorder)
        let (a, _) = try relay.attach(from: nil)
        let (b, _) = try relay.attach(from: nil)
        relay.output(.stderr, offset: 0, bytes: ten[...])
        relay.exited(ProcessExited(code: 3, signal: 0, stdoutBytes: 0, stderrBytes: 10))
        for watcher in [a, b] {
            #expect(bytes(await relay.next(watcher)) == ten)
            guard case .exited(let end)? = await relay.next(watcher) else {
                Issue.record("no end")
                return
            }
            #expect(end.code == 3)
        }
        guard case .exited = await relay.ended() else {
            Issue.record("no end")
            return
        }
    }

    @Test func theSlowestOfSeveralWatchersHoldsTheCredit() async throws {
        let recorder = Recorder()
        let relay = relay(recorder)
        let (fast, _) = try relay.attach(from: nil)
        let (slow, _) = try relay.attach(from: nil)
        relay.output(.stdout, offset: 0, bytes: ten[...])
        _ = await relay.next(fast)
        _ = await relay.next(slow)
        relay.consumed(fast, .stdout, upTo: 10)
        #expect(recorder.lastAck == 0)
        relay.consumed(slow, .stdout, upTo: 3)
        #expect(recorder.lastAck == 3)
        relay.detach(slow)
        #expect(recorder.lastAck == 10)
    }

    @Test func aWatcherCannotConsumeWhatItWasNotSent() throws {
        let recorder = Recorder()
        let relay = relay(recorder)
        let (watcher, _) = try relay.attach(from: nil)
        relay.output(.stdout, offset: 0, bytes: ten[...])
        relay.consumed(watcher, .stdout, upTo: 10)
        #expect(recorder.acks.withLock { $0.isEmpty })
    }

    @Test func aCancelledWaitEndsAndAWaitIsWokenByBytes() async throws {
        let recorder = Recorder()
        let relay = relay(recorder)
        let (watcher, _) = try relay.attach(from: nil)
        let cancelled = Task { await relay.next(watcher) }
        cancelled.cancel()
        #expect(await cancelled.value == nil)
        let waiting = Task { await relay.next(watcher) }
        relay.output(.stdout, offset: 0, bytes: ten[...])
        #expect(bytes(await waiting.value) == ten)
    }

    @Test func aClientThatComesBackAcknowledgesWhatItHas() async throws {
        let recorder = Recorder()
        let relay = relay(recorder, holds: true, from: 100)
        relay.output(.stdout, offset: 100, bytes: ten[...])
        #expect(recorder.lastAck == 0)
        _ = try relay.attach(from: [.stdout: 110, .stderr: 0])
        #expect(recorder.lastAck == 110)
    }

    @Test func aClientMayBeAheadOfWhatTheKeeperHasSentAgain() async throws {
        let recorder = Recorder()
        let relay = relay(recorder, holds: true, from: 100)
        let (watcher, offsets) = try relay.attach(from: [.stdout: 105, .stderr: 0])
        #expect(offsets[.stdout] == 105 && recorder.lastAck == 0)
        relay.output(.stdout, offset: 100, bytes: ten[...])
        #expect(recorder.lastAck == 105)
        #expect(bytes(await relay.next(watcher)) == Array("56789".utf8))
        #expect(throws: AegisError.self) { try relay.attach(from: [.stdout: 110 + Channel.window + 1, .stderr: 0]) }
    }
}
