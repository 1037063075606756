import AegisTestSupport
import Foundation
import Testing

/// Sandboxes of instances that are made ready after a stop for want of use.
extension WarmTests {
    /// What the record says of it.
    private struct Sleeper: Decodable {
        struct Idle: Decodable { var standby: Bool? }
        var id: String
        var state: String
        var standby: String?
        var obstacle: String?
        var idle: Idle?
        private enum CodingKeys: String, CodingKey {
            case id, state, standby, idle
            case obstacle = "standby_obstacle"
        }
    }

    private func sleeper(_ f: DaemonFixture) async throws -> Sleeper {
        let json = try await f.succeed("instance", "info", "web", "--output", "json")
        return try JSONDecoder().decode(Sleeper.self, from: Data(json.stdout))
    }

    /// Starts a server that tells at each start what it sees.
    private func serve(_ f: DaemonFixture, _ backend: String, look: String = "") async throws -> String {
        let script = """
            echo run; python3 -c "$1"; echo seen >> /var/lib/kept; cp /var/lib/kept /tmp/index.html; cd /tmp; exec python3 -m http.server 80
            """
        try await f.succeed(
            words: [
                "instance", "start", "--name", "web", "--isolation", backend, "--expose", "80", "--idle-pause", "0s",
                "--idle-stop", "1h", "--idle-standby", "--", "sh", "-c", script, "sh", look,
            ])
        return try await f.url("web") + "/index.html"
    }

    private func sleepSoon(_ f: DaemonFixture) async throws {
        try await f.succeed("instance", "idle", "web", "--idle-stop", "100ms")
    }

    private func stayAwake(_ f: DaemonFixture) async throws {
        try await f.succeed("instance", "idle", "web", "--idle-stop", "1h")
    }

    /// Waits until one is ready.
    ///
    /// - Returns: its keeper, as the database has it.
    private func ready(_ f: DaemonFixture, sourceLocation: SourceLocation = #_sourceLocation) async throws -> Int32 {
        try await f.eventually("one is ready", sourceLocation: sourceLocation) {
            let seen = try await sleeper(f)
            return seen.state == "stopped" && seen.standby == "ready"
        }
        #expect(try await f.succeed("instance", "info", "web").out.contains("Standby:      ready\n"))
        #expect(try await f.succeed("status").out.contains("1 of 1 ready, "))
        let row = try await f.run(
            "/usr/bin/sqlite3", ["\(f.home)/aegis.db", "SELECT CAST(record AS TEXT) FROM instances"])
        struct Row: Decodable { var standby: SandboxRow }
        return try JSONDecoder().decode(Row.self, from: Data(row.stdout)).standby.keeperPid
    }

    /// What the server has told at each start.
    private func runs(_ f: DaemonFixture) async throws -> [[Substring]] {
        try await f.succeed("logs", "web").out.split(separator: "run\n").map { run in
            // Numbers of processes are higher where one ran before to make the kernel below ready.
            run.split(separator: "\n").filter { !$0.hasPrefix("session: ") }
        }
    }

    @Test(arguments: backends) func aSleeperWakesInTheSandboxThatWasMadeForIt(_ backend: String) async throws {
        try await DaemonFixture.with(config: Self.config("warm: {}")) { f in
            let url = try await serve(f, backend, look: Self.look)
            #expect(try await f.get(url) == "seen\n")
            // A stop that was asked for is no sleep: the start after it is whole. The one before had a new layer.
            try await f.succeed("instance", "stop", "web")
            #expect(try await sleeper(f).standby == nil)
            #expect(try await f.get(url) == "seen\nseen\n")
            try await sleepSoon(f)
            let keeper = try await ready(f)
            try await stayAwake(f)
            // Nothing of the instance's runs meanwhile.
            #expect(try await runs(f).count == 2)
            #expect(try await f.get(url) == "seen\nseen\nseen\n")
            let id = try await sleeper(f).id
            #expect(try await f.sandbox(of: id).keeperPid == keeper)
            // What it has written takes another way than what it answers.
            try await f.eventually("the third has said all") {
                let all = try await runs(f)
                return all.count == 3 && all[2].count >= all[1].count
            }
            let all = try await runs(f)
            try #require(all.count == 3 && all[1].count > 100)
            #expect(all[2].difference(from: all[1]).map { "\($0)" }.joined(separator: "; ") == "")
            // It is one of its own each time.
            try await sleepSoon(f)
            let next = try await ready(f)
            #expect(next != keeper)
            // What touches the files on the host does so alone, and one is made again afterwards.
            try await f.succeed("cp", "/etc/hostname", "web:/workspace/x")
            let third = try await ready(f)
            #expect(third != next)
            try await f.succeed("instance", "idle", "web", "--idle-standby=off")
            #expect(try await sleeper(f).standby == nil && !f.isThere(third))
            try await f.succeed("instance", "idle", "web", "--idle-standby")
            let last = try await ready(f)
            try await f.succeed("instance", "delete", "web")
            #expect(!f.isThere(last))
            #expect(try remains(f) == [])
        }
    }

