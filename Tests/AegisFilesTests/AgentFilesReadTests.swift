import AegisCapabilities
import AegisCore
import AegisRegex
import LinuxSys
import Synchronization
import Testing

@testable import AegisFiles

struct AgentFilesReadTests {
    @Test(arguments: [
        ("/workspace/a/../b", "/workspace/b", true), ("/workspace/../etc/passwd", "/etc/passwd", false),
        ("/../..", "/", false), ("//workspace//./x/", "/workspace/x", true), ("/workspaces", "/workspaces", false),
        ("/workspace", "/workspace", true),
    ])
    func pathsAreCleanedAsText(_ text: String, _ name: String, _ isInWorkspace: Bool) throws {
        let path = try AgentPath(text)
        #expect(path.name.description == name && path.isInWorkspace == isInWorkspace)
    }

    @Test func whatIsNoPathIsRefusedWithTheNearest() {
        let error = #expect(throws: AegisError.self) { try AgentPath("notes/a.txt") }
        #expect(error?.code == "path-invalid" && error?.hint == "'/workspace/notes/a.txt' is in the workspace")
        for text in ["", "/a\0b", "/" + String(repeating: "a", count: 256), String(repeating: "/a", count: 3000)] {
            #expect(throws: AegisError.self) { try AgentPath(text) }
        }
    }

    @Test func aGrantedFileIsReadAndNothingElse() throws {
        let world = try AgentWorld("file_read: /workspace/**", "file_read: HOST/*.txt")
        try world.put(world.inside("a/b"), "inside")
        try world.put(world.host("x.txt"), "text")
        try world.put(world.host("x.key"), "key")
        #expect(try world.read("/workspace/a/b") == "inside")
        #expect(try world.read(world.host("x.txt")) == "text")
        #expect(refused { _ = try world.read(world.host("x.key")) } == "not-covered")
        #expect(refused { _ = try world.read("/workspace/a") } == "not-a-file")
        #expect(refused { _ = try world.read("/workspace/a/b/c") } == "not-a-directory")
        #expect(refused { _ = try world.read("/workspace/no") } == "path-not-found")
        try world.put(world.inside("large"), String(repeating: "x", count: 101))
        #expect(refused { _ = try world.files.read("/workspace/large", limit: 100) } == "file-too-large")
    }

    @Test func whetherAnUngrantedFileExistsIsNotTold() throws {
        let world = try AgentWorld("file_read: HOST/open/**")
        try world.put(world.host("shut/there"), "x")
        try world.put(world.host("open/x"), "x")
        func message(_ name: String) -> String {
            do { _ = try world.read(world.host(name)) } catch {
                return "\(error)".replacing("nothere", with: "there").replacing("link", with: "there")
            }
            return "read"
        }
        try Files.makeLink(world.host("shut/link"), to: "/root/secret")
        #expect(message("shut/there") == message("shut/nothere"))
        #expect(message("shut/there") == message("shut/link"))
        #expect(message("shut/there").contains("not-covered"))
    }

    @Test func linksAreFollowedInsideAndNeverOut() throws {
        let world = try AgentWorld("file_read: /workspace/**", "file_read: HOST/open/**")
        try world.put(world.inside("dir/file"), "inside")
        try world.put(world.host("secret"), "secret")
        try world.put(world.host("open/real"), "real")
        try Files.makeLink(world.inside("in"), to: "dir/file")
        try Files.makeLink(world.inside("out"), to: world.host("secret"))
        try Files.makeLink(world.inside("up"), to: "../../..")
        try Files.makeLink(world.inside("loop"), to: "loop")
        #expect(try world.read("/workspace/in") == "inside")
        #expect(try world.files.read("/workspace/in", limit: 100).path.description == "/workspace/dir/file")
        for path in ["/workspace/out", "/workspace/up/aegis.db", "/workspace/loop"] {
            #expect(refused { _ = try world.read(path) } == "unsafe-path", "\(path)")
        }
        // At the host the kernel's name counts, however it was reached.
        try Files.makeLink(world.host("open/out"), to: "../secret")
        try Files.makeLink(world.host("alias"), to: "open")
        #expect(refused { _ = try world.read(world.host("open/out")) } == "not-covered")
        #expect(try world.read(world.host("alias/real")) == "real")
    }

