import AegisCapabilities
import AegisCore
import AegisFiles
import AegisIO
import AegisTestSupport
import LinuxSys
import Testing

struct AgentFilesWriteTests {
    @Test func filesAreMadeReplacedAndExtended() throws {
        let world = try AgentWorld("file_write: /workspace/**", owner: FileIdentity(user: 1234, group: 4321))
        #expect(try world.write("/workspace/a/b/c", "one").sizeBefore == nil)
        for name in ["a", "a/b", "a/b/c"] {
            let status = try Files.status(world.inside(name))
            #expect(status.user == 1234 && status.group == 4321, "\(name)")
        }
        try Files.setPermissions(world.inside("a/b/c"), 0o6751)
        try Files.setOwner(world.inside("a/b/c"), user: 7, group: 8)
        let written = try world.write("/workspace/a/b/c", "two!")
        #expect(written.sizeBefore == 3 && written.size == 4 && written.path.description == "/workspace/a/b/c")
        let status = try Files.status(world.inside("a/b/c"))
        // No file that an agent wrote runs as somebody else.
        #expect(status.permissions == 0o751 && status.user == 7 && status.group == 8)
        #expect(try world.write("/workspace/a/b/c", " more", append: true).size == 9)
        #expect(try world.text(world.inside("a/b/c")) == "two! more")
        #expect(try world.write("/workspace/log", "x", append: true).sizeBefore == nil)
        #expect(try Files.list(world.inside("a/b")).map(\.name) == ["c"])
    }

    @Test func newFilesOfTheHostAreTheOwnersAlone() throws {
        let world = try AgentWorld("file_write: HOST/**", identity: FileIdentity(user: 1234, group: 1234))
        try Files.setOwner(world.host(""), user: 1234, group: 1234)
        try world.write(world.host("d/new"), "x")
        let status = try Files.status(world.host("d/new"))
        #expect(status.permissions == 0o600 && status.user == 1234)
        #expect(try Files.status(world.host("d")).permissions == 0o700)
        try world.fixture.folder("host/roots")
        #expect(refused { try world.write(world.host("roots/new"), "x") } == "path-denied")
    }

    @Test func nothingIsTouchedBeforeTheDecision() throws {
        let world = try AgentWorld("file_write: /workspace/ok/**", "tool: file_write")
        try world.put(world.inside("victim"), "content")
        let before = try Files.status(world.inside("victim"))
        #expect(refused { try world.write("/workspace/victim", "") } == "not-covered")
        #expect(refused { try world.write("/workspace/new/dir/file", "x") } == "not-covered")
        #expect(refused { try world.write("/workspace/ok/../victim", "x") } == "not-covered")
        #expect(refused { try world.write(world.host("x/y"), "x") } == "not-covered")
        #expect(try Files.status(world.inside("victim")) == before)
        #expect(!Files.exists(world.inside("new")) && !Files.exists(world.host("x")))
        // Leave to write is no leave to edit, which reads.
        try world.put(world.inside("ok/f"), "x")
        #expect(refused { _ = try world.files.edit("/workspace/ok/f", limit: 10) { $0 } } == "no-grant")
    }

    @Test func whatIsNoFileIsNotWritten() throws {
        let world = try AgentWorld("file_write: /workspace/**", "file_write: HOST/**")
        try world.put(world.inside("f"), "x")
        try world.fixture.folder("home/workspaces/w/d")
        try Files.makeFIFO(world.inside("pipe"))
        try Files.makeLink(world.inside("dangling"), to: "nowhere")
        try Files.makeLink(world.inside("out"), to: world.host("secret"))
        try world.put(world.host("secret"), "secret")
        try Files.makeLink(world.inside("outdir"), to: world.host(""))
        let table = [
            ("d", "not-a-file"), ("", "not-a-file"), ("pipe", "not-a-file"), ("f/x", "not-a-directory"),
            ("dangling", "file-changed"), ("out", "unsafe-path"), ("outdir/new", "unsafe-path"),
        ]
        for (name, code) in table {
            #expect(refused { try world.write("/workspace/\(name)", "x") } == code, "\(name)")
            #expect(refused { try world.write("/workspace/\(name)", "x", append: true) } == code, "\(name)")
        }
        #expect(try world.text(world.host("secret")) == "secret" && !Files.exists(world.inside("nowhere")))
        #expect(!Files.exists(world.host("new")))
        #expect(try Files.list(world.inside("")).filter { $0.name.hasPrefix(".aegis") }.isEmpty)
    }

