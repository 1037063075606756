import Foundation
import Testing

/// What docs/claims.md promises of agents, through `agentd.sock` of a real daemon.
@Suite struct AgentClaimsTests {
    // MARK: People

    /// The first call that waits for a person.
    private static func waiting(_ door: AgentDoor) async throws -> [String: Any] {
        func pending() async throws -> [[String: Any]] {
            try #require(try await door.result("approval.list")["pending"] as? [[String: Any]])
        }
        try await door.fixture.eventually("a call waits") { try await !pending().isEmpty }
        return try #require(try await pending().first)
    }

    /// A call that waits for a person still waits after the daemon was killed, and their answer counts.
    @Test func anApprovalOutlivesItsDaemon() async throws {
        let rules = """
              - when: { agent: writer, tool: file_write, failed: true }
                reply: { text: "refused: {{result}}" }
              - when: { agent: writer, tool: file_write }
                reply: { text: "written" }
              - when: { agent: writer, message: "write *" }
                reply: { tools: [{ name: file_write, input: { path: "/workspace/{{1}}", content: "agreed\\n" } }] }

            """
        try await AgentDoor.with(rules: rules) { door in
            let f = door.fixture
            let id = try await door.spawn(
                """
                name: writer
                model: default
                lifecycle: persistent
                capabilities: ["tool: file_write", "file_write: /workspace/**"]
                approval_required: [file_write]
                """)
            func begin(_ text: String) async throws -> String {
                let sent = try await door.result("agent.run", ["agent_id": id, "message": text, "wait": false])
                return try #require(sent["trace_id"] as? String)
            }
            func end(_ trace: String) async throws -> String? {
                let reply = try await door.result("agent.reply", ["agent_id": id, "trace_id": trace, "wait": true])
                #expect(reply["stop_reason"] as? String == "complete", "\(reply)")
                return reply["response"] as? String
            }
            func written(_ name: String) -> String? {
                try? String(contentsOfFile: "\(f.home)/agents/\(id)/workspace/\(name)", encoding: .utf8)
            }
            let first = try await begin("write one")
            let asked = try await Self.waiting(door)
            #expect(asked["tool"] as? String == "file_write" && asked["agent_name"] as? String == "writer")
            #expect((asked["preview"] as? String)?.contains("+agreed") == true, "\(asked)")
            // What clients of the original read.
            #expect((asked["description"] as? String)?.hasPrefix("file_write: ") == true, "\(asked)")
            #expect(asked["timestamp"] as? String == asked["requested_at"] as? String, "\(asked)")
            #expect(asked["agent_id"] as? String == id && asked["input"] is [String: Any], "\(asked)")
            let approval = try #require(asked["id"] as? String)
            // It is the business of the agent's owner alone.
            try await door.openToAll()
            #expect((try await door.result("approval.list", user: 65_534)["pending"] as? [Any])?.isEmpty == true)
            let answer = ["id": approval, "decision": "approve"]
            #expect(try await door.problem("approval.respond", answer, user: 65_534) == "approval-not-found")
            for end in ["down", "crash"] {
                if end == "down" { try await f.succeed("down") } else { try await f.crash() }
                try await f.up()
                #expect(try await Self.waiting(door)["id"] as? String == approval, "\(end)")
                #expect(written("one") == nil)
            }
            let ended = ["kinds": ["human_approval_withdrawn", "tool_refused"], "count": 5] as [String: Any]
            #expect((try await door.result("audit.tail", ended)["records"] as? [Any])?.isEmpty == true)
            let wrong = ["id": approval, "decision": "aprove"]
            #expect(try await door.problem("approval.respond", wrong) == "invalid-params")
            let given = try await door.result("approval.respond", answer)["approval"] as? [String: Any]
            #expect(given?["state"] as? String == "granted", "\(given ?? [:])")
            #expect(try await end(first) == "written")
            #expect(written("one") == "agreed\n")
            #expect(try await door.problem("approval.respond", answer) == "approval-closed")
            // Who is refused reads why.
            let second = try await begin("write two")
            let no = try #require(try await Self.waiting(door)["id"] as? String)
            _ = try await door.result("approval.respond", ["id": no, "decision": "deny", "reason": "not today"])
            let refused = try await end(second)
            #expect(refused?.contains("approval-denied") == true && refused?.contains("not today") == true)
            #expect(written("two") == nil)
        }
    }

