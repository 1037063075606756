import AegisAudit
import AegisCapabilities
import AegisCore
import AegisIO
import AegisJSON
import AegisStore
import AegisTestSupport
import AegisTools
import Synchronization
import Testing

@testable import AegisMCP

/// Servers and their tools, behind the gate.
@Suite struct MCPPlaneTests {
    private final class Trail: AuditTrail {
        private let state = Mutex([AuditEvent]())
        var kinds: [String] { state.withLock { $0.map(\.kind.description) } }
        @discardableResult func record(_ event: AuditEvent) throws(AegisError) -> AuditReceipt {
            state.withLock { $0.append(event) }
            return AuditReceipt(seq: 1, hash: AuditHash.none)
        }
    }

    private final class Desk: ApprovalDesk {
        let shown = Mutexed<[ApprovalPreview]>([])
        private let then: @Sendable () async throws -> Void
        init(_ then: @escaping @Sendable () async throws -> Void = {}) { self.then = then }
        func ask(_ request: ApprovalRequest) async throws -> ApprovalDecision {
            shown.change { $0.append(request.preview) }
            try await then()
            return .granted(id: "a", by: Approver(uid: 0, door: "cli"))
        }
    }

    /// A node with one server, whose starts a test decides.
    private final class Node: Sendable {
        let registry = ToolRegistry()
        let trail = Trail()
        let book = GrantBook()
        let opened = Mutexed<[ScriptedServer]>([])
        let plane: MCPPlane
        private let gate: ToolGate

        init(
            _ stage: Stage, _ database: Database, _ section: MCPServerSection = MCPServerSection("s", command: ["x"]),
            _ open: @escaping @Sendable (Int) throws -> ScriptedServer
        ) throws {
            gate = ToolGate(registry, clock: stage.clock)
            let opened = opened
            plane = MCPPlane(
                [section], registry: registry, store: MCPStore(database), audit: trail, scope: stage.scope,
                clock: stage.clock, logger: Logger { _ in }
            ) { section, onNotice in
                let server = try open(opened.value.count)
                opened.change { $0.append(server) }
                return MCPStdioTransport(
                    section.name, server, scope: stage.scope, clock: stage.clock, onNotice: onNotice)
            }
            try book.issue([GrantSpec(parsing: "tool: mcp.s.one")], to: HolderID("agent-1"))
        }

        func call(_ name: String, desk: Desk? = nil) async -> ToolReply {
            let context = ToolContext(
                holder: HolderID("agent-1"), agent: "agent-1", name: "tester", trace: "t-1", step: 1, callID: "c-1",
                grants: book, audit: trail, desk: desk)
            return await gate.call(name, input: ["x": 1], context)
        }

        var asks: Bool? { registry.entry("mcp.s.one")?.declaration.asksApproval }
        func field(_ name: String) -> JSONValue? { plane.report(operators: true).first?[name] }
    }

    private func with(_ test: @escaping @Sendable (Stage, Database) async throws -> Void) async throws {
        try await withTemporaryDirectory { folder in
            let database = try Database.open(
                path: "\(folder)/db", applicationID: 1, migrations: MCPStore.migrations + MCPStore.agreementMigrations)
            defer { database.close() }
            try await Stage.run { stage in try await test(stage, database) }
        }
    }

    @Test func toolsAreBehindTheGateAndKnownAfterARestart() async throws {
        try await with { stage, database in
            let server = ScriptedServer(Usual.stateless([.tool("one"), .tool("two")]))
            let node = try Node(stage, database) { _ in server }
            try await node.plane.refresh("s")
            #expect(node.registry.declarations.map(\.name) == ["mcp.s.one", "mcp.s.two"])
            #expect(node.registry.wireName("mcp.s.one") == "mcp__s__one")
            let done = await node.call("mcp__s__one")
            #expect(!done.isError && done.value["text"] == "done" && done.value["from"] == "mcp.s.one", "\(done)")
            #expect(await node.call("mcp.s.two").code == "capability-denied")
            #expect(node.trail.kinds == ["mcp_connected", "tool_invoked", "tool_result", "tool_refused"])
            #expect(node.field("state") == "running" && node.field("revision") == "2026-07-28")
            await node.plane.end()
            #expect(server.stops > 0)
            #expect(await node.call("mcp.s.one").code == "mcp-unavailable")
            // The next daemon knows the tools before it has started the server.
            let next = try Node(stage, database) { _ in ScriptedServer(Usual.stateless()) }
            next.plane.start()
            #expect(next.registry.declarations.count == 2 && next.opened.value.isEmpty)
            #expect(await next.call("mcp.s.one").isError == false)
            #expect(await code { try await next.plane.refresh("t") } == "mcp-server-not-found")
            await next.plane.end()
        }
    }

