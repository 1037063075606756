import AegisIO
import Foundation
import LinuxSys
import Testing

@Suite struct SecretTests {
    @Test(arguments: backends) func secretsReachTheCommandAndOnlyIt(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            let argument = try await f.aegis("secret", "set", "FIRST", "one")
            #expect(argument.code == 0 && argument.err.contains("history"), "\(argument)")
            let piped = try await f.aegis("secret", "set", "SECOND", "-", input: Array("two\n".utf8))
            #expect(piped.code == 0 && piped.err.isEmpty, "\(piped)")
            let bytes = try await f.aegis("secret", "set", "RAW", input: [0xff, 0xfe, 0x41])
            #expect(bytes.code == 0, "\(bytes)")
            let list = try await f.aegis("secret", "list", "--quiet")
            #expect(list.out == "FIRST\nRAW\nSECOND\n", "\(list)")
            for bad in [
                ["secret", "set", "bad name", "x"], ["secret", "set", "EMPTY", ""], ["secret", "set", "A=B", "x"],
            ] {
                let r = try await f.aegis(bad[0], bad[1], bad[2], bad[3])
                #expect(r.code == 2, "\(bad) \(r)")
            }
            let print = "import os; print([os.environb.get(k) for k in (b'FIRST', b'SECOND', b'RAW')])"
            let named = try await f.aegis(
                "run", "--isolation", backend, "--secret", "FIRST", "--", "python3", "-c", print)
            #expect(named.out == "[b'one', None, None]\n", "\(named)")
            let all = try await f.aegis("run", "--isolation", backend, "--secret", "*", "--", "python3", "-c", print)
            #expect(all.out == "[b'one', b'two', b'\\xff\\xfeA']\n", "\(all)")
            let none = try await f.aegis("run", "--isolation", backend, "--", "python3", "-c", print)
            #expect(none.out == "[None, None, None]\n", "\(none)")
            let over = try await f.aegis(
                "run", "--isolation", backend, "--secret", "FIRST", "--env", "FIRST=given", "--", "python3", "-c", print
            )
            #expect(over.out == "[b'given', None, None]\n", "\(over)")
            let missing = try await f.aegis("run", "--secret", "FRIST", "--", "true")
            #expect(missing.code == 125 && missing.err.contains("did you mean 'FIRST'"), "\(missing)")

            // A new value is there at the next start; a deleted secret stops the start with a clear error.
            let made = try await f.aegis(
                "run", "-d", "--name", "box", "--isolation", backend, "--secret", "FIRST", "--", "sleep", "600")
            try #require(made.code == 0, "\(made)")
            #expect(try await f.aegis("exec", "box", "--", "printenv", "FIRST").out == "one\n")
            try #require(await f.aegis("secret", "set", "FIRST", "-", input: Array("new".utf8)).code == 0)
            try #require(await f.aegis("instance", "restart", "box").code == 0)
            #expect(try await f.aegis("exec", "box", "--", "printenv", "FIRST").out == "new\n")
            try #require(await f.aegis("secret", "delete", "FIRST").code == 0)
            let gone = try await f.aegis("secret", "delete", "FIRST")
            #expect(gone.code == 4, "\(gone)")
            // One that runs is not stopped for a start that cannot be.
            try await f.refuse("instance", "restart", "box", code: 4, error: "secret-not-found")
            #expect(try await f.aegis("exec", "box", "--", "printenv", "FIRST").out == "new\n")
            _ = try await f.aegis("instance", "stop", "box")
            let start = try await f.aegis("instance", "start", "box")
            let info = try await f.aegis("instance", "info", "box", "--output", "json")
            #expect(start.code == 4 && start.err.contains("secret-not-found"), "\(start)")
            #expect(info.out.contains("secret-not-found") && info.out.contains("\"stopped\""), "\(info)")
            try #require(await f.aegis("instance", "delete", "box").code == 0)

            // Over a restart of the daemon.
            try #require(await f.aegis("down").code == 0)
            try await f.up()
            let after = try await f.aegis("run", "--secret", "SECOND", "--", "printenv", "SECOND")
            #expect(after.out == "two\n", "\(after)")
        }
    }

    /// A value that nobody could guess, used and printed by sandboxes, is nowhere on the disk, in no answer and in none of
    /// our processes' command lines, environments or core dumps.
    @Test(arguments: backends) func aPlantedCanaryIsFoundNowhere(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            let canary = try "cnry" + Random.hex(bytes: 16)
            try #require(await f.aegis("secret", "set", "CANARY", "-", input: Array(canary.utf8)).code == 0)
            let script = "while :; do echo value $CANARY here; printf %s $CANARY; sleep 1; done"
            let made = try await f.aegis(
                "run", "-d", "--name", "box", "--isolation", backend, "--secret", "CANARY", "--", "sh", "-c", script)
            try #require(made.code == 0, "\(made)")
            let attached = try await f.aegis(
                "run", "--isolation", backend, "--secret", "*", "--", "sh", "-c",
                "echo $CANARY; ulimit -c; kill -SEGV $$")
            #expect(attached.out == "\(canary)\n0\n" && attached.code == 139, "\(attached)")
            let exec = try await f.aegis("exec", "box", "--", "sh", "-c", "echo $CANARY; echo $CANARY >&2")
            #expect(exec.out == "\(canary)\n", "\(exec)")

            func search(_ when: String) async throws {
                let status = try await f.aegis("status", "--output", "json")
                let json = try #require(
                    try JSONSerialization.jsonObject(with: Data(status.stdout)) as? [String: Any])
                let run = try #require(json["run_directory"] as? String)
                let found = try await f.shell(
                    "grep -rlaF --devices=skip '\(canary)' '\(f.home)' '\(run)' /var/crash /var/lib/systemd/coredump 2>/dev/null"
                )
                #expect(found.out.isEmpty, "\(when): \(found)")
                for arguments in [
                    ["instance", "info", "box", "--output", "json"], ["logs", "box"],
                    ["secret", "list", "--output", "json"],
                    ["status", "--output", "json"], ["doctor", "--output", "json"],
                ] {
                    let answer = try await f.run(DaemonFixture.cli, arguments)
                    #expect(!answer.out.contains(canary) && !answer.err.contains(canary), "\(when) \(arguments)")
                }
                let logs = try await f.aegis("logs", "box")
                #expect(logs.out.contains("value "), "\(logs)")
            }
            try await search("running")
            try await f.crash()
            try await f.up()
            let later = try await f.aegis("exec", "box", "--", "sh", "-c", "sleep 2; echo $CANARY")
            #expect(later.out == "\(canary)\n", "\(later)")
            try await search("taken over")
            // Our processes: everything on the host whose program is ours or a runtime's, the workload's own excepted.
            let processes = try await f.shell(
                """
                cd /proc; for p in [0-9]*; do
                  case "$(readlink $p/exe)" in */aegisd|*/aegis-harness|*/runc|*/runsc)
                    echo "seen $(basename "$(readlink $p/exe)")"
                    grep -lqaF '\(canary)' $p/cmdline $p/environ 2>/dev/null && echo "LEAK $p $(tr '\\0' ' ' < $p/cmdline)";;
                  esac; done; true
                """)
            #expect(
                processes.out.contains("seen aegisd") && processes.out.contains("seen aegis-harness"), "\(processes)")
            #expect(!processes.out.contains("LEAK"), "\(processes)")
            try #require(await f.aegis("instance", "stop", "box").code == 0)
            try await search("stopped")
            try #require(await f.aegis("instance", "delete", "box").code == 0)
            // A daemon that crashes leaves no core dump, though its limit would allow one.
            let pid = try #require(f.daemonPid)
            let limit = try await f.shell("touch before; prlimit --core=unlimited:unlimited --pid \(pid)")
            try #require(limit.code == 0, "\(limit)")
            let place = try Files.readLink("/proc/\(pid)/cwd")
            // The first one may go to the language's own crash handler, which prints a backtrace and goes on.
            try #require(kill(pid, 6) == 0)
            let crash = try await f.shell(
                """
                for i in $(seq 100); do grep -q . /proc/\(pid)/cmdline 2>/dev/null || break; sleep 0.1; kill -6 \(pid); done
                grep -q . /proc/\(pid)/cmdline 2>/dev/null && echo still alive
                find '\(place)' /var/crash /var/lib/systemd/coredump -maxdepth 1 -name '*core*' -newer before 2>/dev/null
                """)
            #expect(crash.out.isEmpty, "\(crash)")
            let last = try await f.shell("grep -rlaF --devices=skip '\(canary)' '\(f.home)'")
            #expect(last.out.isEmpty, "\(last)")
        }
    }
}
