import AegisCapabilities
import AegisCore
import AegisJSON
import AegisTestSupport
import AegisTools
import Synchronization
import Testing

@testable import AegisAgents

/// Sandboxes whose image never comes, or in which programs never end.
private final class EndlessSandboxes: AgentSandboxes {
    private let (isMade, events): (Bool, AsyncStream<String>.Continuation)
    private let maker = SandboxMaker()
    private let there = Mutex<[String: String]>([:])

    init(isMade: Bool, _ events: AsyncStream<String>.Continuation) { (self.isMade, self.events) = (isMade, events) }

    func run(
        _ command: SandboxCommand, for agent: AgentRecord, _ plan: SandboxPlan, _ permit: SandboxPermit
    ) async throws -> SandboxOutcome {
        try await maker.make(for: agent.id, permit) { [self] in
            if isMade { return there.withLock { $0[agent.id] = plan.policy } }
            events.yield("fetches")
            _ = await Waiter<Bool>().value()
            events.yield("fetches no more")
            throw CancellationError()
        }
        return try await permit.hold(or: .failed("sandbox-lost", "it ended")) { [self] in
            events.yield("runs")
            _ = await Waiter<Bool>().value()
            throw CancellationError()
        }
    }

    func remove(_ agent: String) async {
        await maker.remove(agent) {
            there.withLock { if $0.removeValue(forKey: agent) != nil { events.yield("removed") } }
        }
    }

    func plans() async -> [(agent: String, policy: String)] {
        there.withLock { $0.map { (agent: $0.key, policy: $0.value) } }
    }
}

/// What sandboxes have told, one after the other.
private struct Heard: Sendable {
    let stream: AsyncStream<String>
    func next() async -> String? { await stream.first { _ in true } }
}

/// What programs were begun with ends with it, however long it would take.
@Suite struct SandboxPermitTests {
    private static let grants = "'tool: exec', 'exec: *', 'file_read: /workspace/**'"

    private static func world(
        isMade: Bool, clock: TestClock? = nil, _ body: (World, Heard) async throws -> Void
    ) async throws {
        let (stream, events) = AsyncStream<String>.makeStream()
        let world = try World(
            ClosureDesk { _, _ in ClosureDesk.text("x") }, sandboxes: EndlessSandboxes(isMade: isMade, events),
            clock: clock
        ) { clock.map { Timestamp(milliseconds: $0.now.offset.components.seconds * 1000 + 1) } ?? .now() }
        let heard = Heard(stream: stream)
        do { try await body(world, heard) } catch {
            await world.end()
            throw error
        }
        await world.end()
    }

    private static func revoke(_ text: String, of process: AgentProcess, in world: World) async throws {
        _ = try world.grants.revoke(process.holder, capability: try Capability(parsing: text), reason: "test")
        await world.directory.reviewSandboxes()
    }

    @Test func aRevocationDoesNotWaitForAnImage() async throws {
        try await Self.world(isMade: false) { world, heard in
            let process = try await world.directory.spawn(
                World.file("worker", "capabilities: [\(Self.grants)]"), by: .person(uid: 7))
            async let first = process.invoke("exec", ["argv": ["true"]], door: "test")
            #expect(await heard.next() == "fetches")
            // A second program waits for the same sandbox.
            async let second = process.invoke("exec", ["argv": ["true"]], door: "test")
            while await world.directory.permits.count < 2 { await Task.yield() }
            try await Self.revoke("file_read: /workspace/**", of: process, in: world)
            #expect(await heard.next() == "fetches no more")
            #expect(await first.code == "sandbox-lost")
            #expect(await second.code == "sandbox-lost")
            #expect(await world.directory.permits.isEmpty)
        }
    }

    @Test func aStopDoesNotWaitForAnImage() async throws {
        try await Self.world(isMade: false) { world, heard in
            let process = try await world.directory.spawn(
                World.file("worker", "capabilities: [\(Self.grants)]"), by: .person(uid: 7))
            async let reply = process.invoke("exec", ["argv": ["true"]], door: "test")
            #expect(await heard.next() == "fetches")
            try await world.directory.stop(process.id)
            #expect(await reply.code == "sandbox-lost")
        }
    }

    /// Also that of a child in its parent's sandbox, and also where only the leave to run programs is taken back.
    @Test(arguments: ["file_read: /workspace/**", "exec: *", "tool: exec"])
    func aProgramEndsWithItsGrants(_ taken: String) async throws {
        try await Self.world(isMade: true) { world, heard in
            let parent = try await world.directory.spawn(
                World.file("parent", "capabilities: [\(Self.grants), 'spawn: *']"), by: .person(uid: 7))
            let child = try await world.directory.spawn(
                World.file("child", "capabilities: [\(Self.grants)]"), by: .agent(parent))
            async let reply = child.invoke("exec", ["argv": ["true"]], door: "test")
            #expect(await heard.next() == "runs")
            #expect(await world.directory.permits.map(\.owner) == [parent.id])
            try await Self.revoke(taken, of: child, in: world)
            #expect(await heard.next() == "removed")
            #expect(await reply.code == "sandbox-lost")
        }
    }

