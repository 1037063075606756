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

    /// The next daemon lets members of groups go on before it has taken over any of them: those who ran, each as itself. What only
    /// a record says, or says by now of a port that is another's, is let through once it has been joined.
    @Test func membersGoOnAsTheyWere() async throws {
        try await Self.withTwo { first, scope, second, loop in
            let policy = try NetworkPolicy(NetworkRequest(group: "shop", allow: ["a.example"]))
            func member(_ number: Int) -> NetworkMember {
                NetworkMember(id: "i-000000000000000\(number)", name: "m\(number)", owner: 0)
            }
            var linked: [(place: NetworkService.Place, holder: ChildProcess, namespace: SharedNamespace)] = []
            for number in 0..<3 {
                let (holder, namespace) = try await Self.namespace(on: loop)
                let place = try await first.reserve(member(number), policy)
                try await first.attach(
                    member(number), place, policy: policy, inspection: nil, namespace: namespace.raw,
                    observer: Listener())
                linked.append((place, holder, namespace))
            }
            await first.close(keeping: true)
            await scope.end()
            func pins() async throws -> [String] {
                let set = try await Self.run(
                    [
                        "--net=\(second.path)", "/usr/sbin/nft", "list", "set", "bridge",
                        GatewayRules.table(second.node),
                        "ports",
                    ], on: loop)
                return set.split(whereSeparator: { "{},\n".contains($0) }).filter { $0.contains(" . 02:ab:") }.map {
                    $0.trimmingPrefix { $0.isWhitespace }.split(separator: " ").joined(separator: " ")
                }.sorted()
            }
            func pin(_ index: UInt32, _ number: UInt32) -> String {
                let port = GatewayRules.port(second.node, index)
                return "\"\(port)\" . 02:ab:c6:13:00:0\(number) . 198.19.0.\(number)"
            }
            #expect(try await pins() == [pin(0, 1), pin(1, 2), pin(2, 3)])
            // One whose record has another address, and one that there never was.
            try await second.recall(member(0), policy, linked[0].place)
            try await second.recall(member(1), policy, linked[1].place)
            try await second.recall(
                member(2), policy, NetworkService.Place(index: 2, address: AddressPlan.member(9, of: 0)))
            try await second.recall(
                member(3), policy, NetworkService.Place(index: 3, address: AddressPlan.member(8, of: 0)))
            // One that is in no group: only what was loaded for the others is there.
            let (holder, namespace) = try await Self.namespace(on: loop)
            let alone = try NetworkPolicy(NetworkRequest(allow: ["a.example"]))
            let place = try await second.reserve(member(4), alone)
            try await second.attach(
                member(4), place, policy: alone, inspection: nil, namespace: namespace.raw, observer: Listener())
            #expect(try await pins() == [pin(0, 1), pin(1, 2)])
            // Whoever leaves takes what was loaded along; who is taken over, keeps it.
            try await second.attach(
                member(0), linked[0].place, policy: policy, inspection: nil, namespace: linked[0].namespace.raw,
                observer: Listener(), isTakenOver: true)
            await second.detach(member(1).id, linked[1].place)
            #expect(try await pins() == [pin(0, 1)])
            for holder in linked.map(\.holder) + [holder] {
                _ = holder.signal(9)
                _ = try await holder.wait()
            }
        }
    }
}
