import Foundation
import Testing

/// The manifest that comes with Aegis is a start for one's own.
@Suite struct GoalManifestTests {
    @Test func itIsPrintedAndTakesGoalsUnderAnotherName() async throws {
        let rules = "  - { when: { agent: mine }, reply: { text: \"taken by mine\" } }\n"
        try await DaemonFixture.with(config: nil) { f in
            let door = AgentDoor(fixture: f)
            for memory in [false, true] {
                try await f.succeed("down")
                try AgentDoor.configuration(f, memory ? "  agents: { persistent_memory: true }\n" : "", rules: rules)
                try await f.up()
                let shown = try await f.succeed("goal", "manifest")
                #expect(shown.out.contains("name: bootstrap\n") && shown.err.isEmpty, "\(shown)")
                #expect(shown.out.contains("tool: memory_store") == memory, "\(shown)")
                let told = try await door.result("goal.manifest")
                #expect(told["manifest"] as? String == shown.out && told["in_use"] as? Bool == true)

                let file = f.path("home/mine.yaml")
                try shown.out.replacing("name: bootstrap", with: "name: mine").write(
                    toFile: file, atomically: true, encoding: .utf8)
                try await f.succeed("agent", "deploy", file)
                let goal = try await f.succeed("goal", "--manifest", "mine", "go")
                #expect(goal.out == "taken by mine\n", "\(goal)")
            }
            // Who changes it for the whole node is told that this one is not what takes goals.
            try await f.succeed("down")
            try AgentDoor.configuration(
                f, "  agents: { bootstrap_manifest: \(f.path("home/mine.yaml")) }\n", rules: rules)
            try await f.up()
            let shown = try await f.succeed("goal", "manifest")
            #expect(shown.out.contains("name: bootstrap\n"), "\(shown)")
            #expect(shown.err.contains("agents.bootstrap_manifest"), "\(shown)")
            #expect(try await f.succeed("goal", "go").out == "taken by mine\n")
        }
    }

    /// A goal is bounded also where nobody has said by what.
    @Test func aManifestWithoutABudgetGetsTheUsualOne() async throws {
        let rules = """
              - when: { agent: looper, turn: 1 }
                reply: { tools: [{ name: file_write, input: { path: /workspace/begun, content: x } }], usage: { input: 50, output: 50 } }
              - when: { agent: looper }
                reply: { tools: [{ name: echo, input: { message: more } }], usage: { input: 50, output: 400000 } }

            """
        try await AgentDoor.with(rules: rules) { door in
            let f = door.fixture
            let file = f.path("looper.yaml")
            try """
            name: looper
            model: default
            max_iterations: 1000
            capabilities: ["tool: echo", "tool: file_write", "file_write: /workspace/**"]
            approval_required: [file_write]
            """.write(toFile: file, atomically: true, encoding: .utf8)
            try await f.succeed("agent", "deploy", file)
            for (option, limit) in [(Int?.none, 1_000_000), (2_000_000, 2_000_000)] {
                var wish: [String: Any] = ["goal": "for ever", "name": "looper"]
                wish["budget_tokens"] = option
                let goal = try #require(try await door.result("goal.submit", wish)["id"] as? String)
                let asked = try await door.waiting()
                let agent = try await door.result("goal.show", ["goal_id": goal])["agent"]
                let budget = try await door.result("agent.budget", ["agent_id": try #require(agent)])
                #expect((budget["limit"] as? [String: Any])?["max_tokens"] as? Int == limit, "\(budget)")
                try await door.answer(asked, "approve")
                let over = try await door.result("goal.show", ["goal_id": goal, "wait": true])
                #expect(over["stop_reason"] as? String == "budget_exceeded", "\(over)")
                #expect((over["output_tokens"] as? Int ?? 0) < limit + 400_000, "\(over)")
            }
        }
    }

    /// What a goal is worked on by is what was deployed when it was taken, whatever becomes of that while it waits.
    @Test func aGoalThatWaitsKeepsItsManifest() async throws {
        let rules = """
              - when: { agent: slow, tool: file_write }
                reply: { text: "done" }
              - when: { agent: slow }
                reply: { tools: [{ name: file_write, input: { path: /workspace/x, content: x } }] }
              - when: { agent: mine, system: "by the first" }
                reply: { text: "answered by the first" }
              - when: { agent: mine }
                reply: { text: "answered by another" }

            """
        try await AgentDoor.with("  agents: { max_goals: 1 }\n", rules: rules) { door in
            let f = door.fixture
            func deploy(_ name: String, _ more: String) async throws {
                let file = f.path("\(name).yaml")
                try "name: \(name)\nmodel: default\n\(more)\n".write(toFile: file, atomically: true, encoding: .utf8)
                try await f.succeed("agent", "deploy", file)
            }
            func submit(_ name: String) async throws -> String {
                let goal = try await door.result("goal.submit", ["goal": "go", "name": name])
                #expect(goal["source"] == nil, "\(goal)")
                return try #require(goal["id"] as? String)
            }
            let grants = "capabilities: ['tool: file_write', 'file_write: /workspace/**']"
            try await deploy("slow", grants + "\napproval_required: [file_write]")
            try "by the first".write(toFile: f.path("prompt.md"), atomically: true, encoding: .utf8)
            try await deploy("mine", "system_prompt: { file: prompt.md }")
            let first = try await submit("slow")
            let asked = try await door.waiting()
            let second = try await submit("mine")
            try await deploy("mine", "system_prompt: by the second")
            let third = try await submit("mine")
            try await f.succeed("agent", "delete", "mine")
            try await f.crash()
            try await f.up()
            #expect(try await door.result("goal.show", ["goal_id": second])["state"] as? String == "queued")
            try await door.answer(asked, "approve")
            for (goal, response) in [
                (first, "done"), (second, "answered by the first"), (third, "answered by another"),
            ] {
                let over = try await door.result("goal.show", ["goal_id": goal, "wait": true])
                #expect(over["response"] as? String == response && over["source"] == nil, "\(over)")
            }
            #expect(try await door.problem("goal.submit", ["goal": "go", "name": "mine"]) == "manifest-not-found")
        }
    }
}
