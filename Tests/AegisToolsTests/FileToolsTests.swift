import AegisAuditTestSupport
import AegisCapabilities
import AegisCore
import AegisFiles
import AegisJSON
import AegisTestSupport
import Foundation
import LinuxSys
import Synchronization
import Testing

@testable import AegisTools

/// An agent with the file tools and a workspace.
struct FileWorld {
    let directory: TemporaryDirectory
    var world: World

    init(_ grants: String...) throws {
        directory = try TemporaryDirectory()
        for name in ["home/w", "run"] { try Files.makeDirectories(directory.path(name)) }
        world = try World(FileTools.all, grants: ["tool: *"] + grants)
        world.context.files = FileScope(
            workspace: try OpenedPath(ownFolder: directory.path("home/w")), home: directory.path("home"),
            runDirectory: directory.path("run"))
    }

    func put(_ name: String, _ text: String) throws {
        let path = directory.path("home/w/\(name)")
        try Files.makeDirectories(Files.split(path).directory)
        try Files.writeAtomically(path, Array(text.utf8))
    }
    func text(_ name: String) throws -> String {
        String(decoding: try Files.read(directory.path("home/w/\(name)"), limit: 1 << 24), as: UTF8.self)
    }
    func call(_ name: String, _ input: JSONValue) async -> ToolReply { await world.call(name, input) }
}

