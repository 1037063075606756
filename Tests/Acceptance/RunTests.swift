import AegisTestSupport
import LinuxSys
import Testing

/// The isolations that every body runs on.
let backends = ["runc", "runsc"]

@Suite struct RunTests {
    @Test(arguments: backends) func theFirstCommandsThatPeopleTryWork(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let folder = try TemporaryDirectory()
            let place = folder.path("work")
            try Files.makeDirectories(place)
            try Files.writeAtomically(place + "/note", Array("hi\n".utf8))
            func run(_ command: String...) async throws -> CommandResult {
                let all = ["run", "--isolation", backend, "--workspace", place, "--"] + command
                let result = try await f.run(DaemonFixture.cli, all)
                #expect(result.code == 0 && result.err.isEmpty, "\(result)")
                return result
            }
            #expect(try await run("ls", "-la", "/").out.contains(" etc\n"))
            #expect(try await run("stat", "/etc/passwd").out.contains("File: /etc/passwd"))
            #expect(try await run("ls", "-l").out.hasSuffix(" note\n"))
            let thread = "import threading as t; a = t.Thread(target=print, args=('in it',)); a.start(); a.join()"
            #expect(try await run("python3", "-c", thread).out == "in it\n")
            let name = "copied-\(backend)"
            try #require(
                await f.aegis("run", "-d", "--name", name, "--isolation", backend, "--", "sleep", "1000").code == 0)
            for path in ["/etc", "/"] {
                let listed = try await f.run(
                    "/bin/sh", ["-c", "\"$0\" cp \(name):\(path) - | tar t", DaemonFixture.cli])
                #expect(listed.code == 0 && listed.out.contains("etc/passwd\n"), "\(path)")
                #expect(!listed.out.contains("preload") && !listed.out.contains(".aegis"), "\(listed)")
            }
            #expect(try await f.aegis("instance", "delete", name).code == 0)
            _ = consume folder
        }
    }

    @Test(arguments: backends) func aCommandRunsIsolatedAndLeavesNothing(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            let result = try await f.aegis("run", "--isolation", backend, "--", "python3", "-c", "print(6*7)")
            #expect(result.code == 0 && result.out == "42\n" && result.err.isEmpty, "\(result)")
            let code = try await f.aegis(
                "run", "--isolation", backend, "--", "sh", "-c", "echo out; echo err >&2; exit 3")
            #expect(code.code == 3 && code.out == "out\n" && code.err == "err\n", "\(code)")
            let list = try await f.aegis("instance", "list", "--output", "json")
            #expect(list.out == "[]\n", "\(list)")
        }
    }
}
