import Foundation
import Testing

/// What summaries of a conversation take is part of what its turns take.
@Suite struct AgentSummaryTests {
    private static func tokens(_ value: Any?) -> (input: Int, output: Int) {
        let fields = value as? [String: Any] ?? [:]
        return (fields["input_tokens"] as? Int ?? 0, fields["output_tokens"] as? Int ?? 0)
    }

    /// Calls that the ledger tells of an agent: the sum of what they took, and how many there were.
    private static func told(_ door: AgentDoor, _ id: String) async throws -> (input: Int, output: Int, calls: Int) {
        let told = try await door.result(
            "audit.tail", ["kinds": ["model_call_answered"], "agent": id, "count": 100])
        let records = try #require(told["records"] as? [[String: Any]], "\(told)")
        var sum = (input: 0, output: 0)
        for record in records {
            let usage = (record["fields"] as? [String: Any])?["usage"] as? [String: Any]
            for part in ["input", "cache_read", "cache_write"] { sum.input += usage?[part] as? Int ?? 0 }
            sum.output += usage?["output"] as? Int ?? 0
        }
        return (sum.input, sum.output, records.count)
    }

    /// Whether there is a summary or none.
    @Test(arguments: ["they spoke of tides", ""]) func turnsTellWhatTheirSummariesTook(_ text: String) async throws {
        let summary = "reply: { text: \"\(text)\", usage: { input: 300, output: 70 } }"
        try await AgentDoor.withSmallWindow(summary: summary) { door in
            let id = try await door.spawn("name: talker\nmodel: small\nlifecycle: persistent")
            var sum = (input: 0, output: 0, calls: 0)
            for number in 1...5 {
                let message = "part \(number): " + String(repeating: "tide ", count: 320)
                let reply = try await door.result("agent.run", ["agent_id": id, "message": message])
                #expect(reply["stop_reason"] as? String == "complete", "\(reply)")
                let taken = Self.tokens(reply["usage"])
                sum = (sum.input + taken.input, sum.output + taken.output, sum.calls + 1)
                // The same whoever asks later: from the steps that are kept.
                let trace = try #require(reply["trace_id"])
                let later = try await door.result("agent.reply", ["agent_id": id, "trace_id": trace])
                #expect(Self.tokens(later["usage"]) == taken, "\(later)")
            }
            let told = try await Self.told(door, id)
            #expect(told.calls > sum.calls, "nothing was summarised")
            #expect((sum.input, sum.output) == (told.input, told.output))
        }
    }

    /// A turn whose summaries have taken what it may take asks nothing more.
    @Test(arguments: ["they spoke of tides", ""]) func theyCountAgainstTheLimitOfATurn(_ text: String) async throws {
        let summary = "reply: { text: \"\(text)\", usage: { input: 30000, output: 70 } }"
        try await AgentDoor.withSmallWindow(summary: summary) { door in
            let id = try await door.spawn(
                "name: talker\nmodel: small\nlifecycle: persistent\nmax_turn_tokens: 20000")
            var stops: [String] = []
            while stops.last != "max_tokens", stops.count < 5 {
                let calls = try await Self.told(door, id).calls
                let message = "part \(stops.count): " + String(repeating: "tide ", count: 320)
                let reply = try await door.result("agent.run", ["agent_id": id, "message": message])
                stops.append(try #require(reply["stop_reason"] as? String))
                #expect(try await Self.told(door, id).calls == calls + 1, "\(reply)")
            }
            #expect(stops.last == "max_tokens" && Set(stops.dropLast()) == ["complete"], "\(stops)")
        }
    }
}
