import AegisTestSupport
import Foundation
import Testing

/// The ledger, skills and memory through `agentd.sock`, REST and the CLI of a real daemon.
@Suite struct AgentFacesTests {
    /// A reader holds a cursor and misses nothing; who is not root sees nothing of it.
    @Test func theLedgerIsFollowedThroughTheSocket() async throws {
        try await AgentDoor.with { door in
            let first = try await door.result("audit.tail", ["count": 0])
            #expect((first["records"] as? [Any])?.isEmpty == true)
            let cursor = try #require(first["cursor"] as? String)
            // It waits on one connection while the thing happens on another.
            async let followed = door.result(
                "audit.tail", ["after": cursor, "kinds": ["agent_spawned", "agent_stopped"], "wait": true])
            let id = try await door.spawn("name: seen\nmodel: default\ncapabilities: ['tool: echo']")
            let batch = try await followed
            let records = try #require(batch["records"] as? [[String: Any]])
            #expect(records.map { $0["kind"] as? String } == ["agent_spawned"])
            #expect(records.first?["agent"] as? String == id)
            // It goes on where it was, by the agent's name.
            _ = try await door.invoke(id, "echo", ["message": "x"])
            let more = try await door.result(
                "audit.tail", ["after": batch["cursor"] ?? "", "agent": "seen", "kinds": "tool_invoked", "wait": true])
            #expect((more["records"] as? [[String: Any]])?.isEmpty == false)
            let last = try await door.result("audit.tail", ["agent": id, "count": 1000])
            #expect((last["records"] as? [[String: Any]])?.allSatisfy { $0["agent"] as? String == id } == true)
            let verified = try await door.result("audit.verify")
            #expect(verified["status"] as? String == "intact", "\(verified)")
            let head = try #require(try await door.result("audit.head")["head"] as? String)
            #expect(try await door.result("audit.verify", ["heads": [head]])["status"] as? String == "intact")
            for wrong in ["nonsense", "99:0:1"] {
                #expect(try await door.problem("audit.tail", ["after": wrong, "wait": true]) == "invalid-params")
            }
            try await door.openToAll()
            for method in ["audit.tail", "audit.verify", "audit.head"] {
                #expect(try await door.problem(method, user: 65_534) == "administrator-needed")
            }
        }
    }