    @Test func magicLinksAndPipesAndDevicesAreNotFiles() throws {
        let world = try AgentWorld("file_read: /**")
        try Files.makeFIFO(world.host("pipe"))
        try Files.makeFIFO(world.inside("pipe"))
        #expect(refused { _ = try world.read(world.host("pipe")) } == "not-a-file")
        #expect(refused { _ = try world.read("/workspace/pipe") } == "not-a-file")
        for path in ["/proc/self/environ", "/proc/1/root/etc/passwd", "/sys/kernel/mm", "/dev/zero", "/dev/stdin"] {
            #expect(refused { _ = try world.read(path) } == "out-of-reach", "\(path)")
        }
        try Files.makeLink(world.host("zero"), to: "/dev/zero")
        #expect(refused { _ = try world.read(world.host("zero")) } == "out-of-reach")
    }

    @Test func aegisItselfIsOutOfReach() throws {
        let world = try AgentWorld("file_read: /**", "file_write: /**")
        try world.put(world.fixture.home + "/aegis.db", "data")
        try world.put(world.inside("own"), "own")
        #expect(refused { _ = try world.read(world.fixture.home + "/aegis.db") } == "out-of-reach")
        #expect(refused { try world.write(world.fixture.home + "/new", "x") } == "out-of-reach")
        #expect(refused { try world.write(world.fixture.run + "/deep/new", "x") } == "out-of-reach")
        // Its own workspace is reached by its name only.
        #expect(refused { _ = try world.read(world.inside("own")) } == "out-of-reach")
        #expect(try world.read("/workspace/own") == "own")
    }

    /// A bind mount gives Aegis's folder a name that no rule for names knows.
    @Test func anotherNameOfAegissFolderIsOutOfReachToo() throws {
        let world = try AgentWorld("file_read: HOST/**", "file_write: HOST/**")
        try world.put(world.fixture.home + "/deep/aegis.db", "data")
        try world.fixture.folder("host/alias")
        let bind: UInt64 = 4096
        try Mounts.mount(world.fixture.home, on: world.host("alias"), type: "none", flags: bind)
        defer { try? Mounts.unmount(world.host("alias"), detach: true) }
        for path in ["alias/deep/aegis.db", "alias/deep", "alias"] {
            #expect(refused { _ = try world.files.list(world.host(path), limit: 1) } == "out-of-reach", "\(path)")
        }
        #expect(refused { try world.write(world.host("alias/deep/aegis.db"), "x") } == "out-of-reach")
        #expect(refused { try world.write(world.host("alias/new"), "x") } == "out-of-reach")
        #expect(refused { try world.write(world.host("alias/deep/a/b"), "x") } == "out-of-reach")
        #expect(!Files.exists(world.fixture.home + "/new") && !Files.exists(world.fixture.home + "/deep/a"))
        let found = try world.files.search(world.host("."), for: BoundedRegex("data"))
        #expect(found.lines.isEmpty)
    }

    @Test func deletedFilesAreGone() throws {
        let world = try AgentWorld("file_read: /workspace/**")
        try world.put(world.inside("a (deleted)"), "odd name")
        #expect(try world.read("/workspace/a (deleted)") == "odd name")
    }

    @Test func directoriesAreListedByName() throws {
        let world = try AgentWorld("file_read: /workspace/**", "file_write: HOST/**")
        for name in ["c", "a", "b"] { try world.put(world.inside("d/\(name)"), name) }
        try world.fixture.folder("home/workspaces/w/d/sub")
        try Files.makeLink(world.inside("d/link"), to: "a")
        let listing = try world.files.list("/workspace/d", limit: 500)
        #expect(listing.entries.map(\.name) == ["a", "b", "c", "link", "sub"])
        #expect(listing.entries.map(\.size) == [1, 1, 1, 0, 0])
        #expect(listing.entries[3].kind == .symbolicLink && listing.entries[4].kind == .directory)
        let cut = try world.files.list("/workspace/d", limit: 2)
        #expect(cut.entries.map(\.name) == ["a", "b"] && cut.isTruncated)
        #expect(try world.files.list("/workspace/d/a", limit: 1).entries.isEmpty)
        // Leave to write is no leave to list.
        #expect(refused { _ = try world.files.list(world.host("."), limit: 1) } == "not-covered")
    }