    /// Reports are passed on.
    @Test(arguments: [
        ("https://u:p@h.example:8443/mcp?key=k#f", "https://•••@h.example:8443/mcp?•••"),
        ("https://a@b@[::1]:1?k@c", "https://•••@[::1]:1?•••"), ("http://h/@scope/mcp", "http://h/@scope/mcp"),
        ("https://h#k", "https://h#•••"), ("h?k", "•••"),
    ])
    func anAddressIsShownWithoutKeys(_ url: String, _ shown: String) {
        #expect(MCPReach.shown(url) == shown)
        #expect(MCPReach(MCPServerSection("s", url: url)).text.hasPrefix("at \(shown): "))
    }

    @Test func whoAsksAndGoesIsNotToldThatTheServerWasLate() async throws {
        try await with { stage, database in
            let server = ScriptedServer { _, _ in }
            let node = try Node(stage, database) { _ in server }
            let asked = Task { await node.plane.findings() }
            _ = await server.message("server/discover")
            asked.cancel()
            let found = await asked.value
            #expect(found.count == 1 && "\(found)".contains(": nobody waited for its answer"), "\(found)")
            await node.plane.end()
        }
    }

    @Test func aChangedToolAsksAgain() async throws {
        try await with { stage, database in
            let said = Mutexed("does things")
            let node = try Node(stage, database) { _ in
                ScriptedServer { message, server in Usual.stateless([.tool("one", said.value)])(message, server) }
            }
            try await node.plane.refresh("s")
            #expect(node.asks == false)
            said.change { $0 = "sends everything elsewhere" }
            try await node.plane.refresh("s")
            #expect(node.asks == true && node.trail.kinds.contains("mcp_tool_changed"))
            #expect(await node.call("mcp.s.one").code == "approval-impossible")
            let desk = Desk()
            #expect(await node.call("mcp.s.one", desk: desk).isError == false)
            #expect(desk.shown.value.first?.text.contains("sends everything elsewhere") == true)
            #expect(node.asks == false && node.trail.kinds.contains("mcp_tool_accepted"))
            // What changes while a person thinks is not called.
            said.change { $0 = "third" }
            try await node.plane.refresh("s")
            let late = Desk {
                said.change { $0 = "fourth" }
                try await node.plane.refresh("s")
            }
            #expect(await node.call("mcp.s.one", desk: late).code == "mcp-tool-changed")
            #expect(node.asks == true)
            // One that went back to what was agreed to is what it was.
            said.change { $0 = "sends everything elsewhere" }
            try await node.plane.refresh("s")
            #expect(node.asks == false)
            await node.plane.end()
        }
    }

    @Test(arguments: [(MCPApproval.first, false), (.always, true)])
    func thePolicySaysWhenAPersonIsAsked(_ approval: MCPApproval, _ still: Bool) async throws {
        try await with { stage, database in
            var section = MCPServerSection("s", command: ["x"])
            section.approval = approval
            section.deny = ["two"]
            let node = try Node(stage, database, section) { _ in
                ScriptedServer(Usual.stateless([.tool("one"), .tool("two")]))
            }
            try await node.plane.refresh("s")
            #expect(node.registry.declarations.count == 1 && node.asks == true)
            #expect(await node.call("mcp.s.one", desk: Desk()).isError == false)
            #expect(node.asks == still)
            await node.plane.end()
        }
    }

