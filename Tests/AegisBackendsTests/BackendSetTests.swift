import AegisCore
import AegisIO
import AegisSandboxTypes
import AegisTestSupport
import Synchronization
import Testing

@testable import AegisBackends

/// A backend that only says what it was told to say.
private final class ToldBackend: Backend {
    let name: String
    private let answer: BackendReport
    private let gate: Settlement<Bool>?
    private let lateProbes: Int?
    private let counter = Mutex(0)
    var probes: Int { counter.withLock { $0 } }

    /// `lateProbes` of its probes are too slow, with the reason, before one succeeds; nil: the reason stays.
    init(
        _ name: String, _ grade: Grade, reason: String? = nil, hint: String? = nil, gate: Settlement<Bool>? = nil,
        lateProbes: Int? = nil
    ) {
        self.name = name
        self.gate = gate
        self.lateProbes = lateProbes
        var report = BackendReport(backend: name, available: reason == nil, checkedAt: Timestamp(milliseconds: 0))
        report.grade = grade
        report.reason = reason
        report.hint = hint
        report.isLate = lateProbes != nil
        if reason == nil || lateProbes != nil {
            report.detail = GradeDetail(
                runtime: name, version: "1", networkStack: "host", kernel: "k", userNamespace: true, cgroup: "v2",
                seccomp: "x")
        }
        answer = report
    }

    func probe(deadline: Duration) async -> BackendReport {
        let count = counter.withLock { count in
            count += 1
            return count
        }
        if let gate { _ = await gate.value() }
        var answer = answer
        if let lateProbes, count > lateProbes { (answer.available, answer.isLate, answer.reason) = (true, false, nil) }
        return answer
    }
    func boot(_ spec: BootSpec, save: @Sendable (SandboxRecord) async throws -> Void) async throws -> any Sandbox {
        throw AegisError.failed("told", "only probes")
    }
    func adopt(_ record: SandboxRecord) async -> (any Sandbox)? { nil }
    func discard(_ record: SandboxRecord) async {}
}