    @Test func aLinkInsideLeadsToItsTarget() throws {
        let world = try AgentWorld("file_write: /workspace/real/**")
        try world.put(world.inside("real/f"), "old")
        try Files.makeLink(world.inside("link"), to: "real/f")
        try Files.makeLink(world.inside("dir"), to: "real")
        #expect(try world.write("/workspace/link", "new").path.description == "/workspace/real/f")
        #expect(try world.text(world.inside("real/f")) == "new")
        #expect(try Files.status(world.inside("link"), followLinks: false).type == .symbolicLink)
        #expect(try world.write("/workspace/dir/g/h", "x").path.description == "/workspace/real/g/h")
    }

    @Test func hardLinksOfTheHostAreNotWritten() throws {
        let world = try AgentWorld("file_write: HOST/**", "file_read: HOST/**", "file_write: /workspace/**")
        try world.put(world.host("a"), "x")
        let folder = try FileDescriptor.open(world.host(""), [.readOnly, .directory])
        try folder.makeHardLink(bytes: Array("b".utf8), to: folder, Array("a".utf8))
        #expect(refused { try world.write(world.host("b"), "y") } == "file-linked")
        #expect(refused { try world.write(world.host("b"), "y", append: true) } == "file-linked")
        #expect(refused { _ = try world.files.edit(world.host("b"), limit: 10) { _ in [1] } } == "file-linked")
        #expect(try world.text(world.host("a")) == "x")
        // In a workspace the file is replaced, and what else has the content keeps it.
        let inside = try FileDescriptor.open(world.inside(""), [.readOnly, .directory])
        try inside.makeHardLink(bytes: Array("b".utf8), to: folder, Array("a".utf8))
        try world.write("/workspace/b", "y")
        #expect(refused { try world.write("/workspace/b", "z", append: true) } == nil)
        #expect(try world.text(world.host("a")) == "x")
    }

