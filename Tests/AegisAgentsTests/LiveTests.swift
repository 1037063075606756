import AegisCore
import AegisInference
import AegisTestSupport
import Synchronization
import Testing

@testable import AegisAgents

@Suite struct LiveTests {
    private static func event(_ kind: LiveEvent.Kind, of agent: String = "a-1", position: Int = 1) -> LiveEvent {
        LiveEvent(agent: agent, trace: "t-1", step: 0, position: position, kind: kind)
    }

    // MARK: What waits for a listener

    @Test func piecesThatFollowEachOtherAreOne() {
        var buffer = LiveBuffer()
        buffer.add(Self.event(.reasoning("hm", at: 0)))
        buffer.add(Self.event(.text("ein ", at: 0)))
        buffer.add(Self.event(.text("schönes ", at: 4)))
        buffer.add(Self.event(.text("Lied", at: 13)))
        buffer.add(Self.event(.text("new", at: 0)))
        #expect(
            buffer.take().map(\.kind) == [
                .reasoning("hm", at: 0), .text("ein schönes Lied", at: 0), .text("new", at: 0),
            ])
        #expect(buffer.take().isEmpty && buffer.weight == 0)
    }

    @Test func piecesOfTwoAgentsAreNeverOne() {
        var buffer = LiveBuffer()
        buffer.add(Self.event(.text("a", at: 0)))
        buffer.add(Self.event(.text("b", at: 1), of: "a-2"))
        #expect(buffer.take().count == 2)
    }

    @Test func aSlowListenerMissesTextAndIsToldHowMuch() {
        var buffer = LiveBuffer()
        let piece = String(repeating: "x", count: 1000)
        for number in 0..<200 { buffer.add(Self.event(.text(piece, at: number * 1000))) }
        #expect(buffer.weight <= 2 * LiveBuffer.limit)
        buffer.add(Self.event(.restart))
        buffer.add(Self.event(.end(isWhole: false)))
        let events = buffer.take()
        let (kept, lost) = events.reduce(into: (0, 0)) { sum, event in
            sum.0 += event.textBytes
            if case .gap(let bytes) = event.kind { sum.1 += bytes }
        }
        #expect(kept + lost == 200_000 && lost > 0)
        #expect(events.suffix(2).map(\.kind) == [.restart, .end(isWhole: false)])
        // There is room again.
        buffer.add(Self.event(.text("after", at: 0)))
        #expect(buffer.take().map(\.kind) == [.text("after", at: 0)])
    }

    @Test func whatWaitsIsBoundedWhateverItIs() {
        var buffer = LiveBuffer()
        for number in 0..<100_000 {
            buffer.add(Self.event(.tool(name: "echo", call: "c-\(number)"), of: "a-\(number % 300)"))
            buffer.add(Self.event(.end(isWhole: true), of: "a-\(number % 300)"))
        }
        #expect(buffer.weight <= 5 * LiveBuffer.limit && buffer.events.count <= 5 * LiveBuffer.limit / 128)
    }

    // MARK: Between steps

    @Test func anAnswerStandsBeforeTheStepThatKeepsItAndAfterThoseThatItAnswers() {
        var merge = LiveMerge()
        let first = Self.event(.text("first", at: 0), position: 1)
        let second = Self.event(.text("second", at: 0), position: 4)
        // The reader has steps 0 and 1, and what was said meanwhile is of the answers that steps 1 and 4 keep.
        #expect(merge.take([first, second], steps: 2, from: 0) == [[], [first], []])
        #expect(merge.take([], steps: 1, from: 2) == [[], []])
        #expect(merge.take([], steps: 1, from: 3) == [[], [second]])
        #expect(merge.take([second], steps: 0, from: 4) == [[second]])
    }

    /// Who reads old steps slowly has no more kept for it than any listener; what is left out is counted once.
    @Test func whatWaitsForSlowlyReadStepsIsBounded() {
        var merge = LiveMerge()
        let piece = String(repeating: "x", count: 8 << 10)
        for number in 0..<100 {
            let said = Self.event(.text(piece, at: number * piece.utf8.count), position: 1000)
            #expect(merge.take([said], steps: 32, from: number).allSatisfy { $0.isEmpty })
        }
        let end = Self.event(.end(isWhole: true), position: 1000)
        let late = merge.take([end], steps: 0, from: 1000)[0]
        guard case .gap(let lost) = late[0].kind else { Issue.record("\(late[0])"); return }
        let left = late.reduce(0) { $0 + $1.textBytes }
        #expect(lost > 0 && left <= LiveMerge.limit && lost + left == 100 * piece.utf8.count)
        #expect(late.last == end)
    }

    // MARK: A listener

    @Test func aListenerIsToldAtOnceAndThenFiftyMillisecondsLater() async throws {
        let (live, clock) = (LiveAnswers(), TestClock())
        let listener = live.listen(to: .agent("a-1"))
        #expect(live.listenerCount == 1)
        listener.add(Self.event(.text("one", at: 0)))
        #expect(await listener.wait(clock))
        #expect(listener.take().count == 1)
        listener.add(Self.event(.text("two", at: 3)))
        async let more = listener.wait(clock)
        await clock.sleepers(1)
        #expect(clock.deadlines == [LiveListener.pause])
        listener.add(Self.event(.text(" and three", at: 6)))
        clock.advance(by: LiveListener.pause)
        #expect(await more)
        #expect(listener.take().map(\.kind) == [.text("two and three", at: 3)])
        // So much is not gathered any longer.
        async let much = listener.wait(clock)
        await clock.sleepers(1)
        listener.add(Self.event(.text(String(repeating: "x", count: LiveListener.batch), at: 16)))
        #expect(await much)
        #expect(listener.take().count == 1)
        listener.add(Self.event(.end(isWhole: true)))
        listener.finish()
        #expect(await listener.wait(clock))
        #expect(listener.take().map(\.kind) == [.end(isWhole: true)])
        #expect(await !listener.wait(clock))
        #expect(live.listenerCount == 0)
    }

    // MARK: An agent

    @Test func whoListensHearsAnAgentAndNoSummaries() async throws {
        let desk = ClosureDesk { question, number throws(AegisError) in
            guard let live = question.live else { return ClosureDesk.text("a summary") }
            live.take(.reasoning("let me see"))
            live.take(.text("half an "))
            if number == 1 {
                live.restart()
                live.take(.text("a whole "))
            }
            live.take(.text("answer"))
            live.take(.toolUse(id: "c", name: "probe"))
            live.take(.toolInput(id: "c", fragment: "{}"))
            if number == 3 { throw .failed("model-bad-answer", "it broke off") }
            return ClosureDesk.text(number == 1 ? "a whole answer" : "half an answer")
        }
        let world = try World(desk)
        let process = try await world.directory.spawn(
            World.file("worker", "lifecycle: persistent"), by: .person(uid: 7))
        let live = world.directory.services.live
        let subjects: [LiveAnswers.Subject] = [.agent(process.id), .owner(7), .everybody, .owner(8), .nothing]
        let listeners = subjects.map { live.listen(to: $0) }
        let trace = await world.directory.newTrace()
        let own = live.listen(to: .trace(trace))
        _ = try await world.directory.run("go", on: process, trace: trace)
        let heard = own.take()
        #expect(
            heard.map(\.kind) == [
                .reasoning("let me see", at: 0), .text("half an ", at: 0), .restart,
                .text("a whole answer", at: 0), .tool(name: "probe", call: "c"), .end(isWhole: true),
            ])
        #expect(heard.allSatisfy { $0.trace == trace && $0.agent == process.id && $0.step == 0 && $0.position == 1 })
        #expect(listeners.map { $0.take().count } == [6, 6, 6, 0, 0])
        // Another message is not that one.
        _ = try await world.directory.run("again", on: process)
        #expect(own.take().isEmpty)
        #expect(listeners[0].take().last?.kind == .end(isWhole: true))
        // What breaks off is void.
        _ = try await world.directory.run("again", on: process)
        #expect(listeners[0].take().last?.kind == .end(isWhole: false))
        for listener in listeners + [own] { listener.finish() }
        #expect(live.listenerCount == 0)
        await world.end()
    }
}
