import Foundation
import Testing

/// What people are asked, and for how long their answers hold. Through `agentd.sock` of a real daemon.
@Suite struct ApprovalTests {
    /// Who agrees to a program for the session agrees to what was shown (decision D48): `sh` with another input, in another folder
    /// or with another variable is another call.
    @Test func aSessionRemembersTheWholeCallOfAProgram() async throws {
        try await AgentDoor.with { door in
            let id = try await door.spawn(
                "worker", ["tool: exec", "exec: *", "file_read: /workspace/**", "file_write: /workspace/**"],
                "approval_required: [exec]")
            /// What the program wrote, or the answer in place of that.
            @Sendable func exec(_ more: [String: String] = [:]) async throws -> String {
                let word = "echo \"$WORD\" in \"$PWD\""
                let input: [String: Any] = [
                    "argv": ["sh"], "stdin": more["stdin"] ?? word, "env": ["WORD": more["word"] ?? "one"],
                    "cwd": more["cwd"] ?? "/workspace",
                ]
                let answer = try await door.invoke(id, "exec", input)
                return AgentDoor.value(answer)?["stdout"] as? String ?? "\(answer)"
            }
            async let first = exec()
            let asked = try await door.waiting()
            try await door.answer(asked, "approve", forSession: true)
            #expect(try await first == "one in /workspace\n")
            // Nobody is there to answer: this comes back because it is remembered.
            #expect(try await exec() == "one in /workspace\n")
            for other in [["stdin": "id"], ["cwd": "/tmp"], ["word": "two"]] {
                async let refused = exec(other)
                let again = try await door.waiting()
                #expect(again["resource"] as? String != asked["resource"] as? String, "\(other)")
                try await door.answer(again, "deny")
                let answer = try await refused
                #expect(answer.contains("approval-denied"), "\(other): \(answer)")
            }
            #expect(try await exec() == "one in /workspace\n")
            let told = try await door.result("audit.tail", ["kinds": ["human_approval_granted"], "agent": id])
            let doors = (told["records"] as? [[String: Any]])?.map {
                ($0["fields"] as? [String: Any])?["door"] as? String
            }
            #expect(doors == ["json-rpc", "session", "session"], "\(told)")
            // Each says what was agreed to: what is remembered, and the call that it was this time.
            let fields = (told["records"] as? [[String: Any]])?.compactMap { $0["fields"] as? [String: Any] } ?? []
            let resource = try #require(asked["resource"] as? String)
            #expect(fields.allSatisfy { $0["resource"] as? String == resource && $0["tool"] as? String == "exec" })
            let requests = try await door.result("audit.tail", ["kinds": ["human_approval_requested"], "agent": id])
            let request = (requests["records"] as? [[String: Any]])?.first?["fields"] as? [String: Any]
            let hash = try #require(request?["input_hash"] as? String, "\(requests)")
            #expect(fields.map { $0["for_session"] as? Bool } == [true, false, false], "\(told)")
            #expect(fields.map { $0["input_hash"] as? String } == [hash, hash, hash], "\(told)")
        }
    }

