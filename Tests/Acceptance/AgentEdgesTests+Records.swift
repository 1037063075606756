import Foundation
import Testing

/// Grants that end, and records that stay.
extension AgentEdgesTests {
    /// A child's grants are its parent's: they use up the same counter, and end with it.
    @Test func aChildHoldsWhatItsParentHolds() async throws {
        let rules = AgentDoor.rulesOfBoss(
            child: [
                "tool: echo", "tool: file_list", "file_read: /workspace/**", "tool: file_write",
                "file_write: /workspace/**",
            ], writes: "/workspace/x", "x", says: "over")
        try await AgentDoor.with(rules: rules) { door in
            let boss = try await door.spawn(
                """
                name: boss
                model: default
                lifecycle: persistent
                capabilities:
                  - { grant: "tool: echo", max_calls: 2 }
                  - "tool: file_list"
                  - "file_read: /workspace/**"
                  - "tool: file_write"
                  - "file_write: /workspace/**"
                  - "tool: spawn_agent"
                  - "spawn: child"
                approval_required: [file_write]
                """)
            let sent = try await door.result("agent.run", ["agent_id": boss, "message": "go", "wait": false])
            // While its call waits for a person the child is there to be looked at.
            let asked = try await door.waiting()
            let live = try await door.result("agent.list")["agents"] as? [[String: Any]]
            let child = try #require(live?.first { $0["name"] as? String == "child" }?["id"] as? String, "\(asked)")
            func echo(_ id: String) async throws -> String? {
                AgentDoor.code(try await door.invoke(id, "echo", ["message": "x"]))
            }
            #expect(try await echo(child) == nil)
            #expect(try await echo(boss) == nil)
            for id in [child, boss] { #expect(try await echo(id) == "limit-calls-used-up") }

            func list() async throws -> String? {
                AgentDoor.code(try await door.invoke(child, "file_list", ["path": "/workspace"]))
            }
            #expect(try await list() == nil)
            _ = try await door.result("agent.revoke", ["agent_id": boss, "capability": "tool: file_list"])
            #expect(try await list() == "grant-revoked")
            try await door.answer(asked, "deny")
            let reply = try await door.result(
                "agent.reply", ["agent_id": boss, "trace_id": sent["trace_id"] ?? "", "wait": true])
            #expect(reply["response"] as? String == "over", "\(reply)")
        }
    }

    /// What a provider has answered is answered again by a daemon that asks nobody; what nobody has asked is refused.
    @Test func aRunIsRecordedAndReplayed() async throws {
        let rules = """
              - when: { tool: echo }
                reply: { text: "heard {{result}}" }
              - reply: { tools: [{ name: echo, input: { message: "{{message}}" } }] }

            """
        try await DaemonFixture.with(config: nil) { f in
            let door = AgentDoor(fixture: f)
            let (record, models) = (f.path("run.jsonl"), "models: [{ alias: own, model: own }]")
            func ask(_ message: String) async throws -> [String: Any] {
                let manifest = "name: asker\nmodel: own\ncapabilities: ['tool: echo']"
                return try await door.result("agent.spawn_and_run", ["manifest": manifest, "message": message])
            }
            try await door.restart(
                "name: own", "type: scripted", "scenario: \(try door.scenario(rules))", "record: \(record)", models)
            let recorded = try await ask("tides")
            let response = try #require(recorded["response"] as? String)
            #expect(response.hasPrefix("heard ") && response.contains("tides"), "\(recorded)")

            try await door.restart("name: own", "type: replay", "recording: \(record)", models)
            let other = try await ask("ebb")
            #expect(other["stop_reason"] as? String == "error", "\(other)")
            let problem = other["error"] as? [String: Any]
            #expect((problem?["message"] as? String)?.contains("the nearest is number 1 of 2") == true, "\(other)")
            let replayed = try await ask("tides")
            #expect(replayed["response"] as? String == response, "\(replayed)")
            #expect(replayed["stop_reason"] as? String == "complete" && replayed["iterations"] as? Int == 2)
        }
    }

    /// A run with children is replayed as well: their ids, which are in what the model is asked, are never the same again.
    @Test func aRunWithChildrenIsReplayed() async throws {
        let rules = """
              - when: { agent: boss, turn: 1 }
                reply:
                  tools:
                    - name: spawn_agents
                      input:
                        children:
                          - { manifest: "name: child\\nmodel: own\\n", message: "one", prior_findings: "tides" }
                          - { manifest: "name: child\\nmodel: own\\n", message: "two" }
              - when: { agent: boss, turn: 2 }
                reply: { tools: [{ name: agent_send, input: { to: "{{result.children.0.agent_id}}", message: hello } }] }
              - when: { agent: boss }
                reply: { text: "asked {{result}}" }
              - reply: { text: "I have read {{message}}" }

            """
        try await DaemonFixture.with(config: nil) { f in
            let door = AgentDoor(fixture: f)
            let (record, models) = (f.path("swarm.jsonl"), "models: [{ alias: own, model: own }]")
            func run() async throws -> (response: String, child: String?) {
                let manifest =
                    "name: boss\nmodel: own\ncapabilities: ['tool: *', 'spawn: [child]', 'message: [child]']"
                let result = try await door.result("agent.spawn_and_run", ["manifest": manifest, "message": "go"])
                #expect(result["stop_reason"] as? String == "complete", "\(result)")
                let told = try await door.result("audit.tail", ["kinds": ["agent_spawned"]])
                let children = (told["records"] as? [[String: Any]])?.filter { $0["parent"] != nil } ?? []
                return (result["response"] as? String ?? "", children.last?["agent"] as? String)
            }
            try await door.restart(
                "name: own", "type: scripted", "scenario: \(try door.scenario(rules))", "record: \(record)", models)
            let recorded = try await run()
            try await door.restart("name: own", "type: replay", "recording: \(record)", models)
            let replayed = try await run()
            // It wrote to the child of this run, and not to that of the recorded one.
            let (old, new) = (recorded.response, replayed.response)
            #expect(old.contains("capability-denied") && new.contains("capability-denied"), "\(old)\n\(new)")
            #expect(old.count == new.count && old != new && recorded.child != replayed.child, "\(old)\n\(new)")
        }
    }

    /// Standard output has the records of the files, byte for byte.
    @Test func theLedgerIsToldOnStandardOutput() async throws {
        try await AgentDoor.with("  audit: { sinks: [file, stdout] }\n") { door in
            let id = try await door.spawn(
                "name: teller\nmodel: default\nlifecycle: persistent\ncapabilities: ['tool: echo']")
            for number in 1...3 { _ = try await door.invoke(id, "echo", ["message": "\(number)"]) }
            func records(_ file: String) throws -> [Substring] {
                // What is behind the last end of a line is still being written.
                try String(contentsOfFile: "\(door.fixture.home)/\(file)", encoding: .utf8)
                    .split(separator: "\n", omittingEmptySubsequences: false).dropLast()
                    .filter { $0.hasPrefix(#"{"v":1,"#) }
            }
            let written = try records("audit/000000000001.jsonl")
            #expect(written.count { $0.contains(#""kind":"tool_invoked""#) } == 3)
            let last = try #require(written.last)
            // The daemon that 'aegis up' starts has its output in its log.
            try await door.fixture.eventually("all is told") { try records("aegisd.log").contains(last) }
            let told = try records("aegisd.log")
            let from = try #require(written.firstIndex { $0.contains(#""kind":"daemon_started""#) })
            let begin = try #require(told.firstIndex(of: written[from]))
            #expect(begin <= from)
            #expect(told[begin...].prefix(written.count - from).elementsEqual(written[from...]))
        }
    }
}
