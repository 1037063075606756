import AegisIO
import Foundation
import LinuxSys
import Testing

/// Runs that another daemon goes on with than the one that began them.
@Suite(.serialized) struct RestartRunTests {
    /// Has all that the daemon was killed for been long ago.
    private func longAgo(_ f: DaemonFixture) async throws {
        _ = try await f.sql(
            """
            UPDATE instances SET record = CAST(json_set(CAST(record AS TEXT),
            '$.info.started_at', '2020-01-01T00:00:00.000Z') AS BLOB)
            """)
    }

    /// What a file in the shared workspace says; nil when there is none.
    private func said(_ f: DaemonFixture, _ name: String) -> String? {
        try? String(contentsOfFile: "\(f.home)/workspaces/shared/\(name)", encoding: .utf8)
    }

    private func tell(_ f: DaemonFixture, _ name: String) {
        #expect(FileManager.default.createFile(atPath: "\(f.home)/workspaces/shared/\(name)", contents: nil))
    }

    /// The command ended in its time; the daemon comes after that time.
    @Test func whatEndedInTimeIsNoTimeout() async throws {
        try await DaemonFixture.with { f in
            try await f.succeed(
                "instance", "start", "--name", "timely", "--isolation", "runc", "--workspace", "shared", "--timeout",
                "1h", "--allow", "allowed.example", "--", "sh", "-c",
                "until [ -e go ]; do sleep 0.05; done; echo done; exit 7")
            try await f.succeed(
                "instance", "start", "--name", "late", "--isolation", "runc", "--workspace", "shared", "--timeout",
                "1h", "--", "sleep", "100000")
            let id = try await f.record("timely").id
            // The command, what it waits with, and the harness.
            try await f.eventually("it waits") { try f.processes(of: id).count == 3 }
            try await f.crash()
            tell(f, "go")
            try await f.eventually("its command has ended") { try f.processes(of: id).count == 1 }
            try await longAgo(f)
            try await f.up()
            for (name, code, reason) in [("timely", 7, "exited"), ("late", 124, "timeout")] {
                try await f.eventually("\(name) is settled") { try await f.record(name).state == "stopped" }
                let record = try await f.record(name)
                #expect(record.exitCode == Int32(code) && record.stopReason == reason, "\(record)")
            }
            #expect(try await f.succeed("logs", "timely").out == "done\n")
        }
    }

    /// Until its kit says that all is well, an instance is starting, whichever daemon began that.
    @Test func aKitsHealthAndHooksAreGoneOnWith() async throws {
        try await DaemonFixture.with { f in
            let kit = try f.kit(
                "careful",
                """
                  command: [sh, -c, 'echo run >> runs; exec sleep 100000']
                  workdir: /workspace
                  health: { exec: [test, -e, /workspace/well], interval: 100ms, timeout: 30m }
                  hooks: { after: [{ run: [sh, -c, 'echo after >> afters'] }] }

                """)
            try await f.succeed("kit", "install", kit)
            let start = try f.begin("instance", "start", "--kit", "careful", "--name", "it", "--workspace", "shared")
            try await f.eventually("its command runs") { said(f, "runs") == "run\n" }
            #expect(try await f.record("it").state == "starting")
            try await f.crash()
            _ = start.child.signal(9)
            _ = try await start.result()
            try await f.up()
            #expect(try await f.record("it").state == "starting")
            #expect(said(f, "afters") == nil)
            tell(f, "well")
            try await f.eventually("it is well") { try await f.record("it").state == "running" }
            #expect(said(f, "runs") == "run\n" && said(f, "afters") == "after\n")
            // What was said is not said again.
            try await f.crash()
            try await f.up()
            #expect(try await f.record("it").state == "running")
            #expect(said(f, "afters") == "after\n")
        }
    }

    /// One that gets well no more is no success, either.
    @Test func aKitsHealthThatFailsAfterARestartEndsTheStart() async throws {
        try await DaemonFixture.with { f in
            let kit = try f.kit(
                "doomed",
                """
                  command: [sh, -c, 'echo run >> runs; exec sleep 100000']
                  workdir: /workspace
                  hooks: { after: [{ run: [sh, -c, 'echo hook >> hooks; until [ -e on ]; do sleep 0.05; done; exit 3'], timeout: 30m }] }

                """)
            try await f.succeed("kit", "install", kit)
            let start = try f.begin("instance", "start", "--kit", "doomed", "--name", "it", "--workspace", "shared")
            try await f.eventually("its hook runs") { said(f, "hooks") == "hook\n" }
            try await f.crash()
            _ = start.child.signal(9)
            _ = try await start.result()
            try await f.up()
            try await f.eventually("its hook runs again") { said(f, "hooks") == "hook\nhook\n" }
            tell(f, "on")
            try await f.eventually("it is settled") { try await f.record("it").state == "stopped" }
            let told = try await f.succeed("instance", "info", "it", "--output", "json")
            #expect(told.out.contains("hook-failed") && told.out.contains("boot-failed"), "\(told)")
        }
    }

