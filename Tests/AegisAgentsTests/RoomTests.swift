import AegisCore
import AegisInference
import Synchronization
import Testing

@testable import AegisAgents

/// What becomes of a conversation that its model refuses as too long.
@Suite struct RoomTests {
    private final class Count: Sendable {
        private let number = Mutex(0)
        var value: Int { number.withLock { $0 } }
        func next() -> Int {
            number.withLock { number in
                number += 1
                return number
            }
        }
    }

    /// Answers every message, but refuses those that begin with "dense" so often.
    private static func desk(refusals: Int, asked: Count) -> ClosureDesk {
        ClosureDesk { question, _ throws(AegisError) in
            if question.system == Transcript.summaryPrompt { throw .failed("none", "no summary") }
            guard question.messages.last?.text.contains("dense") == true else { return ClosureDesk.text("noted") }
            guard asked.next() > refusals else { throw AegisError(.tooLarge, "context-too-long", "too long") }
            return ClosureDesk.text("noted")
        }
    }

    /// The room that one turn was left does not bind the next.
    @Test func theNextTurnHasTheWholeWindow() async throws {
        let asked = Count()
        let world = try World(Self.desk(refusals: 1, asked: asked))
        let agent = try await world.directory.spawn(World.file("worker", "lifecycle: persistent"), by: .person(uid: 0))
        _ = try await world.directory.run(String(repeating: "sand ", count: 1600), on: agent)
        let dense = try await world.directory.run("dense: " + String(repeating: "tide ", count: 80), on: agent)
        #expect(dense.stop == .complete && asked.value == 2)
        let long = try await world.directory.run(String(repeating: "rock ", count: 4000), on: agent)
        #expect(long.stop == .complete && long.response == "noted", "\(long)")
        #expect(agent.session.messages.contains { $0.text.contains("rock rock") })
        await world.end()
    }

    /// A provider that refuses whatever it is asked does not have the whole conversation thrown away.
    @Test func itIsHalvedThreeTimesAtMost() async throws {
        let asked = Count()
        let world = try World(Self.desk(refusals: .max, asked: asked))
        let agent = try await world.directory.spawn(World.file("worker", "lifecycle: persistent"), by: .person(uid: 0))
        for _ in 0..<64 { _ = try await world.directory.run(String(repeating: "sand ", count: 200), on: agent) }
        let before = ContextSize.tokens(agent.session.prompt)
        let dense = try await world.directory.run("dense", on: agent)
        #expect(dense.problem?.code == "context-too-long" && dense.stop == .error)
        #expect(before > 16_000 && asked.value == 4)
        await world.end()
    }
}
