import AegisTestSupport
import Synchronization
import Testing

@testable import AegisAudit

/// Heads for a server: kept while it is away, bounded, told once.
@Suite struct HeadWitnessTests {
    /// A server that takes what it is told to take.
    private final class Server: Sendable {
        private struct State {
            var isUp = false
            var bodies: [String] = []
        }
        private let state = Mutex(State())
        struct Away: Error, CustomStringConvertible { var description: String { "away" } }

        var bodies: [String] { state.withLock { $0.bodies } }
        func come() { state.withLock { $0.isUp = true } }
        func take(_ body: [UInt8]) throws {
            try state.withLock { state in
                guard state.isUp else { throw Away() }
                state.bodies.append(String(decoding: body, as: UTF8.self))
            }
        }
    }

    private final class Told: Sendable {
        private let list = Mutex<[String?]>([])
        var all: [String?] { list.withLock { $0 } }
        func add(_ obstacle: String?) { list.withLock { $0.append(obstacle) } }
    }

    private let server = Server()
    private let told = Told()
    private let clock = TestClock()

    private func make() -> HeadWitness {
        HeadWitness(
            "https://elsewhere/heads", clock: clock, send: { [server] in try server.take($0) },
            changed: { [told] in told.add($0) })
    }

    private func tell(_ witness: HeadWitness, _ heads: ClosedRange<Int>) {
        for head in heads { witness.tell(Array("\(head)".utf8)[...]) }
    }

    @Test func aServerThatComesBackGetsWhatWaited() async throws {
        let witness = make()
        tell(witness, 1...3)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await witness.run() }
            var time = Duration.zero
            // The pauses double up to a minute.
            for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
                await clock.sleepers(1)
                #expect(clock.deadlines == [time + .seconds(pause)])
                time += .seconds(pause)
                clock.advance(by: .seconds(pause))
            }
            await clock.sleepers(1)
            #expect(told.all == ["away"])
            #expect(witness.report == .init(failures: 9, waiting: 3, obstacle: "away"))
            server.come()
            clock.advance(by: .seconds(60))
            while witness.report.taken < 3 { await Task.yield() }
            #expect(server.bodies == ["1", "2", "3"] && told.all == ["away", nil])
            #expect(witness.report == .init(taken: 3, failures: 9))
            // It goes on with the next one.
            tell(witness, 4...4)
            while witness.report.taken < 4 { await Task.yield() }
            group.cancelAll()
            try await group.waitForAll()
        }
    }

    @Test func ofTooManyTheOldestGo() async {
        let witness = make()
        tell(witness, 1...(HeadWitness.most + 6))
        #expect(witness.report == .init(dropped: 6, waiting: HeadWitness.most))
        server.come()
        // At the end of the daemon the newest is what counts.
        await witness.finish()
        #expect(server.bodies == ["\(HeadWitness.most + 6)"] && witness.report.waiting == 0)
        await witness.finish()
        #expect(server.bodies.count == 1)
    }
}

extension HeadWitness.Report {
    init(taken: UInt64 = 0, failures: UInt64 = 0, dropped: UInt64 = 0, waiting: Int = 0, obstacle: String? = nil) {
        self.init()
        self.taken = taken
        self.failures = failures
        self.dropped = dropped
        self.waiting = waiting
        self.obstacle = obstacle
    }
}
