import Foundation
import Testing

/// What agents do as time goes by, through the socket of a real daemon.
@Suite struct AgentTimeTests {
    /// A scheduled agent does its work whenever it is due, also for the next daemon, until it is stopped.
    @Test func aScheduledAgentIsCalledAgainAndAgain() async throws {
        let rules = """
              - when: { agent: timer, tool: file_write }
                reply: { text: done }
              - when: { agent: timer, message: "do your scheduled work" }
                reply: { tools: [{ name: file_write, input: { path: /workspace/log, content: "x", append: true } }] }

            """
        try await AgentDoor.with(rules: rules) { door in
            let f = door.fixture
            let file = f.path("timer.yaml")
            try """
            name: timer
            model: default
            lifecycle: scheduled
            schedule: "@every 1s"
            capabilities: ["tool: file_write", "file_write: /workspace/**"]
            """.write(toFile: file, atomically: true, encoding: .utf8)
            try await f.succeed("agent", "deploy", file)
            let spawned = try await door.result("agent.spawn", ["name": "timer"])
            let id = try #require(spawned["agent_id"] as? String)
            let log = "\(f.home)/agents/\(id)/workspace/log"
            func calls() -> Int { FileManager.default.contents(atPath: log)?.count ?? 0 }
            try await f.eventually("it was called twice") { calls() >= 2 }
            try await f.crash()
            let before = calls()
            try await f.up()
            // The turn that was cut may make one of them.
            try await f.eventually("it is called by the next daemon") { calls() >= before + 2 }
            try await f.succeed("agent", "stop", id)
            #expect(try await f.aegis("agent", "ps", "--quiet").out.isEmpty)
            // Whatever is due from here on: its end was the last thing that was told of it.
            let told = try await door.result("audit.tail", ["agent": id, "count": 1])
            let last = (told["records"] as? [[String: Any]])?.last
            #expect(last?["kind"] as? String == "agent_stopped", "\(told)")
        }
    }

    /// A goal's time is one for the queue at a provider, too: what cannot have its turn by then does not wait for it, whether the goal's
    /// own agent asks or one that was started for it. The rate lets nothing through for a quarter of an hour.
    @Test func aQuestionThatHasNoTurnBeforeItsGoalEndsIsRefusedAtOnce() async throws {
        let rules = """
              - when: { agent: bootstrap, tool: spawn_agent }
                reply: { text: "{{result}}" }
              - when: { agent: bootstrap, message: "have it done" }
                reply: { tools: [{ name: spawn_agent, input: { manifest: "name: child\\nmodel: slow", message: do it } }] }

            """
        try await DaemonFixture.with(config: nil) { f in
            let door = AgentDoor(fixture: f)
            let tool = "{ name: file_list, input: { path: /workspace } }"
            let slow = try door.scenario("  - reply: { tools: [\(tool)], usage: { input: 15000, output: 1 } }\n")
            try await f.succeed("down")
            try AgentDoor.configuration(
                f,
                """
                    - name: slow
                      type: scripted
                      scenario: \(slow)
                      tokens_per_minute: 1000
                      models: [{ alias: slow, model: m }]

                """, rules: rules)
            try await f.up()
            func goal(_ parameters: [String: Any]) async throws -> [String: Any] {
                let submitted = try await door.result("goal.submit", parameters)
                return try await door.result("goal.show", ["goal_id": submitted["id"] ?? "", "wait": true])
            }
            let alone = try await goal(["goal": "do it", "model": "slow", "max_time": "10m"])
            let problem = try #require(alone["error"] as? [String: Any], "\(alone)")
            #expect(problem["code"] as? String == "inference-deadline", "\(alone)")
            #expect((problem["message"] as? String)?.contains("has no turn in time: in 1") == true, "\(alone)")
            #expect(alone["state"] as? String == "ended" && alone["stop_reason"] as? String == "error", "\(alone)")

            let shared = try await goal(["goal": "have it done", "grants": ["model: slow"], "max_time": "10m"])
            #expect(shared["stop_reason"] as? String == "complete", "\(shared)")
            #expect((shared["response"] as? String)?.contains("inference-deadline") == true, "\(shared)")
            let told = try await door.result("audit.tail", ["kinds": ["inference_refused"], "count": 100])
            let refused = try #require(told["records"] as? [[String: Any]])
            #expect(refused.first?["agent"] as? String == alone["agent"] as? String, "\(told)")
            // The child, and the one that was tried in its place.
            let children = refused.dropFirst()
            #expect(children.map { $0["parent"] as? String } == [shared, shared].map { $0["agent"] as? String })

            // A time that is longer than there are dates is none.
            let patient = try await goal(["goal": "wait", "max_time": "106751991167d"])
            #expect(patient["response"] as? String == "x", "\(patient)")
        }
    }

    /// What a summary stands for is kept for as long as the manifest says: a daemon that starts later erases it.
    @Test func anArchiveIsErasedWhenItsTimeIsOver() async throws {
        try await AgentDoor.withSmallWindow { door in
            let f = door.fixture
            let manifest = "name: talker\nmodel: small\nlifecycle: persistent\nmemory: {archive_ttl_days: 2}"
            let id = try await door.spawn(manifest)
            #expect(try await door.talk(with: id).allSatisfy { $0 == "noted" })
            let fresh = try await f.succeed("agent", "logs", id)
            #expect(fresh.out.contains("part 1: ") && !fresh.out.contains("(erased"), "\(fresh)")
            // Three days pass while no daemon runs.
            try await f.succeed("down")
            let aged = try await f.run(
                "/usr/bin/sqlite3", ["\(f.home)/aegis.db", "UPDATE agent_steps SET time = time - 3 * 86400000"])
            try #require(aged.code == 0, "\(aged)")
            try await f.up()
            try await f.eventually("the archive was erased") {
                try await f.succeed("agent", "logs", id).out.contains("(erased")
            }
            let logs = try await f.succeed("agent", "logs", id)
            #expect(!logs.out.contains("part 1: ") && logs.out.contains("part 5: "), "\(logs)")
            #expect(logs.out.contains("they spoke of tides"), "\(logs)")
            // The conversation goes on.
            let reply = try await door.result("agent.run", ["agent_id": id, "message": "and now?"])
            #expect(reply["response"] as? String == "noted", "\(reply)")
        }
    }
}
