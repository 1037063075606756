import AegisTestSupport
import Foundation
import Testing

/// What became of networks, in the ledger and among the events.
@Suite(.serialized) struct NetworkLedgerTests {
    /// A record as the CLI prints it for programs.
    private struct Record: Decodable {
        struct Fields: Decodable { var reason, message, done: String? }
        var kind: String
        var agent: String?
        var fields: Fields?
    }

    private static func records(_ f: DaemonFixture, _ kind: String) async throws -> [Record] {
        let result = try await f.succeed(
            "audit", "tail", "--tail", "10000", "--output", "json", "--kinds", kind)
        return try result.out.split(separator: "\n").map {
            try JSONDecoder().decode(Record.self, from: Data($0.utf8))
        }
    }

    @Test(arguments: backends) func aFailedProofIsTold(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            try await f.succeed(
                "run", "-d", "--name", "first", "--isolation", backend, "--allow", "web.example", "--", "sleep", "1000")
            let id = try await f.record("first").id
            #expect(try await Self.records(f, "policy_failed").isEmpty)
            try await ProofTests().breakRules(f, "flush chain inet aegis_\(try f.node) refuse")
            try await f.refuse(
                "instance", "network", "first", "--allow", "other.example", code: 1, error: "policy-unproven")
            try await f.refuse(
                "run", "--name", "second", "--isolation", backend, "--allow", "web.example", "--", "true", code: 125,
                error: "policy-unproven")
            let told = try await Self.records(f, "policy_failed")
            #expect(told.map(\.fields?.done) == ["stopped", "not started"], "\(told)")
            #expect(told.first?.agent == id && told.last?.agent != id, "\(told)")
            for one in told {
                #expect(one.fields?.reason == "policy-unproven", "\(one)")
                #expect(one.fields?.message?.contains("does not refuse what it has to") == true, "\(one)")
            }
            let events = try await f.succeed("events")
            for name in ["first", "second"] { #expect(events.out.contains("policy-failed  \(name)"), "\(events)") }
        }
    }

    @Test(arguments: backends) func whatIsAllowedAndCannotBeReachedIsTold(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            let look = """
                import socket
                try: socket.create_connection(('none.invalid', 81), 60).recv(1)
                except OSError: pass
                """
            try await f.succeed(
                "run", "-d", "--name", "box", "--isolation", backend, "--allow", "none.invalid", "--", "sleep", "1000"
            )
            let id = try await f.record("box").id
            for _ in 1...2 { try await f.succeed("exec", "box", "--", "python3", "-c", look) }
            try await f.eventually("it is told") { try await !Self.records(f, "network_failed").isEmpty }
            let told = try await Self.records(f, "network_failed")
            #expect(told.first?.agent == id && told.first?.fields?.reason == "name-not-found", "\(told)")
            #expect(told.first?.fields?.message?.contains("none.invalid") == true, "\(told)")
        }
    }

    /// A daemon that lacks what networks are made with leaves what runs without one, and says so.
    @Test(arguments: backends) func aNetworkThatIsLostIsTold(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            try await f.succeed(
                "run", "-d", "--name", "box", "--isolation", backend, "--allow", "web.example", "--", "sleep", "100000")
            try await f.succeed(
                "run", "-d", "--name", "closed", "--isolation", backend, "--", "sleep", "100000")
            let id = try await f.record("box").id
            try await f.crash()
            let command = f.launcher + NetworkToolsTests.without("nft") + [DaemonFixture.cli, "up", "--ports", "auto"]
            let started = try await f.run(command[0], Array(command.dropFirst()))
            try #require(started.code == 0, "\(started)")
            try await f.eventually("it is told") { try await !Self.records(f, "network_lost").isEmpty }
            let told = try await Self.records(f, "network_lost")
            #expect(told.map(\.agent) == [id], "\(told)")
            #expect(told.first?.fields?.reason == "network-unavailable", "\(told)")
            #expect(told.first?.fields?.done == "goes on without a network", "\(told)")
            let events = try await f.succeed("events")
            #expect(events.out.contains("network-lost  box"), "\(events)")
            for name in ["box", "closed"] { #expect(try await f.record(name).state == "running") }
        }
    }
}