    @Test func bytesCountAndRefusedReadsDoNot() throws {
        let world = try AgentWorld("{grant: \"file_read: /workspace/**\", max_bytes: 10, max_calls: 3}")
        try world.put(world.inside("six"), "123456")
        #expect(refused { _ = try world.read("/workspace/no") } == "path-not-found")
        #expect(try world.read("/workspace/six") == "123456")
        #expect(refused { _ = try world.read("/workspace/six") } == "bytes-used-up")
    }

    @Test func whoMayNotReadAsTheOperatorMayNotReadAtAll() throws {
        let world = try AgentWorld("file_read: HOST/**", identity: FileIdentity(user: 1234, group: 1234))
        try world.put(world.host("open"), "x")
        try world.put(world.host("shut"), "x")
        try Files.setPermissions(world.host("shut"), 0o600)
        #expect(try world.read(world.host("open")) == "x")
        #expect(refused { _ = try world.read(world.host("shut")) } == "path-denied")
    }

    // MARK: Searching

    @Test func everyFileIsDecidedOn() throws {
        let world = try AgentWorld("file_read: HOST/a/**", "file_read: HOST", "file_read: HOST/b/*.txt")
        for name in ["a/1.txt", "a/2.md", "b/3.txt", "b/4.key"] { try world.put(world.host(name), "needle\nhay\n") }
        try Files.makeLink(world.host("a/out"), to: "/etc")
        let found = try world.files.search(world.host("."), for: BoundedRegex("needle"))
        #expect(
            found.lines.map(\.path.description) == ["a/1.txt", "a/2.md", "b/3.txt"].map(world.host))
        #expect(found.summary.notGranted == 1 && found.summary.files == 3 && !found.summary.isCut)
        let pattern = try pattern(world.host("**/*.txt"))
        #expect(
            try world.files.glob(pattern, limit: 10).paths.map(\.description) == ["a/1.txt", "b/3.txt"].map(world.host))
        #expect(refused { _ = try world.files.search(world.host("b"), for: BoundedRegex("x")) } == "not-covered")
    }

    private func pattern(_ text: String) throws -> PathPattern {
        guard case .fileRead(let pattern) = try Capability(parsing: "file_read: \(text)") else {
            throw AegisError.usage("no pattern")
        }
        return pattern
    }

    @Test func searchesAreBounded() throws {
        let world = try AgentWorld("file_read: /workspace/**")
        try world.put(world.inside("long"), String(repeating: "ä", count: 600) + "\n")
        try world.put(world.inside("many"), String(repeating: "x\r\n", count: 300))
        try world.put(world.inside("binary"), "x\0x")
        let many = try world.files.search("/workspace", for: BoundedRegex("x"))
        #expect(many.lines.count == 200 && many.summary.isCut && many.summary.binary == 1)
        #expect(many.lines.allSatisfy { $0.text == "x" } && many.lines[199].line == 200)
        let long = try world.files.search("/workspace/long", for: BoundedRegex("ä+"))
        #expect(long.lines[0].text == String(repeating: "ä", count: 256) + "…")
        var bounds = SearchBounds()
        bounds.bytes = 3
        #expect(try world.files.search("/workspace", for: BoundedRegex("x"), bounds: bounds).lines.count == 3)
        bounds.file = 10
        #expect(try world.files.search("/workspace", for: BoundedRegex("x"), bounds: bounds).summary.tooLarge == 2)
        var walk = WalkBounds()
        walk.entries = 2
        #expect(try world.files.glob(pattern("/workspace/**"), limit: 10, bounds: walk).summary.isCut)
        walk = WalkBounds()
        walk.isOver = { true }
        for index in 0..<300 { try world.put(world.inside("d/\(index)"), "") }
        #expect(try world.files.glob(pattern("/workspace/**"), limit: 1000, bounds: walk).paths.count < 300)
        #expect(
            refused { _ = try world.files.search("/workspace/many", for: BoundedRegex("(a?){30}(x*)*y|z")) } == nil)
    }

    /// One file, and one line of it, can take as long as a search likes: it ends in the middle, and not with the next file.
    @Test(arguments: ["a*+[cd]", "(a+)+$"])
    func aSearchEndsInTheMiddleOfAFile(_ pattern: String) throws {
        let world = try AgentWorld("file_read: /workspace/**")
        let isOneLine = pattern == "a*+[cd]"
        let line =
            isOneLine ? String(repeating: "a", count: 4 << 20) : String(repeating: "aaaaaaaaaaaab\n", count: 50_000)
        try world.put(world.inside("f"), line)
        let regex = try BoundedRegex(pattern, options: .stoppable)
        let asked = Mutex(0)
        @Sendable func ask() -> Int {
            asked.withLock {
                $0 += 1
                return $0
            }
        }
        var bounds = SearchBounds()
        bounds.walk.isOver = { ask() >= 5 }
        #expect(throws: CancellationError.self) { _ = try world.files.search("/workspace", for: regex, bounds: bounds) }
        #expect(asked.withLock { $0 } == 5)
        // So it does when its grant is taken back meanwhile.
        let book = world.book
        let grant = try #require(book.records(of: world.holder).first?.id)
        asked.withLock { $0 = 0 }
        bounds.walk.isOver = {
            if ask() == 5 { _ = try? book.revoke(grant, reason: "enough") }
            return false
        }
        #expect(refused { _ = try world.files.search("/workspace", for: regex, bounds: bounds) } == "revoked")
        #expect(asked.withLock { $0 } < 10)
    }

    /// Files that are read by another grant than the place: one use of it for each search, and the bytes of all of them.
    @Test func whatIsReadByAnotherGrantCountsThere() throws {
        let world = try AgentWorld(
            "file_read: HOST", "{grant: \"file_read: HOST/a/**\", max_bytes: 100, max_calls: 2}", "file_read: HOST/b/**"
        )
        for name in ["a/1", "a/2", "b/3"] { try world.put(world.host(name), "needle\n") }
        func used() -> [UInt64] {
            world.book.records(of: world.holder).flatMap { [$0.calls, $0.used.bytes] }
        }
        func search() throws -> (lines: [FoundLine], summary: WalkSummary) {
            try world.files.search(world.host("."), for: BoundedRegex("needle"))
        }
        #expect(try search().lines.count == 3)
        #expect(used() == [1, 0, 1, 14, 1, 7])
        // What has no room is left out, and so is what follows by that grant.
        try world.put(world.host("a/0"), "needle\n")
        try world.put(world.host("a/1"), String(repeating: "x", count: 100))
        let found = try search()
        #expect(found.lines.map(\.path.description) == ["a/0", "b/3"].map(world.host))
        #expect(found.summary.notGranted == 2 && found.summary.files == 2)
        #expect(used() == [2, 0, 2, 21, 2, 14])
        #expect(try search().lines.count == 1)
        #expect(used() == [3, 0, 2, 21, 3, 21])
    }

    /// What is taken back while files are looked at lets no further one be read.
    @Test func aGrantThatIsTakenBackEndsWithTheNextFile() throws {
        let world = try AgentWorld("file_read: HOST", "file_read: HOST/a/**", "file_read: HOST/b/**")
        for name in ["a/1", "a/2", "b/3", "b/4"] { try world.put(world.host(name), "x") }
        let grants = world.book.records(of: world.holder).map(\.id)
        var seen: [String] = []
        let summary = try world.files.walk(
            try AgentPath(world.host(".")), bounds: WalkBounds()
        ) { _, file in
            seen.append(file.path.description)
            if seen.count == 1 { _ = try world.book.revoke(grants[1], reason: "enough") }
            return true
        }
        #expect(seen == ["a/1", "b/3", "b/4"].map(world.host) && summary.notGranted == 1)
        let reason = refused {
            _ = try world.files.walk(
                try AgentPath(world.host(".")), bounds: WalkBounds()
            ) { _, _ in try !world.book.revoke(grants[0], reason: "enough").isEmpty }
        }
        #expect(reason == "revoked")
    }

    @Test func searchedBytesCount() throws {
        let world = try AgentWorld("{grant: \"file_read: /workspace/**\", max_bytes: 100}")
        try world.put(world.inside("a"), String(repeating: "x", count: 60))
        #expect(try world.files.search("/workspace", for: BoundedRegex("x")).lines.count == 1)
        try world.put(world.inside("b"), String(repeating: "x", count: 60))
        #expect(refused { _ = try world.files.search("/workspace", for: BoundedRegex("x")) } == "bytes-used-up")
    }
}