    /// Nobody's answer is a refusal, after the time that the operator has set; and too late is too late.
    @Test func whoIsNotAnsweredInTimeIsRefused() async throws {
        try await AgentDoor.with("  agents: { approval_timeout: 10s }\n") { door in
            let id = try await door.spawn(
                "writer", ["tool: file_write", "file_write: /workspace/**"], "approval_required: [file_write]")
            let answer = try await door.invoke(id, "file_write", ["path": "/workspace/note", "content": "x"])
            #expect("\(answer)".contains("approval-expired"), "\(answer)")
            #expect(!FileManager.default.fileExists(atPath: "\(door.fixture.home)/agents/\(id)/workspace/note"))
            let kinds = ["human_approval_requested", "human_approval_expired"]
            let told = try await door.result("audit.tail", ["kinds": kinds, "agent": id])
            let records = try #require(told["records"] as? [[String: Any]])
            #expect(records.map { $0["kind"] as? String } == kinds, "\(told)")
            let fields = try #require(records.first?["fields"] as? [String: Any])
            let times = try [records.first?["time"], fields["expires_at"]].map { time in
                try Date.ISO8601FormatStyle(includingFractionalSeconds: true).parse(try #require(time as? String))
            }
            // It is recorded after its time has begun.
            #expect(times[1].timeIntervalSince(times[0]) <= 10, "\(told)")
            let late = ["id": fields["approval"] ?? "", "decision": "approve"]
            #expect(try await door.problem("approval.respond", late) == "approval-closed")
            #expect((try await door.result("approval.list")["pending"] as? [Any])?.isEmpty == true)
        }
    }

    /// The time goes on without a daemon: whoever comes back too late is refused, and nobody is asked a second time.
    @Test func theTimeGoesOnWithoutADaemon() async throws {
        let rules = """
              - when: { agent: writer, tool: file_write }
                reply: { text: "{{result}}" }
              - when: { agent: writer }
                reply: { tools: [{ name: file_write, input: { path: /workspace/note, content: "x" } }] }

            """
        try await AgentDoor.with("  agents: { approval_timeout: 10s }\n", rules: rules) { door in
            let id = try await door.spawn(
                "writer", ["tool: file_write", "file_write: /workspace/**"], "approval_required: [file_write]")
            let sent = try await door.result("agent.run", ["agent_id": id, "message": "go", "wait": false])
            let asked = try await door.waiting()
            try await door.fixture.crash()
            let end = try Date.ISO8601FormatStyle(includingFractionalSeconds: true)
                .parse(try #require(asked["expires_at"] as? String))
            try await door.fixture.eventually("its time is over") { Date() > end }
            try await door.fixture.up()
            let reply = try await door.result(
                "agent.reply", ["agent_id": id, "trace_id": sent["trace_id"] ?? "", "wait": true])
            #expect((reply["response"] as? String)?.contains("approval-expired") == true, "\(reply)")
            let kinds = ["human_approval_requested", "human_approval_expired"]
            let told = try await door.result("audit.tail", ["kinds": kinds, "agent": id])
            let records = try #require(told["records"] as? [[String: Any]])
            #expect(records.map { $0["kind"] as? String } == kinds, "\(told)")
        }
    }

    /// What a goal's agent has to ask for is asked on its way, and a name that is no tool's is said before the goal is taken: the real
    /// one would be called unasked, or the goal end once its turn has come.
    @Test func theManifestThatTakesGoalsSaysWhatIsAskedFor() async throws {
        let file = "/tmp/aegis-test-bootstrap-\(UUID().uuidString).yaml"
        defer { try? FileManager.default.removeItem(atPath: file) }
        @Sendable func write(_ tool: String) throws {
            try
                "name: boot\nmodel: default\ncapabilities: ['tool: file_write', 'file_write: /workspace/**']\napproval_required: [\(tool)]\n"
                .write(toFile: file, atomically: true, encoding: .utf8)
        }
        try write("file_wrote")
        let rules = """
              - when: { agent: boot, tool: file_write }
                reply: { text: "{{result}}" }
              - when: { agent: boot }
                reply: { tools: [{ name: file_write, input: { path: /workspace/note, content: "agreed" } }] }

            """
        try await AgentDoor.with("  agents: { bootstrap_manifest: \(file) }\n", rules: rules) { door in
            #expect(try await door.problem("goal.submit", ["goal": "write"]) == "approval-unknown")
            #expect((try await door.result("goal.list")["goals"] as? [Any])?.isEmpty == true)
            let doctor = try await door.fixture.aegis("doctor")
            #expect(doctor.out.contains("approval_required names 'file_wrote'"), "\(doctor)")
            try write("file_write")
            let goal = try #require(try await door.result("goal.submit", ["goal": "write"])["id"] as? String)
            let asked = try await door.waiting()
            #expect(asked["tool"] as? String == "file_write", "\(asked)")
            try await door.answer(asked, "deny")
            let over = try await door.result("goal.show", ["goal_id": goal, "wait": true])
            #expect("\(over)".contains("approval-denied"), "\(over)")
        }
    }

    /// What somebody agrees to cannot stand where nobody sees it: a list says first that it does not show all, shows the end, and
    /// names what does.
    @Test func whatIsTooLongForAListIsShownByItself() async throws {
        try await AgentDoor.with { door in
            let id = try await door.spawn(
                "writer", ["tool: file_write", "file_write: /workspace/**"], "approval_required: [file_write]")
            let filler = String(repeating: "tide\n", count: 20 << 10)
            let content = filler + "marked the middle\n" + filler + "marked the end\n"
            async let written = door.invoke(id, "file_write", ["path": "/workspace/note", "content": content])
            let asked = try await door.waiting()
            let approval = try #require(asked["id"] as? String)
            let input = try #require((asked["input"] as? [String: Any])?["content"] as? String)
            let shown = [input, try #require(asked["preview"] as? String)]
            for text in shown {
                #expect(text.contains("marked the end") && !text.contains("marked the middle"), "\(text.suffix(100))")
            }
            #expect(input.hasPrefix("(65536 of \(content.count) characters are shown: "), "\(input.prefix(200))")
            #expect(shown[1].contains("\n(2000 of 40962 lines are shown: "), "\(shown[1].prefix(200))")
            let listed = try await door.fixture.succeed("approval", "list")
            #expect(listed.out.contains("lines are shown") && listed.out.contains("+marked the end"))
            // All of it, by every door, for whom it is.
            let whole = try await door.result("approval.show", ["id": approval])
            #expect((whole["input"] as? [String: Any])?["content"] as? String == content)
            let text = try await door.fixture.succeed("approval", "show", approval)
            #expect(text.out.contains("marked the middle\n") && text.out.contains("\npath:\n/workspace/note\n"))
            try await door.openToAll()
            #expect(try await door.problem("approval.show", ["id": approval], user: 4242) == "approval-not-found")
            try await door.fixture.refuse("approval", "show", "ap-none", code: 4, error: "approval-not-found")
            try await door.answer(asked, "deny")
            #expect("\(try await written)".contains("approval-denied"))
        }
    }

    /// A time in which nobody can answer, or no time at all, is no setting.
    @Test func aTimeOutOfRangeIsRefused() async throws {
        try await AgentDoor.with { door in
            for time in ["9s", "8d", "never"] {
                try AgentDoor.configuration(door.fixture, "  agents: { approval_timeout: \(time) }\n")
                let checked = try await door.fixture.aegis(
                    "config", "show", "--config", "\(door.fixture.home)/aegis-config.yaml")
                #expect(checked.code != 0 && checked.err.contains("approval_timeout"), "\(time): \(checked)")
            }
        }
    }
}
