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
