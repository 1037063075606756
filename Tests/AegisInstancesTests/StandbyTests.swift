import AegisCore
import Synchronization
import Testing

@testable import AegisBackends
@testable import AegisInstances
@testable import AegisSandboxTypes

/// The sandbox for an instance's next start: there is one at most, and a start has it or nothing is left of it.
@Suite struct StandbyTests {
    /// What somebody may do at a point of another's way.
    enum Step: CaseIterable { case begin, finish, fail, take, drop, die, gone }

    /// The machine, to be asked in the middle of an expression.
    private final class Life {
        var machine = Standby()
        var stage: Standby.Stage { machine.stage }
        var isAwaited: Bool { machine.isAwaited }
        func begin() -> UInt64? { machine.begin() }
        func made(_ number: UInt64) -> Bool { machine.made(number) }
        func failed(_ number: UInt64) { machine.failed(number) }
        func take() -> Standby.Take { machine.take() }
        func drop() -> Standby.Drop { machine.drop() }
        func died(_ number: UInt64) -> Bool { machine.died(number) }
        func ended(_ number: UInt64) { machine.ended(number) }
    }

    private func at(_ stage: Standby.Stage) -> Life {
        let standby = Life()
        guard stage != .none else { return standby }
        _ = standby.begin()
        guard stage != .making else { return standby }
        _ = standby.made(1)
        if stage == .ending { _ = standby.drop() }
        return standby
    }

    @Test func aStartTakesWhatIsReady() {
        let standby = at(.ready)
        #expect(standby.take() == .taken)
        #expect(standby.stage == .none && standby.take() == .nothing)
        // Its end is its run's from now on.
        #expect(!standby.died(1))
        standby.ended(1)
        #expect(standby.begin() == 2)
    }

    @Test func aStartWaitsForWhatIsBeingMade() {
        let standby = at(.making)
        #expect(!standby.isAwaited && standby.take() == .wait)
        #expect(standby.isAwaited && standby.made(1))
        #expect(standby.take() == .taken)
    }

    @Test func aStartDoesWithoutWhatFailed() {
        let standby = at(.making)
        #expect(standby.take() == .wait)
        standby.failed(1)
        #expect(standby.take() == .nothing)
        #expect(standby.begin() == 2 && !standby.isAwaited)
    }

    @Test func aStartWaitsUntilNothingIsLeft() {
        let standby = at(.ready)
        #expect(standby.drop() == .end && standby.take() == .wait)
        standby.ended(1)
        #expect(standby.take() == .nothing)
    }

    @Test func whatIsDroppedWhileItIsBeingMadeIsNotKept() {
        let standby = at(.making)
        #expect(standby.drop() == .cancel && standby.drop() == .wait && standby.take() == .wait)
        #expect(!standby.made(1) && standby.stage == .ending)
        #expect(standby.drop() == .wait && standby.take() == .wait)
        standby.ended(1)
        #expect(standby.drop() == .nothing && standby.take() == .nothing)
    }

    @Test func whatIsSaidLateConcernsNoOther() {
        let standby = at(.making)
        standby.failed(1)
        #expect(standby.begin() == 2)
        #expect(!standby.made(1))
        standby.failed(1)
        standby.ended(1)
        #expect(standby.stage == .making)
        #expect(standby.made(2) && !standby.died(1) && standby.stage == .ready)
        #expect(standby.died(2) && standby.stage == .ending && standby.drop() == .wait)
    }

    /// Every order of five steps, with a count of the sandboxes that there are.
    @Test func thereAreNeverTwoWhateverComesInWhichOrder() {
        func go(_ standby: Standby, making: Int, kept: Int, running: Int, depth: Int) {
            let all = making + kept + running
            #expect(making + kept <= 1 && (standby.stage == .none) == (making + kept == 0), "\(standby)")
            guard depth > 0, all <= 1 else { return #expect(all <= 1, "\(standby)") }
            for step in Step.allCases {
                var next = standby
                var (making, kept, running) = (making, kept, running)
                switch step {
                case .begin:
                    // Nothing is made while the instance is up.
                    guard running == 0, next.begin() != nil else { continue }
                    making += 1
                case .finish:
                    guard making == 1, next.stage == .making else { continue }
                    _ = next.made(next.number)
                    (making, kept) = (0, 1)
                case .fail:
                    guard making == 1, next.stage == .making else { continue }
                    next.failed(next.number)
                    making = 0
                case .take:
                    guard running == 0 else { continue }
                    switch next.take() {
                    case .taken: (kept, running) = (kept - 1, running + 1)
                    case .nothing: running += 1
                    case .wait: break
                    }
                case .drop: _ = next.drop()
                case .die: _ = next.died(next.number)
                case .gone:
                    guard next.stage == .ending else {
                        running = 0
                        break
                    }
                    next.ended(next.number)
                    kept = 0
                }
                go(next, making: making, kept: kept, running: running, depth: depth - 1)
            }
        }
        go(Standby(), making: 0, kept: 0, running: 0, depth: 6)
    }
}

/// Who wants one, in which order, and what those that are there use.
@Suite struct StandbyBoardTests {
    private final class Owner: StandbyOwner {
        let id: String
        init(_ id: String) { self.id = id }
        func makeStandby() async {}
        func dropStandby(sparingAwaited: Bool) async {}
    }

