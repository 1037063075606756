import Foundation
import Testing

/// Where agents stop: what waits for a person, what is used up, what was taken back. Through `agentd.sock` of a real daemon.
@Suite struct AgentEdgesTests {
    // MARK: People

    /// What a parent has to ask for its children have to ask for, whatever their manifests say.
    @Test func childrenAskForWhatTheirParentHasToAskFor() async throws {
        let rules = AgentDoor.rulesOfBoss(
            child: ["tool: file_write", "file_write: /workspace/**"], writes: "/workspace/note", #"agreed\n"#,
            says: "the child has written")
        try await AgentDoor.with(rules: rules) { door in
            let id = try await door.spawn(
                "boss", ["tool: spawn_agent", "spawn: child", "tool: file_write", "file_write: /workspace/**"],
                "approval_required: [file_write]")
            let note = "\(door.fixture.home)/agents/\(id)/workspace/note"
            let sent = try await door.result("agent.run", ["agent_id": id, "message": "go", "wait": false])
            let asked = try await door.waiting()
            #expect(asked["tool"] as? String == "file_write" && asked["agent_name"] as? String == "child", "\(asked)")
            #expect(!FileManager.default.fileExists(atPath: note))
            try await door.answer(asked, "approve")
            let reply = try await door.result(
                "agent.reply", ["agent_id": id, "trace_id": sent["trace_id"] ?? "", "wait": true])
            #expect(reply["response"] as? String == "the child has written", "\(reply)")
            #expect(try String(contentsOfFile: note, encoding: .utf8) == "agreed\n")
            let kinds = ["human_approval_requested", "human_approval_granted"]
            let told = try await door.result("audit.tail", ["kinds": kinds, "count": 10])
            let records = try #require(told["records"] as? [[String: Any]])
            #expect(
                records.map { $0["kind"] as? String } == kinds,
                "\(told)")
            #expect(records.allSatisfy { $0["parent"] as? String == id }, "\(told)")
        }
    }

    /// Nobody's manifest is read with more than its caller's rights, and its errors show nothing of what stands in it (decision D31).
    @Test func aManifestIsReadAsItsCallerMay() async throws {
        try await AgentDoor.with { door in
            try await door.openToAll()
            let (f, nobody) = (door.fixture, 65_534)
            func write(_ name: String, _ text: String, mode: Int) throws -> String {
                let file = f.path(name)
                try text.write(toFile: file, atomically: true, encoding: .utf8)
                try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: file)
                return file
            }
            let manifest = "name: worker\nmodel: default\ncapabilities: ['tool: echo']\n"
            for method in ["agent.spawn", "agent.spawn_and_run"] {
                func code(_ file: String, user: Int? = nil) async throws -> String? {
                    let message = method == "agent.spawn" ? [:] : ["message": "x"]
                    return try await door.problem(
                        method, message.merging(["manifest_path": file]) { $1 }, user: user)
                }
                let closed = try write("closed.yaml", manifest, mode: 0o600)
                #expect(try await code(closed, user: nobody) == "path-denied")
                #expect(try await code(closed) == nil)
                #expect(try await code(try write("open.yaml", manifest, mode: 0o644), user: nobody) == nil)
                // Nor is the file of its prompt.
                _ = try write("prompt.md", "hunter2", mode: 0o600)
                let prompted = try write("prompted.yaml", manifest + "system_prompt: {file: prompt.md}\n", mode: 0o644)
                #expect(try await code(prompted, user: nobody) == "path-denied")
                // No link leads there either.
                let link = f.path("link-\(method).yaml")
                try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: closed)
                #expect(try await code(link, user: nobody) == "path-denied")
            }
            for (text, key) in [
                ("name: hunter2 hunter2\nmodel: [hunter2]\n", "name"), ("hunter2\n", "the file"),
                (
                    "name: worker\nmodel: default\ncapabilities: ['tool: hunter2!', 'hunter2: hunter2', hunter2]\n",
                    "capabilities"
                ),
                (
                    "name: worker\nmodel: default\nlifecycle: hunter2\nbudget_config: {max_tokens: hunter2}\n",
                    "lifecycle"
                ),
                ("name: worker\nmodel: default\napproval_required: [hunter2]\n", "approval_required"),
                ("name: worker\nmodel: default\ncapabilities: ['secret: hunter2@h.example']\n", "secret"),
                ("name: worker\npassword: hunter2\n", "password"), ("name: *hunter2\n", "alias"),
                ("name: !hunter2 x\nmodel: 'hunter2\n", "not valid YAML"),
                ("name: worker\nmodel: default\nlifecycle: {scheduled: hunter2}\n", "lifecycle"),
                ("name: worker\nmodel: default\nsandbox: {image: 'hunter2 x', limits: {cpus: hunter2}}\n", "sandbox"),
                ("name: worker\nmodel: default\napproval_required: [hunter2, {a: hunter2}]\n", "approval_required"),
                ("name: worker\nmodel: default\nmemory: {summarization_model: hunter2}\n", "memory"),
            ] {
                let file = try write("bad.yaml", text, mode: 0o644)
                for method in ["agent.spawn", "agent.spawn_and_run"] {
                    let message = method == "agent.spawn" ? [:] : ["message": "x"]
                    let answer = try await door.call(
                        method, message.merging(["manifest_path": file]) { $1 }, user: nobody)
                    let error = String(describing: answer["error"] ?? "none")
                    #expect(error.contains(key) && !error.contains("hunter2"), "\(method) \(text): \(error)")
                }
            }
        }
    }

    /// An approval is for what was shown: a file that somebody changes before the answer is shown again, and not written to.
    @Test func anApprovalIsBoundToWhatWasShown() async throws {
        try await AgentDoor.with { door in
            let id = try await door.spawn(
                "writer", ["tool: file_write", "file_write: /workspace/**"], "approval_required: [file_write]")
            let file = "\(door.fixture.home)/agents/\(id)/workspace/note"
            // Who holds the socket has no way round it.
            async let first = door.send(
                "tool.invoke",
                ["agent_id": id, "tool": "file_write", "input": ["path": "/workspace/note", "content": "first\n"]])
            let new = try await door.waiting()
            #expect(!FileManager.default.fileExists(atPath: file))
            try await door.answer(new, "approve")
            let written = try await first
            #expect(written.out.contains("bytes_written"), "\(written)")
            async let second = door.send(
                "tool.invoke",
                ["agent_id": id, "tool": "file_write", "input": ["path": "/workspace/note", "content": "mine\n"]])
            let asked = try await door.waiting(after: new)
            #expect((asked["preview"] as? String)?.contains("-first") == true, "\(asked)")
            try "theirs\n".write(toFile: file, atomically: true, encoding: .utf8)
            try await door.answer(asked, "approve")
            let again = try await door.waiting(after: asked)
            #expect((again["preview"] as? String)?.contains("-theirs") == true, "\(again)")
            #expect(try String(contentsOfFile: file, encoding: .utf8) == "theirs\n")
            try await door.answer(again, "deny")
            let refused = try await second
            #expect(refused.out.contains("approval-denied"), "\(refused)")
            #expect(try String(contentsOfFile: file, encoding: .utf8) == "theirs\n")
        }
    }

    // MARK: Money

    /// What children spend is their parent's money: when they have used it up, its own next question is refused.
    @Test func aTreeSpendsTheMoneyOfItsRoot() async throws {
        let rules = """
              - when: { agent: boss, turn: 1 }
                reply:
                  usage: { input: 0, output: 0 }
                  tools:
                    - name: spawn_agents
                      input:
                        children:
                          - { manifest: "name: one\\nmodel: priced", message: work }
                          - { manifest: "name: two\\nmodel: priced", message: work }
              - reply: { text: done, usage: { input: 0, output: 20000 } }

            """
        try await DaemonFixture.with(config: nil) { f in
            let door = AgentDoor(fixture: f)
            try await door.restart(
                "name: own", "type: scripted", "scenario: \(try door.scenario(rules))",
                "models: [{ alias: priced, model: priced, input_per_mtok: 10, output_per_mtok: 10 }]")
            let id = try await door.spawn(
                """
                name: boss
                model: priced
                lifecycle: persistent
                capabilities: ["tool: spawn_agents", "spawn: [one, two]", "model: priced"]
                budget_config: { max_usd: 0.30, reset_period_seconds: 0 }
                """)
            let run = try await door.result("agent.run", ["agent_id": id, "message": "go"])
            #expect(run["stop_reason"] as? String == "budget_exceeded", "\(run)")
            #expect((run["error"] as? [String: Any])?["code"] as? String == "budget-exceeded", "\(run)")
            let told = try await door.result("audit.tail", ["kinds": ["model_call_answered"], "count": 10])
            let names = (told["records"] as? [[String: Any]])?.compactMap {
                ($0["fields"] as? [String: Any])?["name"] as? String
            }
            #expect(names?.sorted() == ["boss", "one", "two"], "\(told)")
            let refused = try await door.result("audit.tail", ["kinds": ["budget_refused"], "agent": id])
            #expect((refused["records"] as? [Any])?.count == 1, "\(refused)")
            // Nobody else pays for it.
            let free = try await door.result(
                "agent.spawn_and_run", ["manifest": "name: other\nmodel: priced", "message": "go"])
            #expect(free["response"] as? String == "done", "\(free)")
        }
    }

    // MARK: Tools

    /// Edits of a file are made all or none; searches find what is there.
    @Test func filesAreEditedAndSearched() async throws {
        try await AgentDoor.with { door in
            let tools = ["file_write", "file_read", "file_edit", "file_multi_edit", "grep", "glob"]
            let id = try await door.spawn(
                """
                name: editor
                model: default
                lifecycle: persistent
                capabilities: ["file_read: /workspace/**", "file_write: /workspace/**", \(tools.map { "'tool: \($0)'" }.joined(separator: ", "))]
                """)
            let path = "/workspace/src/tide.txt"
            let file = "\(door.fixture.home)/agents/\(id)/workspace/src/tide.txt"
            func text() throws -> String { try String(contentsOfFile: file, encoding: .utf8) }
            func value(_ tool: String, _ input: [String: Any]) async throws -> [String: Any] {
                let answer = try await door.invoke(id, tool, input)
                return try #require(AgentDoor.value(answer), "\(tool): \(answer)")
            }
            func edit(_ old: String, _ new: String) -> [String: Any] { ["old_string": old, "new_string": new] }
            _ = try await value("file_write", ["path": path, "content": "high water\nlow water\n"])
            func change(_ edit: [String: Any]) async throws -> [String: Any] {
                try await door.invoke(id, "file_edit", edit.merging(["path": path]) { $1 })
            }
            #expect(AgentDoor.code(try await change(edit("water", "tide"))) == "edit-ambiguous")
            #expect(AgentDoor.code(try await change(edit("ebb", "tide"))) == "edit-not-found")
            #expect(AgentDoor.value(try await change(edit("high water", "high tide")))?["replacements"] as? Int == 1)
            #expect(try text() == "high tide\nlow water\n")
            let half = [edit("high", "spring"), edit("ebb", "tide")]
            #expect(
                AgentDoor.code(try await door.invoke(id, "file_multi_edit", ["path": path, "edits": half]))
                    == "edit-not-found")
            #expect(try text() == "high tide\nlow water\n")
            // Each works on what the one before left.
            let whole = [edit("low water", "low tide"), edit("low tide", "neap tide")]
            #expect(try await value("file_multi_edit", ["path": path, "edits": whole])["replacements"] as? Int == 2)
            #expect(try text() == "high tide\nneap tide\n")

            _ = try await value("file_write", ["path": "/workspace/other.md", "content": "no tide\nTIDE\n"])
            let found = try await value("grep", ["pattern": "^n[aeiou]+p? tide$"])
            let matches = try #require(found["matches"] as? [[String: Any]])
            #expect(
                Set(matches.map { "\($0["path"] ?? ""):\($0["line"] ?? "")" }) == [
                    "\(path):2", "/workspace/other.md:1",
                ],
                "\(found)")
            let literal = try await value("grep", ["pattern": "tide", "case_insensitive": true, "glob": "*.md"])
            #expect(literal["count"] as? Int == 2, "\(literal)")
            try FileManager.default.createSymbolicLink(
                atPath: "\(door.fixture.home)/agents/\(id)/workspace/current", withDestinationPath: "src")
            for start in [path, "/workspace/current", "/workspace/current/tide.txt"] {
                let linked = try await value("grep", ["pattern": "tide", "path": start, "glob": "*.txt"])
                #expect(linked["count"] as? Int == 2 && linked["files_searched"] as? Int == 1, "\(start): \(linked)")
            }
            // A whole number is one however it is spelled.
            let read = #"{"path":"\#(path)","offset":2.0,"limit":1e0,"numbered":false}"#
            let call = #"{"agent_id":"\#(id)","tool":"file_read","input":\#(read)}"#
            let told = try await door.raw(
                Array((#"{"jsonrpc":"2.0","id":1,"method":"tool.invoke","params":\#(call)}"# + "\n").utf8))
            #expect(told.out.contains(#""content":"neap tide\n""#), "\(told)")
            #expect(AgentDoor.code(try await door.invoke(id, "grep", ["pattern": "("])) == "pattern-invalid")
            let paths = try await value("glob", ["pattern": "/workspace/**/*.txt"])["paths"] as? [String]
            #expect(paths == [path])
            #expect(AgentDoor.code(try await door.invoke(id, "glob", ["pattern": "*.txt"])) == "pattern-invalid")
        }
    }

    // MARK: Models

    /// What a model gets wrong it is told, and the turn goes on; a turn without a word is an end like any other.
    @Test func aModelThatWritesNonsenseIsTold() async throws {
        let rules = """
              - when: { agent: clumsy, message: again }
                reply: { text: "turn {{turn}}" }
              - when: { agent: clumsy, message: think }
                reply: { text: "" }
              - when: { agent: clumsy, tool: ecco, failed: true, result: tool-unknown }
                reply: { text: "told twice" }
              - when: { agent: clumsy, tool: echo, failed: true, result: arguments-malformed }
                reply: { tools: [{ name: ecco, input: { message: x } }] }
              - when: { agent: clumsy, message: go }
                reply: { tools: [{ name: echo, raw: '{"message": ' }] }

            """
        try await AgentDoor.with(rules: rules) { door in
            let id = try await door.spawn(
                "name: clumsy\nmodel: default\nlifecycle: persistent\ncapabilities: ['tool: echo']")
            for (message, response, iterations) in [("go", "told twice", 3), ("think", "", 1), ("again", "turn 4", 1)] {
                let run = try await door.result("agent.run", ["agent_id": id, "message": message])
                #expect(
                    run["stop_reason"] as? String == "complete" && run["response"] as? String == response
                        && run["iterations"] as? Int == iterations, "\(message): \(run)")
            }
            let told = try await door.result("audit.tail", ["kinds": ["tool_invoked", "tool_refused"], "agent": id])
            #expect(
                (told["records"] as? [[String: Any]])?.map { $0["kind"] as? String }
                    == ["tool_refused", "tool_refused"], "\(told)")
        }
    }
}