    @Test(arguments: backends) func whatADaemonThatWasKilledHadReadyIsGone(_ backend: String) async throws {
        try await DaemonFixture.with(config: Self.config("warm: {}")) { f in
            let url = try await serve(f, backend)
            #expect(try await f.get(url) == "seen\n")
            try await sleepSoon(f)
            let keeper = try await ready(f)
            try await stayAwake(f)
            try await f.crash()
            #expect(f.isThere(keeper))
            try await f.up()
            #expect(!f.isThere(keeper))
            try await f.succeed("instance", "start", "web")
            #expect(try await f.get(url) == "seen\nseen\n")
            try await sleepSoon(f)
            let second = try await ready(f)
            // With a daemon that ends as it should nothing is left either; the next makes one again.
            try await f.succeed("down")
            #expect(!f.isThere(second))
            try await f.up()
            _ = try await ready(f)
            try await f.succeed("instance", "delete", "web")
            #expect(try remains(f) == [])
        }
    }

    /// Clients come while it is being made, and while it is not wanted any more.
    @Test(arguments: backends) func aClientMayComeWhileItIsBeingMade(_ backend: String) async throws {
        try await DaemonFixture.with(config: Self.config("warm: {}")) { f in
            let url = try await serve(f, backend)
            // Else its first start may be over before it has come to that.
            #expect(try await f.get(url) == "seen\n")
            try await sleepSoon(f)
            var starts = 0
            for round in 1...4 {
                let seen = try await f.get(url).split(separator: "\n").count
                #expect(seen > starts)
                starts = seen
                try await f.eventually("it sleeps") { try await sleeper(f).state == "stopped" }
                if round == 2 {
                    try await f.eventually("one is made") { try await sleeper(f).standby != "waiting" }
                }
                if round == 3 { try await f.succeed("instance", "network", "web", "--network", "none") }
                if round == 4 { try await f.succeed("instance", "idle", "web", "--idle-standby") }
            }
            #expect(try await f.hasRun("web", starts))
            try await f.succeed("instance", "delete", "web")
            #expect(try remains(f) == [])
        }
    }

    @Test(arguments: backends) func itIsSaidWhyThereIsNone(_ backend: String) async throws {
        try await DaemonFixture.with(config: Self.config("warm: {}, warm_memory: 1Mi")) { f in
            let url = try await serve(f, backend)
            // Else its first start may be over before it has come to that.
            #expect(try await f.get(url) == "seen\n")
            try await sleepSoon(f)
            try await f.eventually("it is said why") {
                try await sleeper(f).obstacle?.contains("of the 1 MiB that it may") ?? false
            }
            #expect(try await sleeper(f).standby == "waiting")
            #expect(try await f.get(url) == "seen\nseen\n")
            try await f.refuse(
                "run", "--expose", "80", "--idle-standby", "--", "true", code: 2, error: "invalid-argument")
        }
    }
}

extension DaemonFixture {
    /// Whether a process lives.
    fileprivate func isThere(_ pid: Int32) -> Bool {
        guard let status = try? kernelText("/proc/\(pid)/stat"), let name = status.lastIndex(of: ")") else {
            return false
        }
        return !status[name...].hasPrefix(") Z")
    }
}