struct FileToolsTests {
    @Test func declarationsAreUsable() throws {
        let registry = try ToolRegistry(FileTools.all + [EchoTool()])
        #expect(
            registry.declarations.map(\.name) == [
                "echo", "file_edit", "file_list", "file_multi_edit", "file_read", "file_read_many", "file_write",
                "glob",
                "grep",
            ])
        #expect(throws: AegisError.self) { try registry.register(EchoTool()) }
        #expect(throws: AegisError.self) { try registry.register(ClosureTool("bad name")) }
        #expect(throws: AegisError.self) { try registry.register(ClosureTool("bad", input: ["if": [:]])) }
        try registry.register(ClosureTool("foreign", input: ["if": [:]]), foreign: true)
    }

    @Test func readingNumbersAndPages() async throws {
        let world = try FileWorld("file_read: /workspace/**")
        try world.put("f", "one\ntwo\r\nthree")
        let all = await world.call("file_read", ["path": "/workspace/f"])
        #expect(
            all.value == [
                "path": "/workspace/f", "content": "     1\tone\n     2\ttwo\r\n     3\tthree\n", "size_bytes": 14,
                "total_lines": 3, "offset": 1, "returned_lines": 3, "truncated": false,
            ])
        let page = await world.call(
            "file_read", ["path": "/workspace/f", "offset": 2, "limit": 1, "numbered": false])
        #expect(page.value["content"] == "two\r\n" && page.value["truncated"] == true)
        #expect(page.value["returned_lines"] == 1 && page.value["total_lines"] == 3)
        let spelled = await world.call(
            "file_read", ["path": "/workspace/f", "offset": .number("2.0"), "limit": .number("1e0"), "numbered": false])
        #expect(spelled.value == page.value)
        let far = await world.call("file_read", ["path": "/workspace/f", "offset": .number("1e300")])
        #expect(far.code == "arguments-invalid")
        let beyond = await world.call("file_read", ["path": "/workspace/f", "offset": 9])
        #expect(beyond.value["content"] == "" && beyond.value["truncated"] == false)
        try world.put("binary", "\u{0}")
        try Files.writeAtomically(world.directory.path("home/w/latin"), [0xe4, 0x0a])
        #expect(await world.call("file_read", ["path": "/workspace/latin"]).code == "not-text")
        try world.put("empty", "")
        #expect(await world.call("file_read", ["path": "/workspace/empty"]).value["total_lines"] == 0)
        let error = await world.call("file_read", ["path": "notes"])
        #expect(
            error.code == "path-invalid" && error.value["error"]?["hint"] == "'/workspace/notes' is in the workspace")
        #expect(await world.call("file_read", ["path": "/workspace/f", "offset": 0]).code == "arguments-invalid")
    }

    @Test func longFilesAreCutAtALine() async throws {
        let world = try FileWorld("file_read: /workspace/**")
        let line = String(repeating: "ä", count: 5000)
        try world.put("f", Array(repeating: line, count: 60).joined(separator: "\n"))
        let reply = await world.call("file_read", ["path": "/workspace/f", "numbered": false])
        let content = try #require(reply.value["content"]?.text)
        #expect(content.utf8.count <= FileReadTool.mostText && content.hasSuffix("ä\n"))
        #expect(reply.value["truncated"] == true && reply.value["returned_lines"] == 19)
        try world.put("one", String(repeating: "ä", count: 200_000))
        let cut = await world.call("file_read", ["path": "/workspace/one", "numbered": false])
        #expect(cut.value["content"]?.text?.utf8.count == FileReadTool.mostText + 1)
        try world.put("huge", String(repeating: "x", count: FileTools.largest + 1))
        #expect(await world.call("file_read", ["path": "/workspace/huge"]).code == "file-too-large")
    }

    @Test func listingSaysKindAndSize() async throws {
        let world = try FileWorld("file_read: /workspace/**")
        try world.put("d/f", "abc")
        let reply = await world.call("file_list", ["path": "/workspace"])
        #expect(
            reply.value == [
                "path": "/workspace", "kind": "dir",
                "entries": [["name": "d", "kind": "dir", "size_bytes": 0]], "truncated": false,
            ])
        let file = await world.call("file_list", ["path": "/workspace/d/f"])
        #expect(
            file.value == [
                "path": "/workspace/d/f", "kind": "file", "size_bytes": 3, "entries": [], "truncated": false,
            ])
    }

    @Test func manyFilesComeInOrderEachWithItsOwnError() async throws {
        let world = try FileWorld("file_read: /workspace/open/**")
        try world.put("open/a", "A")
        try world.put("shut", "S")
        let paths: JSONValue = ["/workspace/shut", "/workspace/open/a", "/workspace/open/no", "relative"]
        let reply = await world.call("file_read_many", ["paths": paths])
        #expect(!reply.isError)
        let files = try #require(reply.value["files"]?.elements)
        #expect(files.map { $0["path"] } == paths.elements.map { $0.map(Optional.some) } ?? [])
        #expect(
            files.map { $0["error"]?.text } == ["capability-denied", nil, "path-not-found", "path-invalid"])
        #expect(files[1]["content"] == "A" && reply.value["failed"] == 3)
        // A refusal within a batch is recorded as one.
        #expect(world.world.trail.kinds == ["tool_invoked", "tool_refused", "tool_result"])
        let failed = await world.call("file_read_many", ["paths": ["/workspace/shut", "/workspace/open/no"]])
        #expect(failed.isError && world.world.trail.field("success", ofLast: .toolResult) == false)
        let many = JSONValue.array(Array(repeating: "/workspace/open/a", count: 17))
        #expect(await world.call("file_read_many", ["paths": many]).code == "arguments-invalid")
        #expect(await world.call("file_read_many", ["paths": []]).code == "arguments-invalid")
    }

    @Test func writingTellsWhatItDid() async throws {
        let world = try FileWorld("file_write: /workspace/**")
        let made = await world.call("file_write", ["path": "/workspace/d/f", "content": "ä"])
        #expect(made.value == ["path": "/workspace/d/f", "bytes_written": 2, "created": true, "size_bytes": 2])
        let more = await world.call("file_write", ["path": "/workspace/d/f", "content": "b", "append": true])
        #expect(more.value["size_bytes"] == 3 && more.value["created"] == false)
        #expect(try world.text("d/f") == "äb")
        let denied = await world.call("file_write", ["path": "/etc/x", "content": ""])
        #expect(
            denied.code == "capability-denied" && denied.value["error"]?["granted"] == ["file_write: /workspace/**"])
        let large = JSONValue.string(String(repeating: "x", count: FileTools.largest + 1))
        #expect(await world.call("file_write", ["path": "/workspace/x", "content": large]).code == "content-too-large")
    }

    @Test func editsSayWhyTheyDoNotFit() async throws {
        let world = try FileWorld("file_write: /workspace/**", "file_read: /workspace/**")
        try world.put("f", "one\n\ttwo\none\n")
        func edit(_ old: String, _ new: String, all: Bool = false) async -> ToolReply {
            await world.call(
                "file_edit",
                [
                    "path": "/workspace/f", "old_string": .string(old), "new_string": .string(new),
                    "replace_all": .bool(all),
                ])
        }
        let missing = await edit("three", "x")
        #expect(missing.code == "edit-not-found")
        let spaces = await edit("    two", "x")
        #expect(spaces.value["error"]?["hint"]?.text?.hasPrefix("line 2 has the same words") == true)
        let twice = await edit("one", "x")
        #expect(
            twice.code == "edit-ambiguous" && twice.value["error"]?["message"]?.text?.contains("lines 1, 3") == true)
        #expect(await edit("one", "one").isError)
        #expect(await edit("", "one").code == "arguments-invalid")
        #expect(try world.text("f") == "one\n\ttwo\none\n")
        let done = await edit("one", "1", all: true)
        #expect(done.value == ["path": "/workspace/f", "replacements": 2, "bytes_before": 13, "bytes_after": 9])
        #expect(try world.text("f") == "1\n\ttwo\n1\n")
    }

    @Test func severalEditsAreMadeTogetherOrNotAtAll() async throws {
        let world = try FileWorld("file_write: /workspace/**", "file_read: /workspace/**")
        try world.put("f", "a b c")
        func edits(_ pairs: (String, String)...) -> JSONValue {
            let list = pairs.map {
                JSONValue.object([.init("old_string", .string($0.0)), .init("new_string", .string($0.1))])
            }
            return ["path": "/workspace/f", "edits": .array(list)]
        }
        let failed = await world.call("file_multi_edit", edits(("a", "x"), ("a", "y")))
        #expect(
            failed.code == "edit-not-found" && failed.value["error"]?["message"]?.text?.hasPrefix("edit 2: ") == true)
        #expect(try world.text("f") == "a b c")
        let done = await world.call("file_multi_edit", edits(("a", "x"), ("x b", "y"), ("c", "z")))
        #expect(done.value["replacements"] == 3)
        #expect(try world.text("f") == "y z")
    }

    @Test func searchingFindsLinesAndFiles() async throws {
        let world = try FileWorld("file_read: /workspace/**")
        try world.put("src/a.swift", "let Needle = 1\n")
        try world.put("src/deep/b.swift", "needle\n")
        try world.put("c.txt", "needle(\n")
        try world.put(".git/config", "needle\n")
        func grep(_ input: JSONValue) async -> [String] {
            let reply = await world.call("grep", input)
            return (reply.value["matches"]?.elements ?? []).map {
                "\($0["path"]?.text ?? ""):\($0["line"]?.integer ?? 0)"
            }
        }
        #expect(await grep(["pattern": "needle"]) == ["/workspace/c.txt:1", "/workspace/src/deep/b.swift:1"])
        #expect(await grep(["pattern": "^let.*needle", "case_insensitive": true]) == ["/workspace/src/a.swift:1"])
        #expect(await grep(["pattern": "needle(", "literal": true]) == ["/workspace/c.txt:1"])
        #expect(await grep(["pattern": "needle", "glob": "*.swift"]) == ["/workspace/src/deep/b.swift:1"])
        #expect(
            await grep(["pattern": ".", "path": "/workspace/src", "glob": "deep/*.swift"]) == [
                "/workspace/src/deep/b.swift:1"
            ])
        // A file that is named is compared by its name; what is reached through a link by what comes after that.
        let file: JSONValue = "/workspace/src/deep/b.swift"
        #expect(await grep(["pattern": "needle", "path": file, "glob": "*.swift"]).count == 1)
        #expect(await grep(["pattern": "needle", "path": file, "glob": "*.txt"]).isEmpty)
        try FileManager.default.createSymbolicLink(
            atPath: world.directory.path("home/w/current"), withDestinationPath: "src")
        for glob in ["*.swift", "deep/*.swift", "**/b.*"] {
            let found = await grep(["pattern": "needle", "path": "/workspace/current", "glob": .string(glob)])
            #expect(found == ["/workspace/src/deep/b.swift:1"], "\(glob)")
        }
        #expect(await grep(["pattern": "needle", "path": "/workspace/current", "glob": "src/**/*.swift"]).isEmpty)
        // Names that no pattern could hold are only passed.
        try world.put("[x]/n.swift", "needle\n")
        #expect(
            await grep(["pattern": "needle", "path": "/workspace/[x]", "glob": "*.swift"])
                == ["/workspace/[x]/n.swift:1"])
        #expect(await grep(["pattern": "needle", "max_results": 1]).count == 1)
        #expect(await world.call("grep", ["pattern": "("]).code == "pattern-invalid")
        let found = await world.call("glob", ["pattern": "/workspace/**/*.swift"])
        #expect(
            found.value == [
                "paths": ["/workspace/[x]/n.swift", "/workspace/src/a.swift", "/workspace/src/deep/b.swift"],
                "count": 3,
                "truncated": false,
            ])
        #expect(await world.call("glob", ["pattern": "*.swift"]).code == "pattern-invalid")
    }

    @Test func withoutFilesThereAreNone() async throws {
        var world = try FileWorld("file_read: /**")
        world.world.context.files = nil
        #expect(await world.call("file_read", ["path": "/workspace/x"]).code == "no-files")
    }

    // MARK: Approvals

    @Test func aChangeIsShownAsADiffAndBoundToTheVersion() async throws {
        var world = try FileWorld("file_write: /workspace/**", "file_read: /workspace/**")
        try world.put("f", "one\ntwo\nthree\n")
        world.world.context.approvals.required = ["file_edit", "file_write"]
        let (directory, agreed) = (
            world.directory, ApprovalDecision.granted(id: "a", by: Approver(uid: 0, door: "cli"))
        )
        let desk = ScriptedDesk { _, count in
            // Somebody changes the file while the person reads.
            if count == 1 { try Files.writeAtomically(directory.path("home/w/f"), Array("ONE\ntwo\nthree\n".utf8)) }
            return agreed
        }
        world.world.context.desk = desk
        let reply = await world.call("file_edit", ["path": "/workspace/f", "old_string": "two", "new_string": "2"])
        #expect(!reply.isError)
        #expect(try world.text("f") == "ONE\n2\nthree\n")
        #expect(desk.requests.count == 2)
        let shown = desk.requests.map(\.preview)
        #expect(shown[0].text == "--- /workspace/f\n+++ /workspace/f\n@@ line 1 @@\n one\n-two\n+2\n three\n")
        #expect(shown[1].text.contains(" ONE\n"))
        #expect(shown[0].resource == "file_write: /workspace/f" && shown[0].facts != shown[1].facts)
        let new = await world.call("file_write", ["path": "/workspace/n", "content": "x"])
        #expect(!new.isError)
        #expect(desk.requests[2].preview.facts == ["file: /workspace/n": "absent"])
        // What would be refused is not shown to anybody.
        #expect(await world.call("file_write", ["path": "/etc/x", "content": "x"]).code == "capability-denied")
        #expect(
            await world.call("file_edit", ["path": "/workspace/f", "old_string": "no", "new_string": "2"]).code
                == "edit-not-found")
        #expect(desk.requests.count == 3)
    }
}