    @Test func whoWantsOneFirstGetsItFirst() {
        let board = StandbyBoard()
        let (one, two) = (Owner("i-1"), Owner("i-2"))
        board.want(one, notBefore: .seconds(5), because: "it has failed")
        board.want(two)
        #expect(board.next(now: .zero)?.id == "i-2" && board.next(now: .seconds(5))?.id == "i-1")
        #expect(board.retryAt == .zero && board.place(of: "i-1") == .waiting(until: .seconds(5), "it has failed"))
        // Whoever asks again keeps its place.
        board.want(one)
        #expect(board.next(now: .seconds(4))?.id == "i-2")
        board.postpone("i-2", until: .seconds(9), "no room")
        #expect(board.next(now: .seconds(4)) == nil && board.retryAt == .seconds(5))
    }

    @Test func whatIsReadyCountsUntilItIsTaken() {
        let board = StandbyBoard()
        let pokes = Atomic(0)
        let (one, two) = (Owner("i-1"), Owner("i-2"))
        board.whenWanted { pokes.add(1, ordering: .relaxed) }
        board.want(one)
        #expect(board.report == StandbyReport(ready: 0, waiting: 1, memoryBytes: 0))
        board.isReady(one, 7)
        board.isReady(two, 5)
        #expect(board.report == StandbyReport(ready: 2, waiting: 0, memoryBytes: 12))
        #expect(board.bytes == 12 && board.typical == 5 && board.next(now: .seconds(9)) == nil)
        // What is there cannot be put off.
        board.postpone("i-1", until: .seconds(9), "no room")
        #expect(board.place(of: "i-1") == .ready(7))
        board.withdraw("i-1")
        board.withdraw("i-1")
        #expect(board.bytes == 5 && board.place(of: "i-1") == nil)
        #expect(pokes.load(ordering: .relaxed) == 2)
    }

    @Test func nobodyGetsOneOnceItIsClosed() {
        let board = StandbyBoard()
        let (one, two) = (Owner("i-1"), Owner("i-2"))
        board.want(one)
        board.isReady(two, 5)
        #expect(Set(board.close().map(\.id)) == ["i-1", "i-2"] && board.isClosed)
        board.want(one)
        board.isReady(two, 5)
        #expect(board.next(now: .seconds(1)) == nil && board.owners.isEmpty && board.report == nil)
    }
}

/// What a boot was made from, and what it was not.
@Suite struct BootPrintTests {
    private struct Machine: Backend {
        let name: String
        func probe(deadline: Duration) async -> BackendReport { fatalError("not asked") }
        func boot(
            _ spec: BootSpec, save: @Sendable (SandboxRecord) async throws -> Void
        ) async throws -> any Sandbox { fatalError("not asked") }
        func adopt(_ record: SandboxRecord) async throws -> (any Sandbox)? { nil }
        func discard(_ record: SandboxRecord) async {}
    }

    private func print(
        _ backend: String = "runc", version: String = "1.1", image: String = "sha256:1", limits: Limits = Limits(),
        notChosen: [String: String] = [:], change: (inout BootSpec) -> Void = { _ in }
    ) -> BootPrint {
        var spec = BootSpec(id: "i-1", hostname: "web", layers: ["/a"], writable: "/w", limits: limits, user: "0:0")
        change(&spec)
        var detail = GradeDetail(
            runtime: backend, version: version, networkStack: "host", kernel: "host", userNamespace: true,
            cgroup: "v2", seccomp: "default-deny")
        detail.notChosen = notChosen
        let choice = BackendChoice(backend: Machine(name: backend), grade: .namespaces, detail: detail)
        return BootPrint(spec, image: image, by: choice, mounts: [])
    }

    @Test func whatComesAfterTheBootIsNoDifference() {
        var limits = Limits()
        (limits.timeout, limits.grace) = (.seconds(5), .seconds(1))
        #expect(print().difference(from: print(limits: limits)) == nil)
        #expect(print().difference(from: print(notChosen: ["runsc": "not installed"])) == nil)
    }

    @Test func whatTheBootIsMadeFromIs() {
        var limits = Limits()
        limits.pids = 7
        #expect(print().difference(from: print("runsc")) == "the isolation")
        #expect(print().difference(from: print(version: "1.2")) == "the isolation")
        #expect(print().difference(from: print(image: "sha256:2")) == "the image")
        #expect(print().difference(from: print(limits: limits)) == "the limits")
        #expect(print().difference(from: print { $0.hostname = "other" }) == "the host name")
        #expect(print().difference(from: print { $0.user = "1000:1000" }) == "the user")
        #expect(print().difference(from: print { $0.allowsSetID = true }) == "what it may do")
        var moved = print()
        moved.mounts = [
            .init(
                target: "/workspace", readOnly: false, isDirectory: true, ownership: .managed, device: 1, inode: 2)
        ]
        var again = moved
        again.mounts[0].inode = 3
        #expect(moved.difference(from: moved) == nil && moved.difference(from: again) == "the workspace or a mount")
    }
}
