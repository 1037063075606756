import AegisCore
import AegisIO
import AegisSandboxTypes
import AegisTestSupport
import LinuxSys
import Testing

@testable import AegisNetwork

/// What one daemon leaves to the next one of what the kernel has counted.
extension NetworkServiceTests {
    /// Whoever got through while no daemon ran is not taken over, and that is written down as long as its end may not be: a daemon
    /// that dies before then is followed by one that finds it out again.
    @Test func whatCameThroughStaysWrittenDownUntilItsEndIs() async throws {
        try await Self.withTwo { first, scope, second, loop in
            let (holder, namespace) = try await Self.namespace(on: loop)
            let member = NetworkMember(id: "i-0000000000000009", name: "nine", owner: 0)
            let policy = try NetworkPolicy(NetworkRequest(allow: ["a.example"]))
            let place = try await first.reserve(member, policy)
            try await first.attach(
                member, place, policy: policy, inspection: nil, namespace: namespace.raw, observer: Listener())
            await first.close(keeping: true)
            await scope.end()
            let file = second.marksFile(member.id)
            func written() -> CounterAccount? {
                (try? Files.read(file, limit: 64)).flatMap { CounterAccount(bytes: $0, nil) }
            }
            var account = try #require(written())
            #expect(account.untold == .none)
            account.untold.arrived = 3
            try Files.writeAtomically(file, account.bytes, mode: 0o600, synced: false)
            try await second.recall(member, policy, place)
            let error = await #expect(throws: AegisError.self) {
                try await second.attach(
                    member, place, policy: policy, inspection: nil, namespace: namespace.raw, observer: Listener(),
                    isTakenOver: true)
            }
            #expect(error?.code == "policy-unproven" && error?.message.contains("3 packets") == true, "\(error as Any)")
            #expect(written()?.untold == CounterMarks(refused: 0, arrived: 3))
            await second.detach(member.id, place)
            #expect(!Files.exists(file))
            _ = holder.signal(9)
            _ = try await holder.wait()
        }
    }
}
