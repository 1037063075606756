import AegisCapabilities
import AegisCore
import AegisIO
import AegisSandboxTypes
import AegisTestSupport
import LinuxSys
import Testing

@testable import AegisNetwork

/// What becomes of those who get through where nobody may.
extension NetworkServiceTests {
    /// Two instances with the same policy.
    private static func withTwoLinked(
        _ body: @escaping @Sendable (NetworkService, Linked, Linked, EventLoop) async throws -> Void
    ) async throws {
        let policy = try NetworkPolicy(NetworkRequest(allow: ["a.example"]))
        try await withLinked(policy) { service, one, loop in
            let two = try await link("i-0000000000000008", policy, to: service, on: loop)
            let outcome: Result<Void, any Error>
            do { outcome = .success(try await body(service, one, two, loop)) } catch { outcome = .failure(error) }
            try await two.end(service)
            try outcome.get()
        }
    }

    /// Runs a line of the shell in the gateway, as somebody does who breaks it; `$1` is the rules as they have to be.
    private static func inGateway(_ service: NetworkService, _ script: String, on loop: EventLoop) async throws {
        _ = try await run(
            ["--net=\(service.path)", "/bin/sh", "-ec", script, "sh", GatewayRules.text(node: service.node)], on: loop)
    }

    /// Somebody takes the rules away and has the gateway forward: whatever gets through ends with us, wherever it was for, and
    /// both who sent it and who could have are known for what they are at once.
    @Test func whatABrokenPolicyLetsThroughEndsInTheTrap() async throws {
        try await Self.withTwoLinked { service, one, two, loop in
            try await Self.inGateway(
                service, "/usr/sbin/nft flush ruleset; echo 1 >/proc/sys/net/ipv4/ip_forward", on: loop)
            let said = try await Self.run(
                ["-t", "\(one.holder.pid)", "-n", "/bin/bash", "-c", "exec 3<>/dev/tcp/93.184.216.34/443; cat <&3"],
                on: loop)
            #expect(Array(said.utf8) == ProofTrap.greeting)
            let sent = await one.observer.alarm()
            #expect(sent?.code == "policy-unproven")
            #expect(
                sent?.message.contains("TCP to 93.184.216.34:443 left the instance") == true,
                "\(String(describing: sent))")
            let open = await two.observer.alarm()
            #expect(open?.code == "policy-unproven")
            #expect(open?.message.contains("TCP to 192.0.2.1:443: answered") == true, "\(String(describing: open))")
            let proof = await service.proved(two.member.id).proofs.first
            let datagram = proof?.attempts.first { $0.what == "UDP to 192.0.2.1:123" }
            #expect(proof?.cause == .alarm && datagram?.outcome == "answered", "\(String(describing: proof))")
        }
    }

    /// Sends one packet; `forged` says that it is from the second instance's link.
    private static let packet = """
        import socket, struct, sys
        kind, target = sys.argv[1], ('93.184.216.34', 9999)
        if kind == 'udp': socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', target)
        elif kind == 'tcp':
            s = socket.socket(); s.setblocking(False); s.connect_ex(target)
        elif kind == 'icmp':
            echo = struct.pack('!BBHHH', 8, 0, 0xf7fd, 1, 1)
            socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).sendto(echo, target)
        else:
            udp = struct.pack('!HHHH', 4000, 9999, 8, 0)
            head = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0,
                socket.inet_aton('198.18.128.2'), socket.inet_aton(target[0]))
            socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW).sendto(head + udp, target)
        """

    /// The rules are as they have to be again, so that the next proof passes: who has used the hole does not go on all the same,
    /// and nobody can have another one stopped by its name.
    @Test(arguments: [("udp", "UDP", ":9999"), ("tcp", "TCP", ":9999"), ("icmp", "ICMP", "")])
    func aHoleThatWasOpenForAMomentIsTheEndOfWhoUsedIt(_ kind: String, _ name: String, _ port: String) async throws {
        try await Self.withTwoLinked { service, one, two, loop in
            let (table, link) = (GatewayRules.table(service.node), "\(GatewayRules.prefix(service.node))0")
            try #require(one.place.index == 0 && two.place.index == 1)
            try await Self.inGateway(
                service,
                """
                for chain in early redirected forward; do
                /usr/sbin/nft insert rule inet \(table) $chain iifname \(link) accept; done
                echo 1 >/proc/sys/net/ipv4/ip_forward
                """, on: loop)
            for kind in ["forged", kind] {
                _ = try await Self.run(
                    ["-t", "\(one.holder.pid)", "-n", "/usr/bin/python3", "-c", Self.packet, kind], on: loop)
            }
            let error = await one.observer.alarm()
            #expect(error?.code == "policy-unproven")
            #expect(
                error?.message.contains("\(name) to 93.184.216.34\(port) left the instance") == true,
                "\(String(describing: error))")
            try await Self.inGateway(
                service, "echo 0 >/proc/sys/net/ipv4/ip_forward; printf %s \"$1\" | /usr/sbin/nft -f -", on: loop)
            for linked in [one, two] { #expect(try await service.prove(linked.member.id, .random).passed) }
            #expect(two.observer.unproven.isEmpty, "\(two.observer.unproven)")
            // Once is enough.
            #expect(one.observer.unproven.count == 1, "\(one.observer.unproven)")
        }
    }
}
