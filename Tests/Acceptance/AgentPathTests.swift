import Foundation
import LinuxSys
import Testing

/// Paths of file tools, through `agentd.sock`: what a grant is for is decided by where a path leads, before anything is done there.
@Suite struct AgentPathTests {
    /// Folders of the host: `data` is granted, `data-other` beside it is not.
    private struct Place {
        let root = "/tmp/aegis-test-paths-\(UUID().uuidString)"

        init() throws {
            let files = FileManager.default
            for folder in ["data/sub", "data-other"] {
                try files.createDirectory(atPath: "\(root)/\(folder)", withIntermediateDirectories: true)
            }
            try "inside".write(toFile: "\(root)/data/sub/file", atomically: true, encoding: .utf8)
            try "secret".write(toFile: "\(root)/data-other/file", atomically: true, encoding: .utf8)
            try files.createSymbolicLink(atPath: "\(root)/data/out", withDestinationPath: "../data-other")
            try files.createSymbolicLink(atPath: "\(root)/in", withDestinationPath: "data")
            // SAFETY: the text lives as long as the call.
            try #require(unsafe mkfifo("\(root)/data/pipe", 0o600) == 0)
        }
    }

    private static func with(_ body: @escaping @Sendable (AgentDoor, String) async throws -> Void) async throws {
        let place = try Place()
        defer { try? FileManager.default.removeItem(atPath: place.root) }
        try await AgentDoor.with { door in try await body(door, place.root) }
    }

    private static let tools = [
        "tool: file_read", "tool: file_list", "tool: file_read_many", "tool: file_write", "tool: file_edit",
        "tool: grep",
        "tool: glob",
    ]

