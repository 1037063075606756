import AegisTestSupport
import Foundation
import Testing

/// Network groups of several users of one daemon, who come over its socket.
@Suite struct GroupOwnerTests {
    private struct Group: Decodable {
        struct Member: Decodable { var name: String }
        var name: String
        var owner: UInt32
        var subnet: String
        var members: [Member]
        var text: String { "\(owner) \(name) \(members.map(\.name).sorted().joined(separator: ","))" }
    }

    /// What `group list` shows a user.
    private func groups(_ f: DaemonFixture, as user: UInt32) async throws -> [Group] {
        let result = try await f.aegis(as: user, "group", "list", "--output", "json")
        try #require(result.code == 0, "\(result)")
        return try JSONDecoder().decode([Group].self, from: Data(result.stdout))
    }

    private func start(
        _ f: DaemonFixture, as user: UInt32, _ name: String, _ group: String, _ backend: String
    ) async throws {
        let script = "echo \(user) > /tmp/index.html; cd /tmp; exec python3 -m http.server 80"
        let result = try await f.aegis(
            as: user, "run", "-d", "--name", name, "--isolation", backend, "--group", group, "--", "sh", "-c", script)
        try #require(result.code == 0, "\(result)")
    }

    /// What a member of a user's finds at a place.
    private func look(_ f: DaemonFixture, as user: UInt32, _ name: String, at place: String) async throws -> String {
        let script = """
            import sys, time, urllib.request
            for _ in range(600):
                try: sys.exit(print(urllib.request.urlopen('http://\(place)/', timeout=20).read().decode().strip()))
                except Exception as error:
                    # The name is there before the server is.
                    if 'refused' not in str(error): sys.exit(print(error))
                    time.sleep(0.05)
            """
        return try await f.aegis(as: user, "exec", name, "--", "python3", "-c", script).out
    }

    private func refuse(
        _ f: DaemonFixture, as user: UInt32, _ command: String, code: Int32, error: String,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws -> String {
        let words = ["--reuid", "\(user)", "--regid", "\(user)", "--clear-groups", DaemonFixture.cli]
        let result = try await f.run(
            "/usr/bin/setpriv", words + command.split(separator: " ").map(String.init), directory: "/")
        #expect(
            result.code == code && result.err.contains("(\(error))"), "\(command): \(result)",
            sourceLocation: sourceLocation)
        return result.err
    }

    /// Three users, two of whom have a group of the same name: each has, sees and reaches his own.
    @Test(arguments: backends) func aUserHasHisOwnGroupsAndNoOthers(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            let (other, third) = (stranger + 1, stranger + 2)
            try await start(f, as: 0, "roots", "board", backend)
            for user in [stranger, other] {
                for name in ["db", "web"] { try await start(f, as: user, "\(name)\(user)", "shop", backend) }
            }
            for user in [stranger, other] {
                let seen = try await groups(f, as: user)
                #expect(seen.map(\.text) == ["\(user) shop db\(user),web\(user)"], "\(seen)")
                let shown = try await f.aegis(as: user, "group", "info", "shop")
                #expect(shown.code == 0 && shown.out.contains(seen[0].subnet), "\(shown)")
                // One name, two groups.
                #expect(try await look(f, as: user, "web\(user)", at: "db\(user)") == "\(user)\n")
                #expect(try await look(f, as: user, "web\(user)", at: "db\(user).shop.internal") == "\(user)\n")
            }
            let subnets = try await groups(f, as: 0)
            #expect(
                subnets.map(\.text)
                    == ["0 board roots"] + [stranger, other].map { "\($0) shop db\($0),web\($0)" }, "\(subnets)")
            #expect(Set(subnets.map(\.subnet)).count == 3, "\(subnets)")
            #expect(try await groups(f, as: third).isEmpty)
            let taken = try await refuse(
                f, as: stranger, "run --name roots --group shop -- true", code: 125, error: "name-in-use")
            #expect(taken.contains("by another user") && !taken.contains("delete"), "\(taken)")
            // What another has is not there, not even as a suggestion; root has to say whose he means.
            let hidden = try await refuse(f, as: stranger, "group info board", code: 4, error: "group-not-found")
            let near = try await refuse(f, as: stranger, "group info boar", code: 4, error: "group-not-found")
            #expect(!hidden.contains("did you mean") && !near.contains("did you mean"), "\(hidden) \(near)")
            _ = try await refuse(f, as: third, "group info shop", code: 4, error: "group-not-found")
            _ = try await refuse(f, as: 0, "group info shop", code: 5, error: "group-ambiguous")
            _ = try await refuse(
                f, as: third, "instance network roots --group mine", code: 4, error: "instance-not-found")
            // Nor is it reached, by name or by its address.
            let foreign = try await look(f, as: stranger, "web\(stranger)", at: "db\(other).shop.internal")
            #expect(foreign.contains("Name or service not known"), "\(foreign)")
            let address = try #require(subnets.last?.subnet.split(separator: "/").first).dropLast() + "1"
            let reached = try await look(f, as: stranger, "web\(stranger)", at: String(address))
            #expect(reached.contains("reset"), "\(address): \(reached)")
            // There is nothing to make or to end for anybody.
            for (method, path) in [("POST", "groups"), ("DELETE", "groups/shop")] {
                let answer = try await f.run(
                    "/usr/bin/setpriv",
                    [
                        "--reuid", "\(stranger)", "--regid", "\(stranger)", "--clear-groups", "/usr/bin/curl", "-sS",
                        "--max-time", "60", "--unix-socket", "\(f.home)/aegisd.sock", "-X", method, "-w",
                        "%{http_code}", "http://aegis/v1/\(path)",
                    ], directory: "/")
                #expect(
                    answer.out.hasSuffix("405") && answer.out.contains("made by its first member"),
                    "\(method): \(answer)")
            }
            // Gone with its last member, for him alone.
            for name in ["db", "web"] {
                let result = try await f.aegis(as: stranger, "instance", "delete", "\(name)\(stranger)")
                #expect(result.code == 0, "\(result)")
            }
            #expect(try await groups(f, as: stranger).isEmpty)
            let left = try await f.aegis(as: 0, "group", "info", "shop")
            #expect(left.code == 0 && left.out.contains("Owner:    uid \(other)"), "\(left)")
        }
    }
}
