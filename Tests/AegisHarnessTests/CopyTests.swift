import AegisChannel
import Glibc
import Testing

/// Trees into and out of a sandbox, against the system's tar.
@Suite struct CopyTests {
    /// A tree with everything that is copied.
    private func makeTree(_ scratch: Scratch) throws {
        let long = String(repeating: "long-name-", count: 15)
        try #require(
            run([
                "/bin/sh", "-c",
                """
                set -e; cd \(scratch.path); mkdir -p tree/sub/empty tree/\(long); echo hello > tree/sub/file
                head -c 70000 /dev/urandom > tree/blob; : > tree/nothing; ln -s sub/file tree/link
                ln tree/blob tree/again; head -c 1025 /dev/zero > tree/\(long)/\(long); ln -s \(long)/\(long) tree/far
                chmod 4755 tree/sub/file; chmod 0700 tree/sub; chown 1234:5678 tree/nothing; mkfifo tree/fifo
                touch -d @1000000000 tree/sub/file tree/nothing tree/sub tree; printf 'a\\377b' > "tree/$(printf 'n\\377')"
                """,
            ]) == 0)
    }

    /// Runs a copy out of `path`; the tar stream.
    private func copyOut(_ harness: HostHarness, _ path: String) throws -> Collected {
        try harness.client.start(1, [path], kind: .copyOut)
        return try harness.client.finish(1)
    }

    private func copyIn(_ harness: HostHarness, _ path: String, _ stream: [UInt8], user: String = "") throws
        -> Collected
    {
        try harness.client.start(2, [path], kind: .copyIn, user: user, stdin: true)
        try harness.client.input(2, stream, end: true)
        return try harness.client.finish(2)
    }

    @Test func aTreeComesOutAsTarReadsIt() throws {
        let scratch = try Scratch()
        try makeTree(scratch)
        let harness = try HostHarness()
        let copy = try copyOut(harness, scratch.path + "/tree")
        #expect(copy.exited?.code == 0)
        #expect(copy.err.isEmpty)
        try scratch.write("out.tar", copy.stdout)
        try #require(
            run(["/bin/sh", "-c", "cd \(scratch.path) && mkdir x && tar xpf out.tar -C x --numeric-owner --same-owner"])
                == 0)
        let list = "find . -printf '%p %y %m %U:%G %T@ %l\\n' | sed -E 's/\\.[0-9]+ / /' | grep -v '^\\. ' | sort"
        let check =
            "cd \(scratch.path); diff -r --no-dereference --exclude fifo tree x/tree && (cd tree; \(list)) > l1 && (cd x/tree; \(list)) > l2 && cmp l1 l2"
        #expect(run(["/bin/sh", "-c", check], output: "/dev/stderr") == 0)
    }

    @Test func aFileIsNamedByItsLastComponent() throws {
        let scratch = try Scratch()
        try scratch.write("one file", Array("abc".utf8))
        let harness = try HostHarness()
        let copy = try copyOut(harness, scratch.path + "/one file")
        var decoder = TarDecoder()
        guard case .entry(let entry) = try decoder.take(Array(copy.stdout.prefix(512))) else {
            throw TestFailure("no entry")
        }
        #expect(entry.path == Array("one file".utf8) && entry.size == 3)
        #expect(copy.stdout.count == 512 * 4)
        let missing = try copyOut(harness, scratch.path + "/missing")
        #expect(missing.exited?.code == 1)
        #expect(missing.err.hasSuffix(": No such file or directory\n"))
    }

    @Test func whatCannotBeCopiedIsSaidAndKernelFilesAreReadToTheirEnd() throws {
        let scratch = try Scratch()
        try #require(run(["/bin/sh", "-c", "mkfifo \(scratch.path)/fifo"]) == 0)
        let harness = try HostHarness()
        for (path, what) in [("/dev/zero", "zero: is a device"), (scratch.path + "/fifo", "fifo: is a FIFO")] {
            let copy = try copyOut(harness, path)
            #expect(copy.exited?.code == 1 && copy.err.hasPrefix(what), "\(copy.err)")
        }
        let copy = try copyOut(harness, "/proc/version")
        var decoder = TarDecoder()
        guard case .entry(let entry) = try decoder.take(Array(copy.stdout.prefix(512))) else {
            throw TestFailure("no entry")
        }
        #expect(copy.exited?.code == 0 && entry.size > 0)
        #expect(String(decoding: copy.stdout.dropFirst(512).prefix(5), as: UTF8.self) == "Linux")
    }

    @Test func whatTarWritesComesIn() throws {
        let scratch = try Scratch()
        try makeTree(scratch)
        unsafe unlink(scratch.path + "/tree/fifo")
        let harness = try HostHarness()
        for format in ["pax", "gnu"] {
            let name = "in-\(format)"
            try #require(
                run([
                    "/bin/sh", "-c",
                    "cd \(scratch.path) && tar --format=\(format) -cf \(name).tar tree && mkdir \(name)",
                ]) == 0)
            let copy = try copyIn(
                harness, "\(scratch.path)/\(name)", try contents("\(scratch.path)/\(name).tar"), user: "4242:4343")
            #expect(copy.err == "")
            #expect(copy.exited?.code == 0)
            let list = "find . -printf '%p %y %m %T@ %l\\n' | sed -E 's/\\.[0-9]+ / /' | grep -v '^\\. ' | sort"
            let check = """
                cd \(scratch.path); rm -rf plain; cp -a tree plain; chmod -R u-s,g-s,-t plain
                diff -r --no-dereference tree \(name)/tree && (cd plain; \(list)) > l1 \
                && (cd \(name)/tree; \(list)) > l2 && cmp l1 l2 \
                && test -z "$(find \(name)/tree ! -uid 4242 -o ! -gid 4343)"
                """
            #expect(run(["/bin/sh", "-c", check], output: "/dev/stderr") == 0)
        }
    }

    @Test func aFileTakesTheNameOfATargetThatIsNoFolder() throws {
        let scratch = try Scratch()
        let harness = try HostHarness()
        let stream =
            TarEntry(path: Array("a".utf8), kind: .file, size: 3, mode: 0o640).encoded()
            + Array("xyz".utf8) + [UInt8](repeating: 0, count: 509) + Tar.end
        #expect(try copyIn(harness, scratch.path + "/new", stream).exited?.code == 0)
        #expect(try contents(scratch.path + "/new") == Array("xyz".utf8))
        #expect(try copyIn(harness, scratch.path, stream).exited?.code == 0)
        #expect(try contents(scratch.path + "/a") == Array("xyz".utf8))
        // Over a file that is there.
        #expect(try copyIn(harness, scratch.path + "/new", stream).exited?.code == 0)
        let nowhere = try copyIn(harness, scratch.path + "/no/such/new", stream)
        #expect(nowhere.exited?.code == 1)
        #expect(nowhere.err.hasSuffix("No such file or directory\n"))
    }

    @Test func hostileStreamsStayBeneathTheTarget() throws {
        let scratch = try Scratch()
        let harness = try HostHarness()
        try #require(run(["/bin/mkdir", "-p", scratch.path + "/target/real", scratch.path + "/outside"]) == 0)
        func stream(_ entries: [TarEntry]) -> [UInt8] { entries.flatMap { $0.encoded() } + Tar.end }
        func path(_ text: String) -> [UInt8] { Array(text.utf8) }
        let target = scratch.path + "/target"
        let escapes: [[TarEntry]] = [
            [TarEntry(path: path("../outside/x"), kind: .file, mode: 0o644)],
            [TarEntry(path: path("real/../../outside/x"), kind: .file, mode: 0o644)],
            [
                TarEntry(path: path("l"), kind: .symlink, link: path("../outside"), mode: 0o777),
                TarEntry(path: path("l/x"), kind: .file, mode: 0o644),
            ],
            [
                TarEntry(path: path("m"), kind: .symlink, link: path(scratch.path + "/outside"), mode: 0o777),
                TarEntry(path: path("m"), kind: .directory, mode: 0o755),
                TarEntry(path: path("m/x"), kind: .file, mode: 0o644),
            ],
            [TarEntry(path: path("h"), kind: .hardLink, link: path("../../etc/passwd"), mode: 0o644)],
        ]
        for entries in escapes {
            let copy = try copyIn(harness, target, stream(entries))
            #expect(copy.exited?.code == 1)
            #expect(!copy.err.isEmpty)
        }
        // A link in the place of a file is replaced, not written through.
        try scratch.write("outside/victim", Array("old".utf8))
        unsafe symlink(scratch.path + "/outside/victim", target + "/v")
        let replace =
            TarEntry(path: path("v"), kind: .file, size: 1, mode: 0o644).encoded() + [0x6e]
            + [UInt8](repeating: 0, count: 511) + Tar.end
        #expect(try copyIn(harness, target, replace).exited?.code == 0)
        #expect(try contents(scratch.path + "/outside/victim") == Array("old".utf8))
        #expect(run(["/bin/sh", "-c", "test \"$(ls \(scratch.path)/outside)\" = victim"]) == 0)
        // An absolute path means beneath the target, as tar has it.
        let absolute = TarEntry(path: path("/abs/x"), kind: .file, mode: 0o644)
        #expect(try copyIn(harness, target, stream([absolute])).exited?.code == 0)
        #expect(unsafe access(target + "/abs/x", F_OK) == 0)
    }

    @Test func brokenStreamsAreErrors() throws {
        let scratch = try Scratch()
        let harness = try HostHarness()
        let header = TarEntry(path: Array("f".utf8), kind: .file, size: 100_000, mode: 0o644).encoded()
        #expect(try copyIn(harness, scratch.path, header + [1, 2, 3]).err == "f: the stream ended too early\n")
        #expect(try copyIn(harness, scratch.path, []).exited?.code == 1)
        var noise = [UInt8](repeating: 0x55, count: 600_000)
        noise[0] = 1
        #expect(try copyIn(harness, scratch.path, noise).err.hasSuffix("not a valid tar stream\n"))
        var device = TarEntry(path: Array("d".utf8), kind: .file, mode: 0o644).encoded()
        device[156] = 0x33
        device[153] += 3
        if device[153] > 0x37 { device[153] -= 8; device[152] += 1 }
        #expect(try copyIn(harness, scratch.path, device + Tar.end).err.contains("neither file, folder nor link"))
    }

    @Test func aCopyHoldsNobodyUp() throws {
        let harness = try HostHarness()
        harness.client.processes[1] = Collected()
        try harness.client.start(1, ["/usr/bin"], kind: .copyOut)
        harness.client.processes[1]?.acknowledges = false
        try harness.client.wait("a full window") { $0.processes[1]?.stdout.count == Int(Channel.window) }
        try harness.client.start(3, ["echo", "alive"])
        #expect(try harness.client.finish(3).out == "alive\n")
        try harness.client.signal(1, SIGKILL)
    }
}
