import AegisIO
import Foundation
import LinuxSys
import Testing

/// What a daemon that is started anew knows of what was before.
@Suite(.serialized) struct RestartKeepsTests {
    /// What lies in the pool of layers with a limit, while it is mounted.
    private func layers(_ f: DaemonFixture) throws -> Set<String> {
        Set(try Files.list("/run/aegis/\(try f.node)/disks").map(\.name))
    }

    @Test func layersWithALimitGoWithTheirInstances() async throws {
        try await DaemonFixture.with { f in
            var ids: [String: String] = [:]
            func make(_ name: String) async throws {
                try await f.succeed(
                    "instance", "start", "--name", name, "--isolation", "runc", "--disk", "64Mi", "--", "sh", "-c",
                    "echo x > /workspace/x; echo x > /x; exec sleep 100000")
                ids[name] = try await f.record(name).id
            }
            for name in ["deleted", "forgotten", "unread", "kept"] { try await make(name) }
            #expect(try layers(f) == Set(ids.values))
            // The pool is mounted no more, nor would it be after the host has started anew.
            try await f.succeed("down")
            try await f.up()
            #expect(!Files.exists("/run/aegis/\(try f.node)/disks"))
            try await f.succeed("instance", "delete", "deleted")
            ids["deleted"] = nil
            #expect(try layers(f) == Set(ids.values))
            // What an earlier release has left goes once the pool is mounted, and nothing of a record that cannot be read.
            try await f.succeed("down")
            _ = try await f.sql("DELETE FROM instances WHERE id = '\(try #require(ids["forgotten"]))'")
            _ = try await f.sql("UPDATE instances SET record = x'00' WHERE id = '\(try #require(ids["unread"]))'")
            ids["forgotten"] = nil
            try await f.up()
            try await make("new")
            #expect(try layers(f) == Set(ids.values))
            try await f.succeed("instance", "start", "kept")
            #expect(try await f.succeed("exec", "kept", "--", "cat", "/x", "/workspace/x").out == "x\nx\n")
        }
    }

    @Test func theFirstKeepsAPathOverARestart() async throws {
        try await DaemonFixture.with { f in
            let kit = try f.kit(
                "pathed",
                """
                  command: [sh, -c, 'mkdir /tmp/w; cd /tmp/w; echo $AEGIS_INSTANCE_NAME > index.html; exec python3 -m http.server 80']
                  expose: ["80:http"]
                  routing: { path: /notes }

                """)
            try await f.succeed("kit", "install", kit)
            let names = (1...6).map { "one-\($0)" }
            for name in names { try await f.succeed("instance", "create", "--kit", "pathed", "--name", name) }
            for (restart, expected) in [(false, names[0]), (true, names[0])] {
                if restart {
                    try await f.succeed("down")
                    try await f.up()
                }
                let router = try await f.shell("$AEGIS status | sed -n 's/^Port router: *//p'").out.dropLast()
                #expect(try await f.get("http://\(router)/notes/") == "\(expected)\n")
            }
        }
    }

    @Test func aCooldownGoesOnOverARestart() async throws {
        try await DaemonFixture.with { f in
            try await f.serve("rare", "runc", "80:http,cooldown=1h", "--idle-pause", "0s")
            try await f.serve("slow", "runc", "80:http,cooldown=1h", "--idle-pause", "0s")
            for (name, verb) in [("rare", "stop"), ("slow", "pause")] {
                #expect(try await f.get(try await f.url(name)) == "hello\n")
                try await f.eventually("nobody holds it") { try await f.aegis("instance", verb, name).code == 0 }
            }
            func refused() async throws {
                for (name, state) in [("rare", "stopped"), ("slow", "paused")] {
                    #expect(try await f.refused(try await f.url(name)) == "503 instance-cooling", "\(name)")
                    #expect(try await f.record(name).state == state)
                }
            }
            try await refused()
            try await f.crash()
            try await f.up()
            try await refused()
            try await f.succeed("instance", "resume", "slow")
            try await f.succeed("down", "--keep")
            try await f.up()
            try await f.eventually("it is paused") { try await f.aegis("instance", "pause", "slow").code == 0 }
            try await refused()
        }
    }

