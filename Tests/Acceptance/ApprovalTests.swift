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
        }
    }
}