    /// Its sandbox is an instance that is named as the agent's id: what is asked for is the agent all the same.
    @Test func theLedgerIsAskedForAnAgentThatHasASandbox() async throws {
        try await AgentDoor.with { door in
            let id = try await door.spawn(
                "name: runner\nmodel: default\nlifecycle: persistent\ncapabilities: ['tool: exec', 'exec: *']")
            let ran = try await door.invoke(id, "exec", ["argv": ["true"]])
            #expect(AgentDoor.value(ran)?["exit_code"] as? Int == 0, "\(ran)")
            for word in [id, "runner"] {
                let told = try await door.fixture.succeed("audit", "tail", "--agent", word, "--kinds", "tool_invoked")
                #expect(told.out.contains("tool_invoked"), "\(word): \(told)")
            }
            // What its sandbox did is told as what it made.
            let told = try await door.result(
                "audit.tail", ["kinds": ["instance_started", "exec_started"], "count": 10])
            let records = try #require(told["records"] as? [[String: Any]])
            #expect(
                Set(records.compactMap { $0["kind"] as? String }) == ["instance_started", "exec_started"], "\(told)")
            #expect(records.allSatisfy { $0["parent"] as? String == id }, "\(told)")
        }
    }

    /// Ours and the original's, folders between colons; what the configuration names counts beside them.
    @Test func variablesNameFoldersOfSkills() async throws {
        try await DaemonFixture.with { f in
            try await f.succeed("down")
            for name in ["one", "two", "three"] {
                let folder = f.path("skills-\(name)/\(name)-skill")
                try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
                try "---\nname: \(name)-skill\ndescription: Does \(name).\n---\n\nDo it.\n".write(
                    toFile: "\(folder)/SKILL.md", atomically: true, encoding: .utf8)
            }
            let names = ["one", "two", "three"].map { f.path("skills-\($0)") }
            let up = try await f.shell(
                "AEGIS_SKILLS_DIR=\(names[0]) AAOS_SKILLS_DIR=\(names[1]):\(names[2]) $AEGIS up --ports auto")
            #expect(up.code == 0, "\(up)")
            let listed = try await f.succeed("skill", "list")
            for name in ["one", "two", "three"] { #expect(listed.out.contains("\(name)-skill"), "\(listed)") }
        }
    }

    @Test func aFileIsNoManifestOfAGoal() async throws {
        try await onLoop { loop in
            let f = try DaemonFixture(loop: loop)
            for word in ["./mine", "mine.yaml"] {
                let refused = try await f.aegis("goal", "--manifest", word, "Do it")
                #expect(refused.code == 2 && refused.err.contains("aegis agent deploy \(word)"), "\(refused)")
            }
        }
    }

    /// A skill that lies in a workspace is nobody's until a person trusts exactly that content.
    @Test func aSkillOfAWorkspaceIsTrustedByItsContent() async throws {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        try await AgentDoor.with("  agents: { skills_dirs: [\(root.path)/skills] }\n") { door in
            let id = try await door.spawn(
                """
                name: worker
                model: default
                lifecycle: persistent
                capabilities: ["tool: skill_read", "tool: file_write", "file_write: /workspace/**"]
                """)
            func write(_ body: String) async throws {
                let text = "---\nname: deploy\ndescription: Deploys it.\n---\n\n\(body)\n"
                let path = "/workspace/.agents/skills/deploy/SKILL.md"
                #expect(try await door.invoke(id, "file_write", ["path": path, "content": text])["result"] != nil)
            }
            func read() async throws -> [String: Any] {
                try await door.invoke(id, "skill_read", ["skill_name": "deploy"])
            }
            try await write("Press the button.")
            let refused = try await read()
            #expect(AgentDoor.code(refused) == "skill-untrusted")
            let hint = ((refused["error"] as? [String: Any])?["data"] as? [String: Any])?["hint"] as? String
            #expect(hint?.contains("aegis skill trust deploy --agent \(id)") == true, "\(refused)")
            // A person looks at it, and trusts what they have seen.
            let f = door.fixture
            let listed = try await f.succeed("skill", "list", "--agent", "worker")
            #expect(listed.out.contains("not trusted") && listed.err.contains("aegis skill trust deploy"), "\(listed)")
            let shown = try await door.result("skill.show", ["name": "deploy", "agent_id": id])
            #expect(shown["instructions"] as? String == "Press the button.\n" && shown["usable"] as? Bool == false)
            let hash = try #require(shown["hash"] as? String)
            try await write("Press the red button.")
            try await f.refuse(
                "skill", "trust", "deploy", "--agent", "worker", "--hash", hash, code: 5, error: "skill-changed")
            try await f.succeed("skill", "trust", "deploy", "--agent", "worker")
            #expect(AgentDoor.value(try await read())?["instructions"] as? String == "Press the red button.\n")
            // Any change asks again; so does a change of mind.
            try await write("Press any button.")
            #expect(AgentDoor.code(try await read()) == "skill-untrusted")
            try await write("Press the red button.")
            #expect(try await read()["result"] != nil)
            #expect(try await door.result("skill.untrust", ["name": "deploy"])["untrusted"] as? Int == 1)
            #expect(AgentDoor.code(try await read()) == "skill-untrusted")
            let told = try await f.succeed(
                "audit", "tail", "--kinds", "skill_trusted,skill_untrusted", "--output", "json")
            #expect(told.out.split(separator: "\n").count == 2, "\(told)")
            // What only the daemon's user can write needs nobody's trust.
            try await f.refuse("skill", "trust", "test-first", code: 5, error: "skill-needs-no-trust")
            try await f.refuse("skill", "show", "test-frist", code: 4, error: "skill-not-found")
        }
    }

    /// Memory that is kept is found by the next agent of that name and user, and by nobody else; a person can see and reset it.
    @Test func memoryIsKeptForOneAgentOfOneUser() async throws {
        try await AgentDoor.with { door in
            let f = door.fixture
            func manifest(_ name: String, keeps: Bool) -> String {
                """
                name: \(name)
                model: default
                lifecycle: persistent
                capabilities: ["tool: memory_store", "tool: memory_query"]
                memory: { persistent: \(keeps), episodic_max_content_bytes: 40 }
                """
            }
            func store(_ agent: String, _ text: String, user: Int? = nil) async throws -> [String: Any] {
                try await door.invoke(agent, "memory_store", ["content": text, "category": "fact"], user: user)
            }
            func found(_ agent: String, user: Int? = nil) async throws -> Int? {
                let answer = try await door.invoke(agent, "memory_query", ["query": "staging port"], user: user)
                return AgentDoor.value(answer)?["count"] as? Int
            }
            for (name, keeps) in [("keeper", true), ("fleeting", false)] {
                let id = try await door.spawn(manifest(name, keeps: keeps))
                #expect(try await store(id, "The staging port is 5433")["result"] != nil)
                #expect(
                    AgentDoor.code(try await store(id, String(repeating: "x", count: 41))) == "memory-too-large")
                #expect(try await found(id) == 1)
                _ = try await door.result("agent.stop", ["agent_id": id])
                let next = try await door.spawn(manifest(name, keeps: keeps))
                #expect(try await found(next) == (keeps ? 1 : 0), "\(name)")
            }
            // Another user's agent of the same name is another one, and its user sees none of this.
            try await door.openToAll()
            let nobody = 65_534
            let other = try await door.spawn(manifest("keeper", keeps: true), user: nobody)
            #expect(try await found(other, user: nobody) == 0)
            #expect((try await door.result("memory.list", user: nobody)["places"] as? [Any])?.isEmpty == true)
            #expect(
                try await door.problem("memory.query", ["agent_id": "0/keeper", "query": "port"], user: nobody)
                    == "agent-not-found")
            #expect(try await store(other, "Nobody's port", user: nobody)["result"] != nil)
            // People see that of their own agents; root everybody's.
            let theirs = try await door.result("memory.list", ["agent_id": "keeper"], user: nobody)
            let contents = (theirs["memories"] as? [[String: Any]])?.map { $0["content"] as? String }
            #expect(contents == ["Nobody's port"])
            #expect((try await door.result("memory.list")["places"] as? [Any])?.count == 2)
            let query = try await f.succeed("memory", "query", "--agent", "0/keeper", "staging port", "--quiet")
            let record = try #require(query.out.split(separator: "\n").first.map(String.init))
            #expect(record.hasPrefix("m-"))
            try await f.succeed("memory", "delete", record, "--agent", "0/keeper")
            #expect(try await f.succeed("memory", "list", "--agent", "0/keeper").out == "Nothing was found\n")
            // A reset is for one identity, and what comes after it is a new one.
            _ = try await door.result("memory.reset", ["agent_id": "keeper"], user: nobody)
            #expect(try await found(other, user: nobody) == 0)
            #expect(try await store(other, "New port", user: nobody)["result"] != nil)
            // It outlives the daemon.
            kill(try #require(f.daemonPid), SIGKILL)
            try await f.up()
            try await door.openToAll()
            #expect(try await found("keeper", user: nobody) == 1)
        }
    }
}