    /// What the node's configuration says of turns holds for manifests that say nothing.
    @Test func aTurnIsAsLongAsTheNodeSays() async throws {
        let rules = "  - reply: { tools: [{ name: echo, input: { message: more } }] }\n"
        try await AgentDoor.with("  agents: { max_iterations: 2 }\n", rules: rules) { door in
            for (own, calls) in [("", 2), ("max_iterations: 3\n", 3)] {
                let id = try await door.spawn(
                    "name: looper\nmodel: default\nlifecycle: persistent\ncapabilities: ['tool: echo']\n\(own)")
                let reply = try await door.result("agent.run", ["agent_id": id, "message": "go"])
                #expect(reply["stop_reason"] as? String == "max_iterations", "\(reply)")
                #expect(reply["iterations"] as? Int == calls, "\(reply)")
                try await door.fixture.succeed("agent", "stop", id)
            }
            let file = door.fixture.path("looper.yaml")
            try "name: looper\nmodel: default\ncapabilities: ['tool: echo', 'exec: *']\nbudget_config: {max_usd: 2}\n"
                .write(toFile: file, atomically: true, encoding: .utf8)
            let told = try await door.fixture.succeed("agent", "validate", file)
            for text in ["2 model calls", "2.00 USD", "Files: ", "mounts ("] {
                #expect(told.out.contains(text), "\(told)")
            }
        }
    }

    /// Goals that are worked on, and that wait, are both gone on with by the next daemon.
    @Test func goalsOutliveTheirDaemon() async throws {
        let rules = """
              - when: { agent: careful, tool: file_write }
                reply: { text: "done" }
              - when: { agent: careful, message: "write *" }
                reply: { tools: [{ name: file_write, input: { path: "/workspace/{{1}}", content: "x" } }] }

            """
        try await AgentDoor.with("  agents: { max_goals: 1 }\n", rules: rules) { door in
            let f = door.fixture
            let file = f.path("careful.yaml")
            let manifest = """
                name: careful
                model: default
                capabilities: ["tool: file_write", "file_write: /workspace/**"]
                approval_required: [file_write]
                """
            try manifest.write(toFile: file, atomically: true, encoding: .utf8)
            try await f.succeed("agent", "deploy", file)
            var goals: [String] = []
            for name in ["one", "two"] {
                let goal = try await door.result("goal.submit", ["goal": "write \(name)", "name": "careful"])
                goals.append(try #require(goal["id"] as? String))
            }
            _ = try await Self.waiting(door)
            try await f.crash()
            try await f.up()
            let known = try await door.result("goal.list")["goals"] as? [[String: Any]]
            #expect(known?.map { $0["id"] as? String } == goals)
            #expect(known?.map { $0["state"] as? String } == ["running", "queued"])
            for (id, name) in zip(goals, ["one", "two"]) {
                let approval = try #require(try await Self.waiting(door)["id"] as? String)
                _ = try await door.result("approval.respond", ["id": approval, "decision": "approve"])
                let over = try await door.result("goal.show", ["goal_id": id, "wait": true])
                #expect(
                    over["stop_reason"] as? String == "complete" && over["response"] as? String == "done", "\(over)")
                let agent = try #require(over["agent"] as? String)
                #expect(FileManager.default.fileExists(atPath: "\(f.home)/agents/\(agent)/workspace/\(name)"))
            }
            #expect((try await door.result("agent.list")["agents"] as? [Any])?.isEmpty == true)
        }
    }

    // MARK: Limits