extension AgentDoor {
    /// A call that waits for a person, and that is not the one before.
    func waiting(after last: [String: Any]? = nil) async throws -> [String: Any] {
        func pending() async throws -> [String: Any]? {
            let all = try #require(try await result("approval.list")["pending"] as? [[String: Any]])
            return all.first { $0["id"] as? String != last?["id"] as? String }
        }
        try await fixture.eventually("a call waits") { try await pending() != nil }
        return try #require(try await pending())
    }

    /// What a person says of it.
    func answer(_ asked: [String: Any], _ decision: String, forSession: Bool = false) async throws {
        var answer = ["id": asked["id"] ?? "", "decision": decision]
        if forSession { answer["for_session"] = true }
        _ = try await result("approval.respond", answer)
    }

    /// A scenario of the test's own.
    func scenario(_ rules: String) throws -> String {
        let file = fixture.path("scenario-\(UUID().uuidString).yaml")
        try "apiVersion: aegis/v1\nkind: ModelScenario\nrules:\n\(rules)".write(
            toFile: file, atomically: true, encoding: .utf8)
        return file
    }

    /// The next daemon, with one more provider: its keys, one a line.
    func restart(_ provider: String...) async throws {
        try await fixture.succeed("down")
        try Self.configuration(fixture, "    - " + provider.joined(separator: "\n      ") + "\n")
        try await fixture.up()
    }
}