    @Test func editsReadAndReplaceInOneStep() throws {
        let world = try AgentWorld("file_write: /workspace/**", "file_read: /workspace/**")
        try world.put(world.inside("f"), "one")
        let written = try world.files.edit("/workspace/f", limit: 100) { $0 + Array(" two".utf8) }
        #expect(written.sizeBefore == 3 && written.size == 7)
        #expect(try world.text(world.inside("f")) == "one two")
        #expect(refused { _ = try world.files.edit("/workspace/no", limit: 100) { $0 } } == "path-not-found")
        #expect(refused { _ = try world.files.edit("/workspace/f", limit: 5) { $0 } } == "file-too-large")
        #expect(
            refused { _ = try world.files.edit("/workspace/f", limit: 10) { $0 + $0 } } == "file-too-large")
        #expect(refused { _ = try world.files.edit("/workspace/f", limit: 10) { _ in throw Stop() } } == "Stop()")
        // What somebody else wrote meanwhile is not lost.
        let lost = refused {
            _ = try world.files.edit("/workspace/f", limit: 100) {
                try world.put(world.inside("f"), "theirs")
                return $0
            }
        }
        #expect(lost == "file-changed")
        let inPlace = refused {
            _ = try world.files.edit("/workspace/f", limit: 100) { bytes in
                try FileDescriptor.open(world.inside("f"), [.writeOnly, .append]).writeAll(Array("!".utf8)[...])
                return bytes
            }
        }
        #expect(inPlace == "file-changed")
        #expect(try world.text(world.inside("f")) == "theirs!")
        #expect(try Files.list(world.inside("")).map(\.name) == ["f"])
    }
    private struct Stop: Error {}

    @Test func theLastLookSeesWhatIsThere() throws {
        let world = try AgentWorld("file_write: /workspace/**")
        var seen: [FileBase] = []
        func write(_ text: String) throws {
            _ = try world.files.write("/workspace/f", Array(text.utf8)) { path, base in
                #expect(path.description == "/workspace/f")
                seen.append(base)
                if text == "no" { throw Stop() }
            }
        }
        try write("one")
        #expect(throws: Stop.self) { try write("no") }
        try write("two")
        #expect(seen == [.absent, .content(Array("one".utf8)), .content(Array("one".utf8))])
        #expect(try world.files.base("/workspace/f", reading: false).base == .content(Array("two".utf8)))
        #expect(refused { _ = try world.files.base("/workspace/f", reading: true) } == "no-grant")
        #expect(try world.files.base("/workspace/new", reading: false).base == .absent)
    }

    @Test func writtenBytesCountAndRefusedOnesDoNot() throws {
        let world = try AgentWorld("{grant: \"file_write: /workspace/**\", max_bytes: 5, max_calls: 2}")
        try world.fixture.folder("home/workspaces/w/d")
        #expect(refused { try world.write("/workspace/d", "xx") } == "not-a-file")
        try world.write("/workspace/f", "1234")
        #expect(refused { try world.write("/workspace/f", "12") } == "bytes-used-up")
        try world.write("/workspace/f", "1")
        #expect(refused { try world.write("/workspace/f", "") } == "calls-used-up")
    }

    @Test func withoutAWorkspaceThereIsNone() throws {
        let world = try AgentWorld("file_read: /workspace/**")
        let scope = FileScope(workspace: nil, home: world.fixture.home, runDirectory: world.fixture.run)
        let files = AgentFiles(scope, grants: world.book, holder: world.holder)
        #expect(refused { _ = try files.read("/workspace/x", limit: 1) } == "no-workspace")
    }

    // MARK: Races

    /// Another process lets a folder and a link that leads out change places all the time.
    @Test(arguments: ["inside", "host"])
    func nobodyIsLedOutByARace(_ place: String) async throws {
        let world = try AgentWorld(
            "file_read: /workspace/**", "file_write: /workspace/**", "file_read: HOST/open/**",
            "file_write: HOST/open/**")
        let base = place == "inside" ? world.inside("open") : world.host("open")
        let name = place == "inside" ? "/workspace/open" : world.host("open")
        try world.put(base + "/dir/file", "granted")
        try world.put(world.host("secret/file"), "secret")
        try world.put(world.host("secret/only-there"), "secret")
        try Files.makeLink(base + "/link", to: world.host("secret"))
        let helper = Files.split(try Files.readLink("/proc/self/exe")).directory + "/SandboxTestHelper"
        try await onLoop { loop in
            var spec = ProcessSpec(executable: helper, arguments: [helper, "swap", base, "dir", "link"])
            spec.stdout = .pipe
            spec.parentDeathSignal = 9
            let process = try ChildProcess.spawn(spec, on: loop)
            var ready = ByteBuffer()
            _ = try await process.stdout?.read(into: &ready, atMost: 6)
            var outcomes: Set<String> = []
            // As long as it takes until the other one was seen to be at work.
            var round = 0
            while round < 300 || (outcomes.count < 2 && round < 100_000) {
                round += 1
                outcomes.insert((try? world.read("\(name)/dir/file")) ?? "refused")
                _ = try? world.write("\(name)/dir/file", "granted")
                if round % 10 == 0 { _ = try? world.write("\(name)/dir/new-\(round)/x", "granted") }
                _ = try? world.files.edit("\(name)/dir/file", limit: 100) { _ in Array("granted".utf8) }
                for entry in (try? world.files.list("\(name)/dir", limit: 10_000).entries) ?? [] {
                    if entry.name == "only-there" { outcomes.insert("listed") }
                }
            }
            process.signal(9)
            _ = try await process.wait()
            #expect(outcomes == ["granted", "refused"])
        }
        #expect(try world.text(world.host("secret/file")) == "secret")
        #expect(try Files.list(world.host("secret")).map(\.name) == ["file", "only-there"])
    }
}
