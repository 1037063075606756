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
}