    /// Who has used up a budget is stopped until its next period; who has none is not.
    @Test func budgetsEndTurnsAndAreRenewed() async throws {
        let rules = "  - reply: { text: spent, usage: { input: 50, output: 20000 } }\n"
        try await AgentDoor.with(rules: rules) { door in
            func spawn(_ name: String, _ budget: String = "") async throws -> String {
                try await door.spawn("name: \(name)\nmodel: default\nlifecycle: persistent\n\(budget)")
            }
            func run(_ id: String) async throws -> String? {
                let reply = try await door.result("agent.run", ["agent_id": id, "message": "go"])
                let stop = reply["stop_reason"] as? String
                let code = (reply["error"] as? [String: Any])?["code"] as? String
                #expect(code == (stop == "budget_exceeded" ? "budget-exceeded" : nil), "\(reply)")
                return stop
            }
            let bounded = try await spawn(
                "bounded", "budget_config: { max_tokens: 20000, reset_period_seconds: 86400 }")
            #expect(try await run(bounded) == "complete")
            #expect(try await run(bounded) == "budget_exceeded")
            // What it has used is not forgotten with the daemon.
            try await door.fixture.crash()
            try await door.fixture.up()
            #expect(try await run(bounded) == "budget_exceeded")
            let renewed = try await spawn("renewed", "budget_config: { max_tokens: 20000, reset_period_seconds: 1 }")
            for stop in ["complete", "budget_exceeded", "complete"] {
                try await door.fixture.eventually(stop) { try await run(renewed) == stop }
            }
            let free = try await spawn("free")
            for _ in 0..<3 { #expect(try await run(free) == "complete") }
        }
    }

    /// The oldest messages give way to a summary that the model reads; what they were stays to be read.
    @Test func aLongConversationIsSummarised() async throws {
        try await AgentDoor.withSmallWindow { door in
            let f = door.fixture
            let id = try await door.spawn("name: talker\nmodel: small\nlifecycle: persistent")
            #expect(try await door.talk(with: id).allSatisfy { $0 == "noted" })
            let told = try await door.result("audit.tail", ["kinds": ["context_summarized"], "agent": id])
            #expect((told["records"] as? [Any])?.isEmpty == false)
            let asked = try String(contentsOfFile: f.path("small.jsonl"), encoding: .utf8).split(separator: "\n")
            let last = try #require(asked.last)
            #expect(
                last.contains("a summary of the conversation so far stands in place of")
                    && last.contains("they spoke of tides"))
            #expect(!last.contains("part 1: ") && last.contains("part 5: "))
            let logs = try await f.succeed("agent", "logs", id)
            #expect(logs.out.contains("part 1: ") && logs.out.contains("they spoke of tides"), "\(logs)")
        }
    }

    // MARK: Tools

