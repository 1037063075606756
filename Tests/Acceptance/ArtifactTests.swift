import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

@Suite struct ArtifactTests {
    @Test(arguments: backends) func artifactsComeHomeHoweverTheCommandEnds(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            let make = "mkdir -p output/sub; echo r > output/report; echo s > output/sub/s; echo x > extra"
            let ok = try await f.aegis(
                "run", "--isolation", backend, "--artifacts", "out", "--artifact", "extra", "--artifact",
                "output/report:named.txt", "--", "sh", "-c", make, directory: f.path("."))
            #expect(ok.code == 0 && ok.out.isEmpty && ok.err.contains("->"), "\(ok)")
            #expect(f.text(f.path("out/report")) == "r\n" && f.text(f.path("out/sub/s")) == "s\n", "\(ok)")
            #expect(f.text(f.path("extra")) == "x\n" && f.text(f.path("named.txt")) == "r\n", "\(ok)")
            let failed = try await f.aegis(
                "run", "--isolation", backend, "--artifacts", "out2", "--", "sh", "-c", "\(make); exit 3",
                directory: f.path("."))
            #expect(failed.code == 3 && f.text(f.path("out2/report")) == "r\n", "\(failed)")
            let late = try await f.aegis(
                "run", "--isolation", backend, "--timeout", "15s", "--artifacts", "out3", "--", "sh", "-c",
                "\(make); sleep 60", directory: f.path("."))
            #expect(late.code == 124 && f.text(f.path("out3/report")) == "r\n", "\(late)")
            let missing = try await f.aegis(
                "run", "--isolation", backend, "--artifact", "nothing", "--", "true", directory: f.path("."))
            #expect(missing.code == 125 && missing.err.contains("artifact-missing"), "\(missing)")
            let both = try await f.aegis(
                "run", "--isolation", backend, "--artifact", "nothing", "--", "sh", "-c", "exit 9",
                directory: f.path("."))
            #expect(both.code == 9 && both.err.contains("artifact-missing"), "\(both)")
            let none = try await f.aegis("instance", "list", "--output", "json")
            #expect(none.out == "[]\n", "\(none)")
        }
    }

    /// What lies outside of the workspace and the mounts is fetched from the sandbox, which stays for that.
    @Test(arguments: backends) func artifactsComeFromTheSandboxItself(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            let make = "echo r > /root/report.txt; echo t > /tmp/x; mkdir /run/d; echo d > /run/d/y; echo w > w"
            let words = [
                "run", "--isolation", backend, "--artifact", "/root/report.txt:r", "--artifact", "/tmp/x", "--artifact",
                "/run/d", "--artifact", "w",
            ]
            func expectAll(_ name: String, _ code: Int32, _ result: CommandResult) {
                #expect(result.code == code && result.out.isEmpty, "\(name): \(result)")
                let found = ["r", "x", "d/y", "w"].map { f.text(f.path("\(name)/\($0)")) }
                #expect(found == ["r\n", "t\n", "d\n", "w\n"], "\(name): \(result)")
            }
            for (name, more, script, code) in [
                ("ended", [], make, 0), ("failed", [], "\(make); sleep 1000 & exit 3", 3),
                ("late", ["--timeout", "15s"], "\(make); trap '' TERM; sleep 1000", 124),
            ] as [(String, [String], String, Int32)] {
                let folder = try f.folder(name)
                let result = try await f.run(
                    DaemonFixture.cli, words + more + ["--", "sh", "-c", script], directory: folder)
                expectAll(name, code, result)
            }
            let gone = try await f.aegis(
                "run", "--isolation", backend, "--artifact", "/tmp/none", "--", "true", directory: f.path("."))
            #expect(gone.code == 125 && gone.err.contains("artifact-missing"), "\(gone)")
            let never = try await f.aegis(
                "run", "--isolation", backend, "--artifact", "/tmp/x", "--", "no-such", directory: f.path("."))
            #expect(never.code == 127 && !never.err.contains("artifact"), "\(never)")
            #expect(try await f.aegis("instance", "list", "--output", "json").out == "[]\n")
        }
    }

    @Test func artifactsOfAKilledCommandComeUnlessTheSandboxItselfDied() async throws {
        try await DaemonFixture.shared { f in
            let folder = "/tmp/aegis-test-artifacts-\(try Random.hex(bytes: 6))"
            try Files.makeDirectories(folder)
            defer { try? Files.removeTree(folder) }
            let memory = try await f.aegis(
                "run", "--isolation", "runc", "--memory", "64Mi", "--artifact", "/tmp/x", "--", "sh", "-c",
                "echo t > /tmp/x; python3 -c 'bytearray(300 << 20)'", directory: folder)
            #expect(memory.code == 137 && memory.err.contains("(out-of-memory)"), "\(memory)")
            #expect(f.text("\(folder)/x") == "t\n", "\(memory)")
            let run = try f.begin(
                "run", "--name", "dies", "--isolation", "runc", "--artifact", "/root/x:\(folder)/y", "--artifact",
                "w:\(folder)/w", "--", "sh", "-c", "echo t > /root/x; echo w > w; echo ready; sleep 1000")
            try await f.eventually("it is ready") { try await f.aegis("logs", "dies").out == "ready\n" }
            kill(try await f.sandbox(of: try await f.record("dies").id).keeperPid, SIGKILL)
            let died = try await run.result()
            #expect(died.code == 125 && died.err.contains("(artifact-lost)"), "\(died)")
            #expect(f.text("\(folder)/w") == "w\n", "\(died)")
        }
    }

    @Test func artifactsSurviveACrashOfTheDaemon() async throws {
        try await DaemonFixture.with { f in
            let run = try f.begin(
                "run", "--name", "job", "--workspace", try f.folder("w"), "--artifact", "/tmp/x:\(f.path("x"))", "--",
                "sh",
                "-c", "echo t > /tmp/x; echo ready; while [ ! -e go ]; do sleep 0.1; done; touch gone; exit 4")
            try await f.eventually("it is ready") { try await f.aegis("logs", "job").out == "ready\n" }
            try await f.crash()
            // The command ends while no daemon is there.
            try f.file(f.path("w/go"), "")
            try await f.eventually("it has ended") { f.text(f.path("w/gone")) != nil }
            try await f.up()
            let result = try await run.result()
            #expect(result.code == 4 && f.text(f.path("x")) == "t\n", "\(result)")
            #expect(try await f.list().isEmpty)
        }
    }

    /// Stopping or deleting it is not held up by files that nobody fetches, and nobody else can make it run on.
    @Test func anInstanceThatStaysForItsFilesIsStillStoppedAndDeleted() async throws {
        try await DaemonFixture.with(config: Self.patience("40s")) { f in
            let socket = "\(f.home)/aegisd.sock"
            func post(_ path: String, _ body: String) async throws -> String {
                try await f.run(
                    "/usr/bin/curl", ["-s", "--unix-socket", socket, "http://localhost/v1/\(path)", "-d", body]
                ).out
            }
            let wrong = try await post("instances", #"{"command":["true"],"linger":true}"#)
            #expect(wrong.contains("ephemeral"), "\(wrong)")
            for verb in ["stop", "delete", "nothing"] {
                let run = try f.begin(
                    "run", "--name", verb, "--isolation", "runc", "--artifact", "/tmp/x", "--", "sh", "-c",
                    "sleep 1000 & echo $! > /tmp/x; echo ready; wait $!; exit 7")
                try await f.eventually("it is ready") { try await f.aegis("logs", verb).out == "ready\n" }
                // A client that is there, but fetches nothing.
                _ = run.child.signal(SIGSTOP)
                try await f.succeed("exec", verb, "--", "sh", "-c", "kill $(cat /tmp/x)")
                try await f.eventually("it stays") { try await f.record(verb).state == "stopping" }
                try await f.refuse("exec", verb, "--", "true", code: 125, error: "instance-stopped")
                if verb == "delete" { try await f.succeed("instance", "delete", verb) }
                if verb == "stop" {
                    try await f.succeed("instance", "stop", verb)
                    let record = try await f.record(verb)
                    #expect(record.state == "stopped" && record.exitCode == 7 && record.stopReason == "exited")
                    try await f.succeed("instance", "delete", verb)
                }
                _ = run.child.signal(SIGKILL)
                _ = try await run.result()
                try await f.eventually("it is gone") { try await f.list().isEmpty }
            }
        }
    }

    /// A slow transfer takes longer than a client that is gone would be waited for.
    @Test func anInstanceStaysAsLongAsItsFilesAreRead() async throws {
        try await DaemonFixture.with(config: Self.patience("20s")) { f in
            let run = try f.begin(
                "run", "--name", "slow", "--isolation", "runc", "--artifact", "/tmp/x", "--", "sh", "-c",
                "head -c 26214400 /dev/zero > /tmp/big; sleep 1000 & echo $! > /tmp/x; echo ready; wait $!")
            try await f.eventually("it is ready") { try await f.aegis("logs", "slow").out == "ready\n" }
            // The client is there, but fetches nothing; somebody else does.
            _ = run.child.signal(SIGSTOP)
            try await f.succeed("exec", "slow", "--", "sh", "-c", "kill $(cat /tmp/x)")
            try await f.eventually("it stays") { try await f.record("slow").state == "stopping" }
            let read = try await f.run(
                "/usr/bin/curl",
                [
                    "-s", "--limit-rate", "1M", "--unix-socket", "\(f.home)/aegisd.sock",
                    "http://localhost/v1/instances/slow/files?path=/tmp/big",
                ])
            #expect(read.code == 0 && read.stdout.count > 25 << 20, "\(read.code): \(read.stdout.count) bytes")
            _ = run.child.signal(SIGKILL)
            _ = try await run.result()
            try await f.eventually("it is gone") { try await f.list().isEmpty }
        }
    }

    private static func patience(_ time: String) -> String {
        """
        apiVersion: 100monkeys.ai/v1
        kind: NodeConfig
        metadata: { name: x }
        spec: { instances: { client_patience: \(time) } }

        """
    }

    /// The archive comes from the guest: links, devices and set-id bits do not come through.
    @Test func aHostileOutputFolderBringsNothingIn() async throws {
        try await DaemonFixture.with { f in
            try f.file(f.path("canary"), "host-only")
            let plant = """
                mkdir output; cd output; ln -s \(f.path("canary")) a; ln -s ok inner; ln -s /etc d; echo fine > ok
                chmod 6777 ok; mkfifo p
                """
            // The FIFOs of a gVisor are not on the host.
            let r = try await f.aegis(
                "run", "--isolation", "runc", "--artifacts", "out", "--", "sh", "-c", plant, directory: f.path("."))
            #expect(r.code == 0 && r.err.contains("left out output/a: links"), "\(r)")
            #expect(r.err.contains("left out output/p: FIFOs"), "\(r)")
            let listed = try await f.shell("cd out; find . -mindepth 1; stat -c %a ok")
            #expect(listed.out == "./ok\n777\n", "\(listed)")
            let link = try await f.aegis(
                "run", "--artifacts", "out4", "--", "ln", "-s", "/etc", "output", directory: f.path("."))
            #expect(!FileManager.default.fileExists(atPath: f.path("out4/passwd")), "\(link)")
            #expect(link.code == 125 && link.err.contains("(artifact-refused)"), "\(link)")
        }
    }

    /// Where the results have no place, the command is not run at all.
    @Test func placesAreCheckedBeforeTheCommandRuns() async throws {
        try await DaemonFixture.shared { f in
            let scratch = try TemporaryDirectory()
            try f.file(scratch.path("file"), "in the way")
            for arguments in [
                ["--artifacts", "file"], ["--artifacts", "file/below"], ["--artifact", "x:file/below/x"],
                ["--artifacts", "/proc/none"],
            ] {
                let r = try await f.aegis(
                    "run", "--workspace", scratch.path, arguments[0], arguments[1], "--", "touch", "ran",
                    directory: scratch.path)
                #expect(r.code == 2 && r.err.contains("(artifact-place)"), "\(arguments) \(r)")
                #expect(!Files.exists(scratch.path("ran")), "\(arguments)")
            }
            let fine = try await f.aegis(
                "run", "--artifacts", "new/deep", "--", "true", directory: scratch.path)
            #expect(fine.code == 125 && fine.err.contains("(artifact-missing)"), "\(fine)")
        }
    }
}
