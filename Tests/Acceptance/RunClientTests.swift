import AegisIO
import Foundation
import LinuxSys
import Testing

/// `run`: its exit codes, its bounds, and that nothing stays behind.
@Suite(.serialized) struct RunClientTests {
    @Test(arguments: backends) func exitCodesAreTheCommandsOwn(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            for (script, code) in [("exit 0", 0), ("exit 42", 42), ("kill -9 $$", 137), ("kill -15 $$", 143)] {
                let result = try await f.aegis("run", "--isolation", backend, "--", "sh", "-c", script)
                #expect(result.code == Int32(code) && result.err.isEmpty, "\(script): \(result)")
            }
            try await f.refuse("run", "--isolation", backend, "--", "no-such", code: 127, error: "command-not-found")
            try await f.refuse("run", "--isolation", backend, "--", "/etc", code: 126, error: "command-not-executable")
            let late = try await f.aegis("run", "--isolation", backend, "--timeout", "300ms", "--", "sleep", "100")
            #expect(late.code == 124, "\(late)")
        }
    }

    @Test(arguments: backends) func limitsHoldAndAreSaid(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let memory = try await f.aegis(
                "run", "--isolation", backend, "--memory", "64Mi", "--", "python3", "-c", "bytearray(300 << 20)")
            #expect(memory.code == 137 && memory.err.contains("(out-of-memory)"), "\(memory)")
            let forks = "import subprocess as s\nfor i in range(40): s.Popen(['sleep', '1000'])"
            let pids = try await f.aegis(
                "run", "--isolation", backend, "--pids", "16", "--", "python3", "-c", forks)
            #expect(pids.code == 1 && pids.err.contains("BlockingIOError"), "\(pids)")
            let disk = try await f.aegis(
                "run", "--isolation", backend, "--disk", "20Mi", "--", "sh", "-c",
                "head -c 60000000 /dev/zero > /root/x")
            #expect(disk.code == 1, "\(disk)")
            // A workspace of the instance's own counts, and what it holds comes home all the same.
            let home = f.path("limited-\(backend)")
            let workspace = try await f.aegis(
                "run", "--isolation", backend, "--disk", "20Mi", "--artifacts", home, "--", "sh", "-c",
                "mkdir output; echo made > output/file; head -c 60000000 /dev/zero > /workspace/x && exit 7; rm x")
            #expect(workspace.code == 0, "\(workspace)")
            #expect(try String(contentsOfFile: "\(home)/file", encoding: .utf8) == "made\n")
            // Files that Aegis writes inside are the layer's, too.
            let hosts = try await f.aegis(
                "run", "--isolation", backend, "--disk", "20Mi", "--", "sh", "-c",
                "head -c 60000000 /dev/zero > /etc/hosts")
            #expect(hosts.code == 1, "\(hosts)")
        }
    }

    @Test(arguments: backends) func ctrlCStopsAndLeavesNothing(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "interrupted-\(backend)"
            let run = try f.begin("run", "--name", name, "--isolation", backend, "--", "sleep", "1000")
            let id = try await running(f, name)
            _ = run.child.signal(2)
            let result = try await run.result()
            #expect(result.code == 130 && result.out.isEmpty, "\(result)")
            try expectNothing(f, id)
            try await f.refuse("instance", "info", name, code: 4, error: "instance-not-found")
        }
    }

    @Test(arguments: backends) func aKilledClientTakesItsInstanceAlong(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "orphan-\(backend)"
            let run = try f.begin("run", "--name", name, "--isolation", backend, "--", "sleep", "1000")
            let id = try await running(f, name)
            _ = run.child.signal(9)
            _ = try await run.result()
            try await f.eventually("it is gone") {
                try await f.aegis("instance", "info", name).code == 4
            }
            try expectNothing(f, id)
        }
    }

    @Test func whatIsMalformedIsAUsageError() async throws {
        try await DaemonFixture.shared { f in
            let wrong: [[String]] = [
                ["run", "--memroy", "1Gi", "--", "true"], ["run", "--memory", "lots", "--", "true"],
                ["run", "--memory", "-1", "--", "true"], ["run", "--env", "=x", "--", "true"],
                ["run", "--env", "1BAD=x", "--", "true"], ["run", "--expose", "http:80", "--", "true"],
                ["run", "--expose", "99999", "--", "true"], ["run", "--cpus", "none", "--", "true"],
                ["run", "--pids", "0", "--", "true"], ["run", "--timeout", "soon", "--", "true"],
                ["run", "--isolation", "rnc", "--", "true"], ["run", "--min-isolation", "strong", "--", "true"],
                ["run", "--mount", "relative", "--", "true"], ["run", "--name", "Not Valid", "--", "true"], ["run"],
                ["instance", "lst"], ["logs", "x", "--tail", "many"],
            ]
            for arguments in wrong {
                let result = try await f.run(DaemonFixture.cli, arguments)
                #expect(result.code == 2 && !result.err.isEmpty && result.out.isEmpty, "\(arguments): \(result)")
            }
            try await f.refuse("run", "--secret", "absent", "--", "true", code: 125, error: "secret-not-found")
            try await f.refuse("run", "--workspace", "/no/such/place", "--", "true", code: 125, error: "path-not-found")
            try await f.refuse("run", "--workspace", "/etc/passwd", "--", "true", code: 125, error: "not-a-directory")
            let isolation = try await f.aegis(
                "run", "--isolation", "runc", "--min-isolation", "hardware-vm", "--", "true")
            #expect(isolation.code == 125 && isolation.err.contains("namespaces"), "\(isolation)")
            let firecracker = try await f.aegis("run", "--isolation", "firecracker", "--", "true")
            #expect(firecracker.code == 125, "\(firecracker)")
        }
    }

    private func running(_ f: DaemonFixture, _ name: String) async throws -> String {
        try await f.eventually("\(name) runs") { try await f.aegis("instance", "info", name).out.contains("running") }
        return try await f.record(name).id
    }

    private func expectNothing(_ f: DaemonFixture, _ id: String) throws {
        #expect(try f.processes(of: id).isEmpty)
        #expect(!FileManager.default.fileExists(atPath: "/run/aegis/\(try f.node)/\(id)"))
        #expect(!FileManager.default.fileExists(atPath: "\(f.home)/instances/\(id)"))
    }
}