    /// The daemon dies while the hooks before a command run: the next one starts it, and it has all that it would have had.
    @Test func aCommandOfTheNextDaemonHasItsBrokeredSecrets() async throws {
        try await DaemonFixture.with { f in
            let kit = try f.kit(
                "slow",
                """
                  command: [sh, -c, 'env; exec sleep 100000']
                  workdir: /workspace
                  hooks: { before: [{ run: [sh, -c, 'echo hook >> hooks; until [ -e go ]; do sleep 0.05; done'], timeout: 30m }] }

                """)
            try await f.succeed("kit", "install", kit)
            try await f.succeed("secret", "set", "KEY", "-", input: Array("real-value-123".utf8))
            let start = try f.begin(
                "instance", "start", "--kit", "slow", "--name", "it", "--workspace", "shared", "--secret",
                "KEY@web.example")
            try await f.eventually("its hook runs") { said(f, "hooks") == "hook\n" }
            try await f.crash()
            _ = start.child.signal(9)
            _ = try await start.result()
            try await f.up()
            try await f.eventually("its hook runs again") { said(f, "hooks") == "hook\nhook\n" }
            tell(f, "go")
            try await f.eventually("its command runs") { try await f.succeed("logs", "it").out.contains("HOME=") }
            let environment = try await f.succeed("logs", "it").out
            #expect(environment.contains("\nKEY=AegisSecret"), "\(environment)")
            #expect(environment.contains("SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"), "\(environment)")
        }
    }

    /// An end that a daemon finds when it starts is in the ledger as any other.
    @Test func endsThatAreFoundAreInTheLedger() async throws {
        try await DaemonFixture.with { f in
            var ids: [String: String] = [:]
            for name in ["lost", "over", "rebooted"] {
                try await f.succeed("run", "-d", "--name", name, "--isolation", "runc", "--", "sleep", "100000")
                ids[name] = try await f.record(name).id
            }
            try await f.succeed("instance", "create", "--name", "twice", "--isolation", "runc", "--", "sleep", "1000")
            ids["twice"] = try await f.record("twice").id
            let keepers = try await ["lost", "over", "rebooted"].asyncMap { name in
                try await f.sandbox(of: try #require(ids[name])).keeperPid
            }
            let boot = try await f.sandbox(of: try #require(ids["rebooted"])).bootID
            try await f.crash()
            for name in ["lost", "over", "rebooted"] {
                for pid in try f.processes(of: try #require(ids[name])) { kill(pid, SIGKILL) }
            }
            for keeper in keepers { kill(keeper, SIGKILL) }
            try await f.edit(
                "\"state\":\"running\"", "\"state\":\"stopping\",\"exit_code\":9,\"stop_reason\":\"exited\"",
                of: ids["over"])
            try await f.edit("\"bootID\":\"\(boot)\"", "\"bootID\":\"another\"", of: ids["rebooted"])
            try await f.edit(
                "\"version\":1", "\"version\":1,\"isSecondTry\":true,\"intent\":{\"verb\":\"start\"}", of: ids["twice"])
            try await f.up()
            for (name, reason) in [
                ("lost", "lost"), ("over", "exited"), ("rebooted", "host-restart"), ("twice", "lost"),
            ] {
                #expect(try await f.record(name).stopReason == reason, "\(name)")
                let told = try await f.succeed(
                    "audit", "tail", "--tail", "1000", "--kinds", "instance_ended", "--agent", try #require(ids[name]),
                    "--output", "json"
                ).out.split(separator: "\n")
                #expect(told.count == 1 && told[0].contains("\"\(reason)\""), "\(name): \(told)")
            }
        }
    }

    /// A quick crash while no daemon runs is no long life, whenever it is found.
    @Test func aCrashThatIsFoundLateForgetsNoOthers() async throws {
        try await DaemonFixture.with { f in
            try await f.succeed(
                "instance", "start", "--name", "crashing", "--isolation", "runc", "--workspace", "shared", "--", "sh",
                "-c", "while [ -e wait ]; do sleep 0.05; done; exit 1")
            func crashes() async throws -> String {
                try await f.sql("SELECT json_array_length(CAST(record AS TEXT), '$.crashes') FROM instances")
            }
            try await f.eventually("it is down") { try await f.record("crashing").state == "stopped" }
            #expect(try await crashes() == "1\n")
            tell(f, "wait")
            try await f.succeed("instance", "start", "crashing")
            let id = try await f.record("crashing").id
            try await f.crash()
            try Files.removeFile("\(f.home)/workspaces/shared/wait")
            // The harness stays.
            try await f.eventually("its command has ended") { try f.processes(of: id).count == 1 }
            try await longAgo(f)
            try await f.up()
            try await f.eventually("it is down") { try await f.record("crashing").state == "stopped" }
            #expect(try await f.record("crashing").stopReason == "exited")
            #expect(try await crashes() == "1\n")
        }
    }
}

extension Array {
    fileprivate func asyncMap<T>(_ body: (Element) async throws -> T) async throws -> [T] {
        var all: [T] = []
        for one in self { all.append(try await body(one)) }
        return all
    }
}