    /// What was listed before a person was to be asked has nobody's agreement; what a person agreed to has it under each setting.
    @Test func aTighterPolicyAsksAboutWhatWasOnlyListed() async throws {
        try await with { stage, database in
            /// Whether the tool is asked about: as it is known from before, as it is listed, and when a person has agreed.
            @Sendable func asks(_ approval: MCPApproval, agrees: Bool = false) async throws -> [Bool?] {
                var section = MCPServerSection("s", command: ["x"])
                section.approval = approval
                let node = try Node(stage, database, section) { _ in ScriptedServer(Usual.stateless()) }
                node.plane.start()
                let known = node.asks
                try await node.plane.refresh("s")
                let listed = node.asks
                let desk = Desk()
                if agrees { #expect(await node.call("mcp.s.one", desk: desk).isError == false) }
                if agrees { #expect(desk.shown.value.first?.text.contains("Nobody has agreed") == true) }
                let after = node.asks
                await node.plane.end()
                return [known, listed, after]
            }
            let turns: [(MCPApproval, agrees: Bool, [Bool?])] = [
                (.changed, false, [nil, false, false]), (.first, false, [true, true, true]),
                (.changed, false, [false, false, false]), (.first, true, [true, true, false]),
                (.first, false, [false, false, false]), (.changed, false, [false, false, false]),
            ]
            for (number, turn) in turns.enumerated() {
                let found = try await asks(turn.0, agrees: turn.agrees)
                #expect(found == turn.2, "\(number)")
            }
        }
    }

    /// What a person agreed to was the tool of that server, not of another one of its name.
    @Test(arguments: [(MCPApproval.first, true, true), (.changed, false, true)])
    func anotherServerIsAskedAboutAsTheFirstWas(
        _ approval: MCPApproval, _ same: Bool, _ other: Bool
    ) async throws {
        try await with { stage, database in
            /// Whether its tools are asked about once a server has listed them.
            @Sendable func asks(_ command: String, _ description: String, agrees: Bool = false) async throws -> [Bool?]
            {
                var section = MCPServerSection("s", command: [command])
                section.approval = approval
                let node = try Node(stage, database, section) { _ in
                    ScriptedServer(Usual.stateless([.tool("one", description)]))
                }
                try await node.plane.refresh("s")
                let before = node.asks
                if agrees { #expect(await node.call("mcp.s.one", desk: Desk()).isError == false) }
                let after = node.asks
                await node.plane.end()
                return [before, after]
            }
            let agreed = try await asks("x", "does things", agrees: true)
            let again = try await asks("x", "does things")
            #expect(agreed == [same, false] && again == [false, false])
            let elsewhere = try await asks("y", "does things")
            #expect(elsewhere == [same, same])
            // Nobody has agreed to that one, and the first one's word is not known again either.
            let back = try await asks("x", "does things")
            #expect(back == [same, same])
            let different = try await asks("y", "does more")
            #expect(different == [other, other])
        }
    }

    @Test func aServerThatSaysSoIsListedAgain() async throws {
        try await with { stage, database in
            let tools = Mutexed([JSONValue.tool("one")])
            let server = ScriptedServer { message, server in Usual.stateless(tools.value)(message, server) }
            let node = try Node(stage, database) { _ in server }
            try await node.plane.refresh("s")
            tools.change { $0 = [.tool("two"), ["name": "broken"]] }
            _ = await server.message("tools/list")
            for _ in 0..<50 { server.say(["jsonrpc": "2.0", "method": "notifications/tools/list_changed"]) }
            _ = await server.message("tools/list")
            while node.registry.entry("mcp.s.two") == nil { await Task.yield() }
            #expect(node.registry.entry("mcp.s.one") == nil)
            #expect(node.field("problems")?.elements?.count == 1)
            await node.plane.end()
        }
    }

    @Test func anUnusedServerIsStopped() async throws {
        try await with { stage, database in
            let node = try Node(stage, database) { _ in ScriptedServer(Usual.stateless()) }
            try await node.plane.refresh("s")
            await stage.clock.sleepers(1)
            stage.clock.advance(by: .seconds(299))
            #expect(await node.call("mcp.s.one").isError == false)
            await stage.clock.sleepers(1)
            #expect(stage.clock.deadlines == [.seconds(599)])
            stage.clock.advance(by: .seconds(300))
            await node.opened.value[0].gone()
            #expect(node.field("state") == "stopped")
            #expect(await node.call("mcp.s.one").isError == false)
            #expect(node.opened.value.count == 2)
            await node.plane.end()
        }
    }

    /// Whoever it was started for has gone before it was there.
    @Test func aServerThatNobodyWaitsForAnyMoreIsStopped() async throws {
        try await with { stage, database in
            let held = Mutexed<JSONValue?>(nil)
            let server = ScriptedServer { message, server in
                if message["method"]?.text == "server/discover" { return held.change { $0 = message } }
                Usual.stateless()(message, server)
            }
            let node = try Node(stage, database) { _ in server }
            let asked = Task { try await node.plane.refresh("s") }
            _ = await server.message("server/discover")
            asked.cancel()
            await #expect(throws: CancellationError.self) { try await asked.value }
            #expect(node.field("state") == "starting")
            Usual.stateless()(try #require(held.value), server)
            while node.field("state") == "starting" { await Task.yield() }
            #expect(node.field("state") == "running")
            let patience = ContinuousClock.now + .seconds(60)
            while !stage.clock.deadlines.contains(.seconds(300)), ContinuousClock.now < patience { await Task.yield() }
            try #require(stage.clock.deadlines.contains(.seconds(300)), "nothing is to stop it")
            stage.clock.advance(by: .seconds(300))
            await server.gone()
            #expect(node.field("state") == "stopped")
            await node.plane.end()
        }
    }

    @Test func aServerThatDoesNotComeIsLeftAloneForAWhile() async throws {
        try await with { stage, database in
            let tries = Mutexed(0)
            let node = try Node(stage, database) { _ in
                if tries.change({
                    $0 += 1; return $0
                }) < 3 {
                    throw AegisError.failed("image-missing", "no image")
                }
                return ScriptedServer(Usual.stateless())
            }
            for attempt in 1...2 {
                #expect(await code { try await node.plane.refresh("s") } == "image-missing")
                #expect(await code { try await node.plane.refresh("s") } == "image-missing")
                #expect(tries.value == attempt && node.field("state") == "failed")
                #expect(node.field("last_error")?["code"] == "image-missing")
                await stage.clock.sleepers(1)
                stage.clock.advance(by: .seconds(1 << (attempt - 1)))
                while node.field("state") == "failed" { await Task.yield() }
            }
            try await node.plane.refresh("s")
            #expect(node.field("state") == "running" && node.field("last_error") == nil)
            await node.plane.end()
        }
    }

    @Test func aServerThatDiesAtEachCallIsNotStartedForEach() async throws {
        try await with { stage, database in
            let node = try Node(stage, database) { _ in
                ScriptedServer { message, server in
                    if message["method"]?.text == "tools/call" { return server.die() }
                    Usual.stateless()(message, server)
                }
            }
            try await node.plane.refresh("s")
            for _ in 1...5 { #expect(await node.call("mcp.s.one").code == "mcp-unavailable") }
            #expect(node.opened.value.count == 2 && node.field("state") == "failed")
            await stage.clock.sleepers(1)
            stage.clock.advance(by: .seconds(600))
            while node.field("state") == "failed" { await Task.yield() }
            #expect(await node.call("mcp.s.one").code == "mcp-unavailable")
            #expect(node.opened.value.count == 3)
            await node.plane.end()
        }
    }

    @Test func aServerThatEndsAtTheProbeIsStartedAgainWithoutIt() async throws {
        try await with { stage, database in
            let node = try Node(stage, database) { _ in
                ScriptedServer { message, server in
                    if message["method"]?.text == "server/discover" { return server.die() }
                    Usual.session(message, server)
                }
            }
            // Two at once share one start.
            async let other: Void = node.plane.refresh("s")
            try await node.plane.refresh("s")
            try await other
            #expect(node.field("revision") == "2025-11-25" && node.opened.value.count == 2)
            #expect(node.opened.value.last?.methods.first == "initialize")
            // It dies while it is called: the call fails, the next one finds it again, without another probe.
            node.opened.value.last?.die()
            while node.field("state") == "running" { await Task.yield() }
            #expect(node.field("last_error")?["message"]?.text?.contains("exit code 3") == true)
            #expect(await node.call("mcp.s.one").isError == false)
            #expect(node.opened.value.count == 3)
            await node.plane.end()
        }
    }
}