    @Test func eventsOfTheNextDaemonComeAfterThoseOfTheOneBefore() async throws {
        struct Event: Decodable {
            var number: UInt64
            var type: String
            var host: String?
        }
        try await DaemonFixture.with { f in
            func events(after number: UInt64) async throws -> [Event] {
                try await f.run(
                    "/usr/bin/curl",
                    ["-sS", "--unix-socket", "\(f.home)/aegisd.sock", "http://localhost/v1/events?after=\(number)"]
                ).out.split(separator: "\n").map { try JSONDecoder().decode(Event.self, from: Data($0.utf8)) }
            }
            func deny(_ host: String, after number: UInt64) async throws -> [Event] {
                try await f.succeed(
                    "exec", "box", "--", "python3", "-c",
                    "import socket\ntry:\n socket.create_connection(('\(host)', 443), 5)\nexcept OSError: pass")
                try await f.eventually("\(host) is told") {
                    try await events(after: number).contains { $0.host == host }
                }
                return try await events(after: number)
            }
            try await f.succeed("run", "-d", "--name", "box", "--allow", "allowed.example:443", "--", "sleep", "100000")
            _ = try await deny("192.0.2.7", after: 0)
            let before = try await deny("192.0.2.8", after: 0)
            let last = try #require(before.last?.number)
            #expect(try await events(after: last).isEmpty)
            try await f.crash()
            try await f.up()
            // Nobody knows what it has missed.
            #expect(try await events(after: last).first?.type == "gap")
            let after = try await deny("192.0.2.9", after: last)
            #expect(after.map(\.type).first == "gap" && after.dropFirst().allSatisfy { $0.number > last }, "\(after)")
            let newest = try #require(after.last?.number)
            #expect(try await events(after: newest).isEmpty)
            #expect(try await !events(after: 0).contains { $0.type == "gap" })
        }
    }

    @Test func denialsAreCountedOnOverARestart() async throws {
        struct Report: Decodable {
            var denials: Int
        }
        try await DaemonFixture.with { f in
            func refused() async throws -> Int {
                let report = try await f.run(
                    "/usr/bin/curl",
                    ["-sS", "--unix-socket", "\(f.home)/aegisd.sock", "http://localhost/v1/instances/box/policy"])
                let decoded = try JSONDecoder().decode(Report.self, from: Data(report.stdout))
                return decoded.denials
            }
            func deny(_ host: String) async throws {
                try await f.succeed(
                    "exec", "box", "--", "python3", "-c",
                    "import socket\ntry:\n socket.create_connection(('\(host)', 443), 5)\nexcept OSError: pass")
                try await f.eventually("\(host) is told") {
                    try await f.succeed("events", "--output", "json").out.contains(host)
                }
            }
            try await f.succeed("run", "-d", "--name", "box", "--allow", "allowed.example:443", "--", "sleep", "100000")
            try await deny("192.0.2.7")
            try await deny("192.0.2.8")
            for _ in 0..<2 {
                try await f.crash()
                try await f.up()
                // What was kept back for a moment may be lost with its daemon; what was told is not.
                #expect(try await refused() >= 2)
            }
            try await deny("192.0.2.9")
            let all = try await refused()
            #expect(all >= 3)
            // Those of a network that is opened anew are counted anew.
            try await f.succeed("instance", "restart", "box")
            #expect(try await refused() < all)
        }
    }

    @Test func publicPortsAreThereWhenTheDaemonIs() async throws {
        try await DaemonFixture.with { f in
            for number in 1...20 {
                let specs = (1...8).flatMap { ["--expose", "\($0),wake=never"] }
                try await f.succeed(words: ["instance", "create", "--name", "n\(number)"] + specs + ["--", "true"])
            }
            var ports: [Int] = []
            for number in 1...20 { ports += try await f.served("n\(number)").expose.map(\.number) }
            #expect(ports.count == 160 && !ports.contains(0))
            try await f.succeed("down")
            try await f.up()
            // From the last: the router listens in the order in which it was told of them.
            for port in ports.reversed() {
                let client = try await Connect.tcp(host: "127.0.0.1", port: UInt16(port), on: f.loop)
                client.close()
            }
        }
    }

    @Test func everyRecordOfAnAgentsSandboxNamesTheAgent() async throws {
        try await AgentSandboxTests.with { f in
            let agent = try await AgentSandboxTests.spawn(f, "'file_write: /workspace/**'")
            _ = try await AgentSandboxTests.exec(f, agent, ["true"])
            try await f.succeed("agent", "stop", agent)
            struct Told: Decodable {
                var kind: String
                var parent: String?
            }
            func told() async throws -> [Told] {
                try await f.succeed(
                    "audit", "tail", "--tail", "1000", "--output", "json", "--kinds",
                    "instance_created,instance_started,instance_ended,instance_deleted"
                ).out.split(separator: "\n").map { try JSONDecoder().decode(Told.self, from: Data($0.utf8)) }
            }
            try await f.eventually("its sandbox is gone") {
                try await told().contains { $0.kind == "instance_deleted" }
            }
            let all = try await told()
            #expect(all.allSatisfy { $0.parent == agent }, "\(all)")
        }
    }
}