struct LineDiffTests {
    private func diff(_ old: String?, _ new: String) -> String {
        LineDiff.text(path: "/f", from: old.map { Array($0.utf8) }, to: Array(new.utf8))
    }

    @Test(arguments: [
        (nil, "a\n", "--- (no file)\n+++ /f\n@@ line 1 @@\n+a\n"),
        ("a\n", "a\n", "--- /f\n+++ /f\n(nothing changes)\n"),
        ("a\n", "", "--- /f\n+++ /f\n@@ line 1 @@\n-a\n"),
        ("a\n", "a", "--- /f\n+++ /f\n@@ line 1 @@\n a\n+\\ no newline at the end\n"),
        ("a\nb\nc\n", "a\nx\nc\n", "--- /f\n+++ /f\n@@ line 1 @@\n a\n-b\n+x\n c\n"),
    ])
    func shows(_ old: String?, _ new: String, _ text: String) { #expect(diff(old, new) == text) }

    @Test func farLinesAreLeftOut() {
        let lines = (1...20).map { "l\($0)" }
        var changed = lines
        changed[1] = "x"
        changed[17] = "y"
        let text = diff(lines.joined(separator: "\n") + "\n", changed.joined(separator: "\n") + "\n")
        #expect(
            text.contains(
                "@@ line 1 @@\n l1\n-l2\n+x\n l3\n l4\n l5\n@@ line 15 @@\n l15\n l16\n l17\n-l18\n+y\n l19\n l20\n"))
        #expect(!text.contains("l10"))
    }

