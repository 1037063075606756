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
                "run", "--isolation", backend, "--timeout", "2s", "--artifacts", "out3", "--", "sh", "-c",
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

    /// The archive comes from the guest: links, devices and set-id bits do not come through.
    @Test func aHostileOutputFolderBringsNothingIn() async throws {
        try await DaemonFixture.with { f in
            try f.file(f.path("canary"), "host-only")
            let plant = """
                mkdir output; cd output; ln -s \(f.path("canary")) a; ln -s ok inner; ln -s /etc d; echo fine > ok
                chmod 6777 ok; mkfifo p
                """
            let r = try await f.aegis("run", "--artifacts", "out", "--", "sh", "-c", plant, directory: f.path("."))
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