struct BackendSetTests {
    @Test func autoTakesTheStrongestThatProvedItselfAndSaysWhyNotTheOthers() async throws {
        let set = BackendSet([
            ToldBackend("runsc", .userKernel, reason: "its canary failed"), ToldBackend("runc", .namespaces),
            ToldBackend("crun", .namespaces, reason: "never asked"),
        ])
        let choice = try await set.choose()
        #expect(choice.backend.name == "runc")
        #expect(choice.grade == .namespaces)
        #expect(
            choice.detail.notChosen == [
                "runsc": "its canary failed", "qemu": "not in this release", "firecracker": "not in this release",
            ])
    }

    @Test func onlyWhatWasTooSlowIsProbedAgain() async throws {
        let late = ToldBackend("runsc", .userKernel, reason: "not up in time", lateProbes: 2)
        let broken = ToldBackend("crun", .namespaces, reason: "its canary failed")
        let set = BackendSet([late, ToldBackend("runc", .namespaces), broken])
        await set.probeAll()
        #expect(try await set.choose().backend.name == "runc")
        #expect(await set.probeLate())
        #expect(try await set.choose().backend.name == "runc")
        #expect(await !set.probeLate())
        #expect(try await set.choose().backend.name == "runsc")
        #expect(await !set.probeLate())
        #expect(late.probes == 3 && broken.probes == 1)
    }

    @Test func autoAsksNoFurtherThanItNeeds() async throws {
        let weak = ToldBackend("runc", .namespaces)
        let set = BackendSet([ToldBackend("runsc", .userKernel), weak])
        let choice = try await set.choose(minimum: .userKernel)
        #expect(choice.backend.name == "runsc")
        #expect(choice.detail.notChosen.keys.sorted() == ["firecracker", "qemu"])
        #expect(weak.probes == 0)
    }

    @Test func whatIsBelowTheMinimumIsRefused() async {
        let set = BackendSet([ToldBackend("runsc", .userKernel, reason: "too old"), ToldBackend("runc", .namespaces)])
        let auto = await #expect(throws: AegisError.self) { _ = try await set.choose(minimum: .userKernel) }
        #expect(auto?.code == "isolation-too-weak")
        #expect(auto?.hint?.contains("runsc: too old") == true)
        let named = await #expect(throws: AegisError.self) {
            _ = try await set.choose(isolation: "runc", minimum: .hardwareVM)
        }
        #expect(named?.code == "isolation-too-weak")
        #expect(named?.message.contains("hardware-vm") == true)
    }

    @Test(arguments: [
        ("runk", "invalid-argument", "did you mean 'runc'?"), ("quemu", "invalid-argument", "did you mean 'qemu'?"),
        ("nonsense", "invalid-argument", "isolations: auto, runsc, runc"),
        ("qemu", "isolation-unavailable", "available here: runc"),
        ("firecracker", "isolation-unavailable", "available here: runc"),
        ("docker", "isolation-unavailable", "available here: runc"),
        ("runsc", "isolation-unavailable", "apt install runsc"),
    ])
    func aNameThatCannotBeHadSaysWhy(_ name: String, _ code: String, _ hint: String) async {
        let set = BackendSet([
            ToldBackend("runsc", .userKernel, reason: "runsc is not installed", hint: "apt install runsc"),
            ToldBackend("runc", .namespaces),
        ])
        let error = await #expect(throws: AegisError.self) { _ = try await set.choose(isolation: name) }
        #expect(error?.code == code)
        #expect(error?.hint == hint)
    }

    @Test func nothingAtAllIsAnErrorWithEveryReason() async {
        let set = BackendSet([
            ToldBackend("runsc", .userKernel, reason: "one"), ToldBackend("runc", .namespaces, reason: "two"),
        ])
        let error = await #expect(throws: AegisError.self) { _ = try await set.choose() }
        #expect(error?.code == "isolation-unavailable")
        #expect(error?.hint == "runsc: one; runc: two")
    }

    @Test func manyWhoAskShareOneProbe() async throws {
        let gate = Settlement<Bool>()
        let backend = ToldBackend("runc", .namespaces, gate: gate)
        let set = BackendSet([backend])
        try await withThrowingTaskGroup(of: String.self) { group in
            for _ in 0..<10 { group.addTask { try await set.choose().backend.name } }
            gate.settle(true)
            for try await name in group { #expect(name == "runc") }
        }
        #expect(backend.probes == 1)
        _ = await set.allReports(fresh: true)
        #expect(backend.probes == 2)
    }

    @Test func aCancelledProbeIsNobodysAnswer() async throws {
        let gate = Settlement<Bool>()
        let backend = ToldBackend("runc", .namespaces, gate: gate)
        let set = BackendSet([backend])
        let first = Task { try await set.choose() }
        while backend.probes == 0 { await Task.yield() }
        let second = Task { try await set.choose() }
        first.cancel()
        gate.settle(true)
        #expect(try await second.value.backend.name == "runc")
        _ = try? await first.value
        #expect(backend.probes >= 1)
    }
}

struct SettlementTests {
    @Test func everybodyGetsTheFirstValue() async {
        let settlement = Settlement<Int>()
        await withTaskGroup(of: Int?.self) { group in
            for _ in 0..<20 { group.addTask { await settlement.value() } }
            settlement.settle(1)
            settlement.settle(2)
            for await value in group { #expect(value == 1) }
        }
        #expect(settlement.now == 1)
    }

    @Test func aCancelledWaiterGoesAtOnce() async {
        let settlement = Settlement<Int>()
        let waiter = Task { await settlement.value() }
        waiter.cancel()
        #expect(await waiter.value == nil)
        #expect(settlement.now == nil)
    }

    @Test func turnsComeOneByOne() async {
        let lock = TurnLock()
        let room = Room()
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<50 {
                group.addTask {
                    await lock.run {
                        room.enter()
                        await Task.yield()
                        room.leave()
                    }
                }
            }
        }
        #expect(room.most == 1)
    }

    /// Counts who is in it at a time.
    private final class Room: Sendable {
        private let state = Mutex((inside: 0, most: 0))
        var most: Int { state.withLock { $0.most } }
        func enter() {
            state.withLock { state in
                state.inside += 1
                state.most = max(state.most, state.inside)
            }
        }
        func leave() { state.withLock { $0.inside -= 1 } }
    }
}
