import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// The same kind of mistake ends with the same code, whoever finds it out (decision D35).
@Suite struct ExitCodeTests {
    /// Words that are wrong whatever there is.
    @Test func wordsThatAreWrongEndWith2() async throws {
        try await DaemonFixture.with { f in
            for arguments in [
                ["--memory", "many"], ["--cpus", "-1"], ["--name", "Not A Name"], ["--mount", "/tmp"],
                ["--mount", "/tmp:relative"], ["--mount", "/tmp:/x:wr"], ["--mount", "/tmp:/proc/x"],
                ["--mount", "/tmp:/x", "--mount", "/tmp:/x"], ["--isolation", "chroot"], ["--min-isolation", "good"],
                ["--workdir", "relative"], ["--user", ":"], ["--user", "70000"], ["--env", "A-B=1"],
                ["--env", "NOT_SET_X"],
                ["--image", "UPPER CASE"], ["--network", "host"], ["--timeout", "5"], ["--pull", "sometimes"],
                ["--label", "=x"], ["--workspace", "Not A Name"], ["--secret", "*", "--secret", "A"],
                ["--user", "0:65536"],
                ["--artifacts", ""], ["--artifact", ".."], ["--unknown"],
            ] {
                let r = try await f.run(DaemonFixture.cli, ["run"] + arguments + ["--", "true"])
                #expect(r.code == 2, "\(arguments): \(r)")
            }
            #expect(try await f.list().isEmpty)
        }
    }

    /// Words that are right and name what is not there, is of another kind, or cannot be had.
    @Test func whatIsNotThereEndsWith125() async throws {
        try await DaemonFixture.shared { f in
            let scratch = try TemporaryDirectory()
            try f.file(scratch.path("file"), "")
            try Files.makeFIFO(scratch.path("fifo"))
            let here = scratch.path
            for (arguments, code) in [
                (["--workspace", "\(here)/none"], "path-not-found"),
                (["--workspace", "\(here)/file"], "not-a-directory"),
                (["--workspace", "\(here)/file/below"], "path-not-found"), (["--workspace", "/proc"], "path-refused"),
                (["--mount", "\(here)/none:/x"], "path-not-found"), (["--mount", "\(here)/fifo:/x"], "not-a-file"),
                (["--secret", "NONE"], "secret-not-found"),
                (["--image", "none:1", "--pull", "never"], "image-not-here"),
                (["--image", "oci:\(here)/none"], "image-not-found"),
                (["--isolation", "qemu"], "isolation-unavailable"),
                (["--min-isolation", "hardware-vm"], "isolation-too-weak"),
            ] {
                let r = try await f.run(DaemonFixture.cli, ["run"] + arguments + ["--", "true"])
                #expect(r.code == 125 && r.err.contains("(\(code))"), "\(arguments): \(r)")
            }
        }
    }

    @Test func anImageThatIsNotThereEndsAPullWith4() async throws {
        try await DaemonFixture.shared { f in
            let scratch = try TemporaryDirectory()
            try await f.refuse("image", "pull", "oci:\(scratch.path("none"))", code: 4, error: "image-not-found")
            try await f.refuse("image", "pull", "oci:\(scratch.path)", code: 4, error: "image-not-found")
        }
    }

    /// A program may be started with standard streams closed: what goes there goes nowhere, and nothing else changes.
    @Test func closedStreamsAreNoFailure() async throws {
        try await DaemonFixture.shared { f in
            for closed in [">&-", "2>&-", "<&-", "<&- >&- 2>&-"] {
                let result = try await f.shell("$AEGIS run -i -- sh -c 'cat; echo out; exit 9' \(closed)")
                #expect(result.code == 9 && result.err.isEmpty, "\(closed) \(result)")
                #expect(
                    result.out == (closed.contains(" >&-") || closed == ">&-" ? "" : "out\n"), "\(closed) \(result)")
            }
        }
    }

    /// What is no text is not changed on its way: it is refused.
    @Test func bytesThatAreNoTextAreRefusedByTheirPlace() async throws {
        try await DaemonFixture.shared { f in
            let word = try await f.shell("$AEGIS run -- printf %s \"$(printf 'a\\377b')\"")
            #expect(word.code == 2 && word.err.contains("argument 5 is not UTF-8: 'a\\xffb'"), "\(word)")
            let variable = try await f.shell("BAD=$(printf '\\200') $AEGIS run --env BAD -- true")
            #expect(
                variable.code == 2 && variable.err.contains("'BAD' in your environment is not UTF-8"), "\(variable)")
            let text = try await f.shell("$AEGIS run -- printf %s 'ä\u{FFFD}'")
            #expect(text.code == 0 && text.stdout == Array("ä\u{FFFD}".utf8), "\(text)")
        }
    }
}