    /// The grant that lasts longest counts, of the program and of the tool.
    @Test(arguments: [
        ("{grant: 'exec: *', expires: 30s}, {grant: 'exec: true', expires: 60s}, 'tool: exec'", "exec: true"),
        ("'exec: *', {grant: 'tool: exec', expires: 60s}", "tool: exec"),
    ])
    func aProgramEndsWhenItsGrantDoes(_ grants: String, _ ended: String) async throws {
        let clock = TestClock()
        try await Self.world(isMade: true, clock: clock) { world, heard in
            let process = try await world.directory.spawn(
                World.file("worker", "capabilities: [\(grants)]"), by: .person(uid: 7))
            async let reply = process.invoke("exec", ["argv": ["true"]], door: "test")
            #expect(await heard.next() == "runs")
            #expect(await world.directory.permits.first?.ends == Timestamp(milliseconds: 60_001))
            while !clock.deadlines.contains(where: { $0 > .seconds(59) && $0 < .seconds(61) }) { await Task.yield() }
            clock.advance(by: .seconds(59))
            await world.directory.reviewSandboxes()
            #expect(await world.directory.permits.map(\.isWithdrawn) == [false])
            clock.advance(by: .seconds(2))
            #expect(await heard.next() == "removed")
            let result = await reply
            #expect(result.code == "grant-expired" && result.value["error"]?["message"]?.text?.contains(ended) == true)
        }
    }

    /// What another grant of the same has used up is of no help to a program that it did not allow.
    @Test(arguments: [
        "{grant: 'exec: true', max_calls: 1}, 'exec: *', 'tool: exec'",
        "'exec: *', {grant: 'tool: exec', max_calls: 1}, 'tool: *'",
    ])
    func aProgramEndsWithTheGrantThatAllowedIt(_ grants: String) async throws {
        try await Self.world(isMade: true) { world, heard in
            let process = try await world.directory.spawn(
                World.file("worker", "capabilities: [\(grants)]"), by: .person(uid: 7))
            async let first = process.invoke("exec", ["argv": ["true"]], door: "test")
            #expect(await heard.next() == "runs")
            async let second = process.invoke("exec", ["argv": ["true"]], door: "test")
            #expect(await heard.next() == "runs")
            // The first one has used up its own, and goes on.
            await world.directory.reviewSandboxes()
            #expect(await world.directory.permits.map(\.isWithdrawn) == [false, false])
            try await Self.revoke(grants.contains("tool: *") ? "tool: *" : "exec: *", of: process, in: world)
            #expect(await heard.next() == "removed")
            #expect(await second.code == "sandbox-lost")
            // They share a sandbox, which goes with what one of them may not do any more.
            #expect(await first.code == "sandbox-lost")
        }
    }

    /// Nor does it put off the end of what expires.
    @Test func aUsedUpGrantMakesNoOtherLast() async throws {
        let clock = TestClock()
        try await Self.world(isMade: true, clock: clock) { world, heard in
            let grants = "{grant: 'exec: true', max_calls: 1}, {grant: 'exec: *', expires: 60s}, 'tool: exec'"
            let process = try await world.directory.spawn(
                World.file("worker", "capabilities: [\(grants)]"), by: .person(uid: 7))
            async let first = process.invoke("exec", ["argv": ["true"]], door: "test")
            #expect(await heard.next() == "runs")
            async let second = process.invoke("exec", ["argv": ["true"]], door: "test")
            #expect(await heard.next() == "runs")
            #expect(await world.directory.permits.map(\.ends) == [nil, Timestamp(milliseconds: 60_001)])
            while !clock.deadlines.contains(where: { $0 > .seconds(59) && $0 < .seconds(61) }) { await Task.yield() }
            clock.advance(by: .seconds(61))
            #expect(await heard.next() == "removed")
            #expect(await second.code == "grant-expired")
            #expect(await first.code == "sandbox-lost")
        }
    }

    /// A grant that was for this one call is used up by it, and not taken back.
    @Test func whatIsUsedUpGoesOn() async throws {
        try await Self.world(isMade: true) { world, heard in
            let once = "{grant: 'exec: *', max_calls: 1}, {grant: 'tool: exec', max_calls: 1}"
            let process = try await world.directory.spawn(
                World.file("worker", "capabilities: [\(once)]"), by: .person(uid: 7))
            async let reply = process.invoke("exec", ["argv": ["true"]], door: "test")
            #expect(await heard.next() == "runs")
            await world.directory.reviewSandboxes()
            #expect(await world.directory.permits.map(\.isWithdrawn) == [false])
            try await world.directory.stop(process.id)
            #expect(await reply.code == "sandbox-lost")
        }
    }
}
