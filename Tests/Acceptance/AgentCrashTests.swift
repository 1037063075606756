import AegisTestSupport
import Foundation
import Testing

/// A daemon that is killed between any two things that it does for an agent: the next one brings the agent's work to its end, no
/// effect in the world is repeated, and what may have happened is said to (decision D34).
@Suite struct AgentCrashTests {
    /// Where a daemon dies, and what nobody knows then.
    struct Place: Sendable, CustomStringConvertible {
        let description: String
        let side: CrashPoints.Side
        /// What is saved there; NAME is the agent's.
        let words: [String]
        /// The tool whose outcome is not known, and how often it has had its effect.
        var unclear = "-"
    }

    private static func outcome(_ call: String) -> [String] { [#""kind":"outcome""#, #""id":"\#(call)""#] }

    static let places = [
        Place(description: "agent made", side: .after, words: [#""kind":"agent_spawned""#, "NAME"]),
        Place(description: "message taken", side: .after, words: ["INTO agent_mail", #""text":"go""#]),
        Place(description: "model call reserved", side: .after, words: ["INSERT INTO inference_reservations"]),
        Place(description: "model reply saved", side: .after, words: [#""kind":"replied""#, "mcp__calls__note"]),
        Place(description: "file written", side: .before, words: outcome("call_1_1"), unclear: "file_write 1"),
        Place(description: "approval asked", side: .after, words: ["INSERT INTO approvals"]),
        Place(description: "approval on record", side: .before, words: ["UPDATE approvals SET state = 'granted'"]),
        Place(description: "approval decided", side: .after, words: ["UPDATE approvals SET state = 'granted'"]),
        Place(description: "approval used", side: .after, words: ["UPDATE approvals SET used"]),
        Place(
            description: "intent saved", side: .after, words: [#"{"kind":"intent","call":"call_2_1"}"#],
            unclear: "mcp.calls.note 0"),
        Place(description: "effect made", side: .before, words: outcome("call_2_1"), unclear: "mcp.calls.note 1"),
        Place(description: "outcome saved", side: .after, words: outcome("call_2_1")),
        Place(description: "memory stored", side: .after, words: ["INSERT INTO memories"], unclear: "memory_store 1"),
        Place(
            description: "message sent", side: .after, words: ["INTO agent_mail", "tides of NAME."],
            unclear: "agent_send 1"),
        Place(
            description: "spawn reserved", side: .after, words: [#""kind":"capability_used""#, "spawn: child"],
            unclear: "spawn_agent 0"),
        Place(
            description: "child made", side: .after, words: [#""kind":"agent_spawned""#, #""name":"child""#],
            unclear: "spawn_agent 0"),
        Place(
            description: "child's effect made", side: .before, words: [#""kind":"outcome""#, "/workspace/child"],
            unclear: "spawn_agent 1"),
        Place(description: "child's result made", side: .before, words: outcome("call_5_1"), unclear: "spawn_agent 1"),
        Place(description: "child's result handed over", side: .after, words: outcome("call_5_1")),
        Place(
            description: "turn ended", side: .before,
            words: [#""kind":"agent_execution_completed""#, #""iterations":6"#]),
        Place(description: "agent stopped", side: .after, words: [#""kind":"grant_revoked""#, "stopped by its owner"]),
    ]

    @Test func nothingIsRepeatedWhereverTheDaemonDies() async throws {
        try await CrashStage.with { stage in
            for (number, place) in Self.places.enumerated() {
                let name = "boss-\(number)"
                try stage.points.arm(place.side, 1, place.words.map { $0.replacing("NAME", with: name) })
                let told = try #require(try await stage.live(name), "it did not die: \(place)")
                #expect(try await stage.check(name, told, "\(place)") == place.unclear, "\(place): \(told)")
                // A call that was under way is booked at what was reserved for it, and made again.
                let isBooked = (CrashStage.tokens("used", told) ?? 0) > 16_384
                #expect(isBooked == (place.description == "model call reserved"), "\(place): \(told)")
            }
            #expect(try await stage.fixture.list().isEmpty)
        }
    }
}

extension SoakTests {
    /// The same at any place at all: before and after each thing that is saved in the life of an agent, in no order.
    @Test(.enabled(if: Endurance.includes(Endurance.parts - 3), "another part was asked for"))
    func anAgentOutlivesItsDaemonWhereverItDies() async throws {
        let seed = Endurance.seed ?? UInt64.random(in: 0...(.max >> 1))
        print("places from AEGIS_FUZZ_SEED=\(seed)")
        try await CrashStage.with { stage in
            try stage.points.watch()
            #expect(try await stage.live("boss-0") == nil)
            let count = try stage.points.seen().count
            var random = Mutator(seed: seed)
            var places = (1...count).flatMap { nth in CrashPoints.Side.allCases.map { ($0, nth) } }
            let end = ContinuousClock.now + .seconds(Endurance.seconds)
            var number = 0
            while !places.isEmpty, ContinuousClock.now < end {
                let (side, nth) = places.remove(at: random.below(places.count))
                number += 1
                let name = "boss-\(number)"
                try stage.points.watch()
                try stage.points.arm(side, nth)
                let told = try await stage.live(name)
                stage.points.disarm()
                let last = try stage.points.seen().prefix(nth).last ?? ""
                // As things happen side by side one more or less may be saved.
                guard let told else { continue }
                _ = try await stage.check(name, told, "\(side) \(nth): \(last)")
            }
            print("killed \(number) times, at one of \(2 * count) places each")
        }
    }
}