    /// Tools for files, memory and skills, and what an agent and its model are told of them.
    @Test func toolsAreListedAndDoWhatTheySay() async throws {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent("skills").path
        let rules = """
              - when: { system: '<skill name="test-first">*</skill>*</available_skills>' }
                reply: { text: "I know of skills" }

            """
        let granted = [
            "file_list", "file_read_many", "file_write", "memory_delete", "memory_query", "memory_store",
        ]
        try await AgentDoor.with("  agents: { skills_dirs: [\(root)] }\n", rules: rules) { door in
            let id = try await door.spawn(
                """
                name: worker
                model: default
                lifecycle: persistent
                capabilities: ["file_read: /workspace/**", "file_write: /workspace/**", \(granted.map { "'tool: \($0)'" }.joined(separator: ", "))]
                memory: { persistent: true }
                """)
            func value(_ tool: String, _ input: [String: Any]) async throws -> [String: Any] {
                let answer = try await door.invoke(id, tool, input)
                return try #require(AgentDoor.value(answer), "\(tool): \(answer)")
            }
            func names(_ value: Any?) -> [String] {
                (value as? [[String: Any]])?.compactMap { $0["name"] as? String } ?? []
            }
            let all = names(try await door.result("tool.list")["tools"])
            let own = names(try await door.result("tool.list", ["agent_id": id])["tools"])
            #expect(own.sorted() == granted)
            #expect(
                Set(["echo", "exec", "spawn_agent", "skill_read", "agent_ask", "file_list"]).isSubset(of: all), "\(all)"
            )

            for (path, text) in [("notes/a", "first"), ("notes/b", "second")] {
                _ = try await value("file_write", ["path": "/workspace/\(path)", "content": text])
            }
            let listed = try await value("file_list", ["path": "/workspace/notes"])
            #expect(names(listed["entries"]) == ["a", "b"])
            let paths = ["/workspace/notes/a", "/workspace/none", "/etc/passwd", "/workspace/notes/b"]
            let read = try await value("file_read_many", ["paths": paths])["files"] as? [[String: Any]]
            #expect(read?.map { $0["content"] as? String } == ["first", nil, nil, "second"], "\(read ?? [])")
            #expect(read?[1]["error"] is String && read?[2]["error"] as? String == "capability-denied", "\(read ?? [])")
            let many = try await door.invoke(
                id, "file_read_many", ["paths": Array(repeating: "/workspace/notes/a", count: 17)])
            #expect(AgentDoor.code(many) == "arguments-invalid", "\(many)")

            let memory = try await value("memory_store", ["content": "The port is 5433", "category": "fact"])
            let record = try #require(memory["memory_id"] as? String)
            for (existed, left) in [(true, 0), (false, 0)] {
                let deleted = try await value("memory_delete", ["memory_id": record])
                #expect(deleted["existed"] as? Bool == existed)
                #expect(try await value("memory_query", ["query": "port"])["count"] as? Int == left)
            }

            let skills = names(try await door.result("skill.list")["skills"])
            let bundled = try FileManager.default.contentsOfDirectory(atPath: root)
            #expect(skills.count == 16 && skills == bundled.sorted(), "\(skills)")
            for (tool, response) in [("skill_read", "I know of skills"), ("echo", "x")] {
                let manifest = "name: reader\nmodel: default\ncapabilities: ['tool: \(tool)']"
                let run = try await door.result("agent.spawn_and_run", ["manifest": manifest, "message": "go"])
                #expect(run["response"] as? String == response, "\(tool)")
            }
        }
    }

    /// Agents tell each other only what the receiver accepts, and the runtime says who speaks.
    @Test func messagesFitWhatTheirReceiverAccepts() async throws {
        let rules = """
              - when: { agent: asker, tool: agent_ask }
                reply: { text: "it said {{result:agent_ask.response}}" }
              - when: { agent: asker, message: ask it }
                reply: { tools: [{ name: agent_ask, input: { to: strict, message: { path: /etc/hosts } } }] }
              - when: { agent: strict, message: "from*the agent 'asker'*/etc/hosts" }
                reply: { text: "a file of hosts" }

            """
        try await AgentDoor.with(rules: rules) { door in
            let strict = try await door.spawn(
                """
                name: strict
                model: default
                lifecycle: persistent
                accepts: { type: object, properties: { path: { type: string } }, required: [path], additionalProperties: false }
                """)
            let asker = try await door.spawn(
                """
                name: asker
                model: default
                lifecycle: persistent
                capabilities: ["tool: agent_send", "tool: agent_ask", "message: strict"]
                """)
            let run = try await door.result("agent.run", ["agent_id": asker, "message": "ask it"])
            #expect(run["response"] as? String == "it said a file of hosts", "\(run)")
            for tool in ["agent_ask", "agent_send"] {
                for wrong: Any in [["path": 7], ["pth": "/etc/hosts"], "read /etc/hosts"] {
                    let refused = try await door.invoke(asker, tool, ["to": "strict", "message": wrong])
                    #expect(AgentDoor.code(refused) == "message-invalid", "\(refused)")
                }
                let stranger = try await door.invoke(asker, tool, ["to": "nobody", "message": "x"])
                #expect(AgentDoor.code(stranger) == "capability-denied", "\(stranger)")
            }
            let sent = try await door.invoke(asker, "agent_send", ["to": "strict", "message": ["path": "/etc/hosts"]])
            let delivered = try #require(AgentDoor.value(sent), "\(sent)")
            #expect(delivered["status"] as? String == "delivered" && delivered["agent_id"] as? String == strict)
            let reply = try await door.result(
                "agent.reply", ["agent_id": strict, "trace_id": delivered["trace_id"] ?? "", "wait": true])
            #expect(reply["stop_reason"] as? String == "complete", "\(reply)")
            let told = try await door.result("audit.tail", ["kinds": ["agent_message_sent"], "agent": asker])
            #expect((told["records"] as? [Any])?.count == 2)
        }
    }
}