    /// Neither `..`, nor a link, nor a name that only begins like the granted one.
    @Test func nothingLeadsOutOfAGrant() async throws {
        try await Self.with { door, root in
            let id = try await door.spawn(
                "a", Self.tools + ["file_read: \(root)/data/*", "file_write: \(root)/data/*"])
            func code(_ tool: String, _ input: [String: Any]) async throws -> String? {
                AgentDoor.code(try await door.invoke(id, tool, input))
            }
            for path in ["data/sub/file", "data/sub/../sub/file", "data//./sub/file", "in/sub/file"] {
                #expect(try await code("file_read", ["path": "\(root)/\(path)"]) == nil, "\(path)")
            }
            // A grant of a link is none of the place behind it; who holds it is told what would be.
            let linked = try await door.spawn("l", ["tool: file_read", "file_read: \(root)/in/*"])
            let followed = try await door.invoke(linked, "file_read", ["path": "\(root)/in/sub/file"])
            #expect(
                AgentDoor.code(followed) == "capability-denied" && "\(followed)".contains("\(root)/data/sub/file"),
                "\(followed)")
            let unseen = try await door.invoke(linked, "file_read", ["path": "\(root)/data/out/file"])
            #expect(AgentDoor.code(unseen) == "capability-denied" && !"\(unseen)".contains("data-other"), "\(unseen)")
            // The folder itself is in its tree, and what is above it is not.
            #expect(try await code("file_list", ["path": "\(root)/data"]) == nil)
            let outside = [
                "data-other/file", "data/../data-other/file", "data/sub/../../data-other/file", "data/out/file",
                "in/out/file", "data-other/none",
            ]
            for path in outside {
                // Whether there is such a file is not told either.
                let text = ["path": "\(root)/\(path)"]
                #expect(try await code("file_read", text) == "capability-denied", "\(path)")
                let edit = text.merging(["old_string": "secret", "new_string": "changed"]) { $1 }
                #expect(try await code("file_edit", edit) == "capability-denied", "\(path)")
                #expect(
                    try await code("file_write", text.merging(["content": "x"]) { $1 }) == "capability-denied",
                    "\(path)")
            }
            for path in ["", "data-other", "data/out", "data/.."] {
                #expect(try await code("file_list", ["path": "\(root)/\(path)"]) == "capability-denied", "\(path)")
                #expect(
                    try await code("grep", ["pattern": "secret", "path": "\(root)/\(path)"]) == "capability-denied",
                    "\(path)")
            }
            let many = try await door.invoke(
                id, "file_read_many", ["paths": ["\(root)/data/sub/file", "\(root)/data/out/file"]])
            let read = AgentDoor.value(many)?["files"] as? [[String: Any]]
            #expect(read?.map { $0["content"] as? String } == ["inside", nil], "\(many)")
            #expect(read?.last?["error"] as? String == "capability-denied", "\(many)")
            // A search does not go out by a link that it meets.
            let found = try await door.invoke(id, "grep", ["pattern": "secret|inside", "path": "\(root)/data"])
            #expect("\(found)".contains("inside") && !"\(found)".contains("secret\""), "\(found)")
        }
    }

    /// What is refused has not been begun: nothing was made, cut or waited for.
    @Test func whatIsRefusedHasDoneNothing() async throws {
        try await Self.with { door, root in
            let id = try await door.spawn(
                "a", Self.tools + ["file_read: \(root)/data/*", "file_write: \(root)/data/*"])
            let files = FileManager.default
            for path in ["data-other/new", "data/out/new", "elsewhere/deep/new", "data-other/file", "data/../new"] {
                let refused = try await door.invoke(
                    id, "file_write", ["path": "\(root)/\(path)", "content": "x", "append": path.hasSuffix("file")])
                #expect(AgentDoor.code(refused) == "capability-denied", "\(path): \(refused)")
            }
            #expect(try files.contentsOfDirectory(atPath: root).sorted() == ["data", "data-other", "in"])
            #expect(try files.contentsOfDirectory(atPath: "\(root)/data-other") == ["file"])
            #expect(try String(contentsOfFile: "\(root)/data-other/file", encoding: .utf8) == "secret")
            // Nobody writes into a pipe: who opened it before looking would wait for ever.
            let pipe = try await door.invoke(id, "file_read", ["path": "\(root)/data/pipe"])
            #expect(AgentDoor.code(pipe) != nil, "\(pipe)")
            // A link in the workspace leads nowhere else, whoever has put it there.
            let own = try await door.spawn("b", Self.tools + ["file_read: /workspace/**", "file_write: /workspace/**"])
            _ = try await door.invoke(own, "file_write", ["path": "/workspace/x", "content": "x"])
            let workspace = "\(door.fixture.home)/agents/\(own)/workspace"
            try files.createSymbolicLink(atPath: "\(workspace)/out", withDestinationPath: "\(root)/data-other")
            for tool in ["file_read", "file_write"] {
                let path: [String: Any] = ["path": "/workspace/out/file"]
                let input = tool == "file_write" ? path.merging(["content": "x"]) { $1 } : path
                #expect(AgentDoor.code(try await door.invoke(own, tool, input)) != nil)
            }
            #expect(try String(contentsOfFile: "\(root)/data-other/file", encoding: .utf8) == "secret")
        }
    }

    /// To write is not to read, nor to look what is there; and to look needs the reading of the folder.
    @Test func readingAndWritingAreGrantedEachForItself() async throws {
        try await Self.with { door, root in
            let writer = try await door.spawn("w", Self.tools + ["file_write: \(root)/data/*"])
            let reader = try await door.spawn("r", Self.tools + ["file_read: \(root)/data/*"])
            let bare = try await door.spawn("n", ["file_read: \(root)/data/*", "file_write: \(root)/data/*"])
            let (file, folder) = (["path": "\(root)/data/sub/file"], ["path": "\(root)/data/sub"])
            let edit = file.merging(["old_string": "inside", "new_string": "changed"]) { $1 }
            let write = ["path": "\(root)/data/sub/new", "content": "x"]
            for (agent, tool, input, isAllowed) in [
                (writer, "file_write", write, true), (writer, "file_read", file, false),
                (writer, "file_list", folder, false), (writer, "file_edit", edit, false),
                (reader, "file_read", file, true), (reader, "file_list", folder, true),
                (reader, "file_write", write, false), (reader, "file_edit", edit, false),
                (bare, "file_read", file, false), (bare, "file_write", write, false),
            ] {
                let code = AgentDoor.code(try await door.invoke(agent, tool, input))
                #expect(code == (isAllowed ? nil : "capability-denied"), "\(tool) \(code ?? "-")")
            }
            #expect(try String(contentsOfFile: "\(root)/data/sub/file", encoding: .utf8) == "inside")
        }
    }
}
