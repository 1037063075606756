import AegisIO
import Foundation
import LinuxSys
import Testing

/// What a daemon that comes after a crash knows and goes on with.
@Suite(.serialized) struct RecoveryTests {
    @Test(arguments: backends) func theSecretsOfARunAreHiddenWhoeverStoresItsOutput(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            let (first, second) = (try "frst" + Random.hex(bytes: 12), try "scnd" + Random.hex(bytes: 12))
            try await f.succeed("secret", "set", "TOK", "-", input: Array(first.utf8))
            try await f.succeed(
                "run", "-d", "--secret", "TOK", "--name", "sec", "--isolation", backend, "--", "sh", "-c",
                "n=0; while :; do n=$((n+1)); echo \"v$n=$TOK\"; cat new 2>/dev/null; sleep 0.1; done")
            func nothingLeaks(_ when: String) async throws {
                let before = try await f.succeed("logs", "sec").out.split(separator: "\n").count
                try await f.eventually("more output") {
                    try await f.succeed("logs", "sec").out.split(separator: "\n").count > before + 3
                }
                let logs = try await f.succeed("logs", "sec").out
                #expect(logs.contains("=***") && !logs.contains(first) && !logs.contains(second), "\(when): \(logs)")
                let found = try await f.shell(
                    "grep -rlaF --devices=skip -e \(first) -e \(second) '\(f.home)/logs' '\(f.home)'/aegis.db*")
                #expect(found.out.isEmpty, "\(when): \(found)")
            }
            try await nothingLeaks("before")
            try await f.crash()
            try await f.up()
            try await nothingLeaks("after a crash")
            #expect(try await f.succeed("exec", "sec", "--", "printenv", "TOK").out == first + "\n")

            // After a rotation old and new are hidden, in the output of old and new processes.
            try await f.succeed("secret", "set", "TOK", "-", input: Array(second.utf8))
            let exec = try await f.succeed(
                "exec", "sec", "--", "sh", "-c", "echo $TOK | tee new; tr '\\0' '\\n' < /proc/1/environ; echo \(first)")
            #expect(exec.out.contains(second) && exec.out.contains(first), "\(exec)")
            try await nothingLeaks("after a rotation")
            try await f.crash()
            try await f.up()
            try await nothingLeaks("after a rotation and a crash")

            // A deleted secret is in the running processes still.
            try await f.succeed("secret", "delete", "TOK")
            #expect(try await f.succeed("exec", "sec", "--", "printenv", "TOK").out == second + "\n")
            try await f.crash()
            try await f.up()
            try await nothingLeaks("after a deletion and a crash")
            #expect(try await f.succeed("exec", "sec", "--", "printenv", "TOK").out == second + "\n")
            try await f.refuse("instance", "restart", "sec", code: 4, error: "secret-not-found")
            // It runs on, with what it has, until it is stopped.
            #expect(try await f.sql("SELECT count(*) FROM instance_secrets") == "1\n")
            #expect(try await f.succeed("exec", "sec", "--", "printenv", "TOK").out == second + "\n")
            try await f.succeed("instance", "stop", "sec")
            let kept = try await f.sql("SELECT count(*) FROM instance_secrets")
            #expect(kept == "0\n", "what was sealed goes with the run")
        }
    }

    @Test func outputWhoseSecretsNobodyKnowsIsWithheld() async throws {
        try await DaemonFixture.with { f in
            let canary = try "cnry" + Random.hex(bytes: 12)
            try await f.succeed("secret", "set", "TOK", "-", input: Array(canary.utf8))
            try await f.succeed(
                "run", "-d", "--secret", "TOK", "--name", "sec", "--isolation", "runc", "--", "sh", "-c",
                "while :; do echo $TOK; sleep 0.1; done")
            try await f.crash()
            _ = try await f.sql("UPDATE instance_secrets SET sealed = x'00'")
            try await f.up()
            try await f.eventually("it says so") { try await f.succeed("logs", "sec").out.contains("withheld") }
            #expect(try await !f.succeed("logs", "sec").out.contains(canary))
        }
    }

    @Test(arguments: backends) func anExitCodeOutlivesTheDaemonWheneverItDies(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            for delay in [330, 380, 420, 450, 480, 520] {
                let name = "code-\(delay)"
                try await f.succeed(
                    "run", "-d", "--name", name, "--isolation", backend, "--", "sh", "-c", "sleep 0.4; exit 7")
                // The moment is the point of the test.
                try await Task.sleep(for: .milliseconds(delay))
                try await f.crash()
                try await f.up()
                try await f.eventually("it is stopped") { try await f.record(name).state == "stopped" }
                let record = try await f.record(name)
                #expect(record.exitCode == 7 && record.stopReason == "exited", "\(delay): \(record)")
            }
        }
    }

    @Test func anEndThatCannotBeSavedKeepsTheKeeper() async throws {
        try await DaemonFixture.with { f in
            // As a full disk does, for this one record.
            _ = try await f.sql(
                """
                CREATE TRIGGER full BEFORE UPDATE ON instances WHEN CAST(NEW.record AS TEXT) LIKE '%"exit_code":7%'
                BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END
                """)
            func ended(_ name: String) async throws {
                try await f.succeed(
                    "run", "-d", "--name", name, "--isolation", "runc", "--", "sh", "-c", "echo last; sleep 0.3; exit 7"
                )
                try await f.eventually("it ends") { try await f.record(name).state == "stopping" }
            }
            try await ended("waiting")
            try await ended("orphaned")
            let id = try await f.record("orphaned").id
            let keeper = try await f.sandbox(of: id).keeperPid
            let place = "/run/aegis/\(try f.node)/\(id)"
            #expect(Files.exists("/proc/\(keeper)") && Files.exists(place))
            try await f.crash()
            #expect(Files.exists("/proc/\(keeper)"), "nobody else knows how it ended")
            try await f.up()
            #expect(try await f.record("waiting").state == "stopping")
            _ = try await f.sql("DROP TRIGGER full")
            for name in ["waiting", "orphaned"] {
                try await f.eventually("it is settled") { try await f.record(name).state == "stopped" }
                let record = try await f.record(name)
                #expect(record.exitCode == 7 && record.stopReason == "exited", "\(record)")
                #expect(try await f.succeed("logs", name).out == "last\n")
            }
            #expect(!Files.exists(place), "now it may go")
        }
    }

    @Test func aSavedEndStandsWhenTheKeeperIsGone() async throws {
        try await DaemonFixture.with { f in
            try await f.succeed("run", "-d", "--name", "over", "--isolation", "runc", "--", "sleep", "1000")
            let id = try await f.record("over").id
            let keeper = try await f.sandbox(of: id).keeperPid
            try await f.crash()
            for pid in try f.processes(of: id) { kill(pid, SIGKILL) }
            kill(keeper, SIGKILL)
            try await f.edit(
                "\"state\":\"running\"", "\"state\":\"stopping\",\"exit_code\":9,\"stop_reason\":\"exited\"")
            try await f.up()
            let record = try await f.record("over")
            #expect(record.state == "stopped" && record.exitCode == 9 && record.stopReason == "exited", "\(record)")
        }
    }

    @Test func whatWasAskedForIsDoneByTheNextDaemon() async throws {
        try await DaemonFixture.with { f in
            // Deaf to SIGTERM: the whole grace is there to crash in.
            for name in ["delete", "stop", "restart"] {
                try await f.succeed(
                    "run", "-d", "--name", name, "--isolation", "runc", "--", "sh", "-c",
                    "trap '' TERM; echo run; while :; do sleep 0.1; done")
            }
            let asked = try ["delete", "stop", "restart"].map { try f.begin("instance", $0, $0) }
            try await f.eventually("they go down") { try await f.list().allSatisfy { $0.state == "stopping" } }
            try await f.crash()
            for command in asked { _ = command.child.signal(9) }
            try await f.up()
            try await f.eventually("it is gone") { try await !f.list().contains { $0.name == "delete" } }
            try await f.eventually("it is stopped") { try await f.record("stop").state == "stopped" }
            #expect(try await f.record("stop").stopReason == "stopped")
            try await f.eventually("it runs again") {
                guard try await f.record("restart").state == "running" else { return false }
                return try await f.succeed("logs", "restart").out == "run\nrun\n"
            }
            for command in asked { _ = try? await command.result() }
        }
    }

    @Test func aStartThatWasPromisedIsMadeUpFor() async throws {
        try await DaemonFixture.with { f in
            try await f.succeed("instance", "create", "--name", "first", "--isolation", "runc", "--", "sleep", "1000")
            try await f.succeed("instance", "create", "--name", "twice", "--isolation", "runc", "--", "sleep", "1000")
            let twice = try await f.record("twice").id
            try await f.crash()
            // As the record is when the daemon dies right after it has made it; the other one was tried again already.
            try await f.edit("\"version\":1", "\"version\":1,\"intent\":{\"verb\":\"start\"}")
            try await f.edit("\"version\":1", "\"version\":1,\"isSecondTry\":true", of: twice)
            try await f.up()
            try await f.eventually("it runs") { try await f.record("first").state == "running" }
            let lost = try await f.succeed("instance", "info", "twice", "--output", "json")
            #expect(lost.out.contains("start-lost") && lost.out.contains("\"stopped\""), "\(lost)")
            try await f.succeed("instance", "start", "twice")
        }
    }

    @Test func crashesOfBeforeCount() async throws {
        try await DaemonFixture.with { f in
            try await f.succeed("instance", "start", "--name", "crashing", "--isolation", "runc", "--", "false")
            for _ in 0..<4 { try await f.succeed("instance", "start", "crashing") }
            try await f.eventually("the fifth ends") { try await f.record("crashing").state == "stopped" }
            try await f.crash()
            try await f.up()
            try await f.refuse("instance", "start", "crashing", code: 5, error: "crash-loop")
        }
    }
}

extension DaemonFixture {
    /// Runs a statement on the daemon's database.
    func sql(_ statement: String) async throws -> String {
        let result = try await run("/usr/bin/sqlite3", ["-cmd", ".timeout 5000", "\(home)/aegis.db", statement])
        try #require(result.code == 0, "\(result)")
        return result.out
    }

    /// Changes a text in the records of instances while no daemon runs.
    func edit(_ old: String, _ new: String, of id: String? = nil) async throws {
        let which = id.map { " WHERE id = '\($0)'" } ?? ""
        _ = try await sql(
            "UPDATE instances SET record = CAST(replace(CAST(record AS TEXT), '\(old)', '\(new)') AS BLOB)\(which)")
    }
}