    /// A line that counts how often it is looked at.
    private struct Counted: Hashable {
        let text: String
        let count: Mutexed
        static func == (a: Self, b: Self) -> Bool {
            a.count.add()
            return a.text == b.text
        }
        func hash(into hasher: inout Hasher) { hasher.combine(text) }
    }
    private final class Mutexed: Sendable {
        private let state = Mutex(0)
        var value: Int { state.withLock { $0 } }
        func add() { state.withLock { $0 += 1 } }
    }

    /// Also where nothing stays, which takes the most: then all goes, and all comes.
    @Test(arguments: [(4000, 4000, 0), (30, 60_000, 0), (60_000, 60_000, 0), (4000, 4000, 100), (4000, 4000, 3)])
    func theWorkIsBounded(_ before: Int, _ after: Int, _ every: Int) {
        let count = Mutexed()
        func lines(_ number: Int, _ word: String) -> [Counted] {
            (0..<number).map { line in
                // Some lines are in both, many times or once.
                let isCommon = every > 0 && line % every == 0
                return Counted(text: isCommon ? every == 3 ? "}" : "common \(line)" : "\(word)\(line)", count: count)
            }
        }
        let (old, new) = (lines(before, "a"), lines(after, "b"))
        let edits = LineDiff.middle(old[...], new[...])
        #expect(count.value < 2_500_000, "\(count.value)")
        #expect(edits.filter { $0.0 != .added }.map(\.1.text) == old.map(\.text))
        #expect(edits.filter { $0.0 != .removed }.map(\.1.text) == new.map(\.text))
        let same = edits.count { $0.0 == .same }
        #expect(every == 100 ? same == 40 : every == 3 || same == 0, "\(same)")
    }

    /// Small changes far apart in a large file are shown as such.
    @Test func aLargePartIsDividedWhereBothAreTheSame() {
        let lines = (1...9000).map { "l\($0)" }
        var changed = lines
        changed[1] = "x"
        changed.insert("new", at: 4000)
        changed.swapAt(6000, 6001)
        changed.remove(at: 8990)
        let text = diff(lines.joined(separator: "\n") + "\n", changed.joined(separator: "\n") + "\n")
        let edits = text.split(separator: "\n").dropFirst(2).filter { "+-".contains($0.prefix(1)) }
        #expect(edits.prefix(3) == ["-l2", "+x", "+new"] && edits.last == "-l8990" && edits.count == 6, "\(edits)")
    }

    /// That it is cut is said first, and the end is shown: what matters may stand there.
    @Test func hugeChangesAreCutInTheirMiddle() {
        let old = (0..<5000).map { "a\($0)\n" }.joined()
        let new = (0..<5000).map { "b\($0)\n" }.joined()
        let lines = diff(old, new).split(separator: "\n").map(String.init)
        #expect(lines[2].hasPrefix("(2000 of 10000 lines are shown: "), "\(lines[2])")
        #expect(lines.contains("(8000 lines are not shown here)") && lines.count == 2 + 2 + 1000 + 2 + 1000)
        #expect(lines[4] == "-a0" && lines[1003] == "-a999" && lines.last == "+b4999")
    }
}
