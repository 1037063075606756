import AegisCapabilities
import AegisCore
import AegisJSON
import AegisTestSupport
import AegisTools
import Synchronization
import Testing

@testable import AegisAgents

/// Sandboxes that bring one tool, which says whose sandbox it is in.
private final class BringingSandboxes: AgentSandboxes {
    private struct Where: Tool {
        let owner: String
        let declaration = ToolDeclaration(
            name: "mcp.k.where", description: "where", input: ["type": "object"], effects: .external)
        func call(_ input: JSONValue, _ context: ToolContext) async throws -> ToolReply {
            ToolReply(.object([.init("owner", .string(owner))]))
        }
    }

    struct Asked: Sendable {
        var owner: String
        var mayCall: Bool
        var stands: @Sendable () async -> Bool
    }
    private let state = Mutex((asked: [Asked](), missing: AegisError?.none))
    var asked: [Asked] { state.withLock { $0.asked } }
    func fail(_ error: AegisError?) { state.withLock { $0.missing = error } }

    func run(
        _ command: SandboxCommand, for agent: AgentRecord, _ plan: SandboxPlan, _ permit: SandboxPermit
    ) async throws -> SandboxOutcome {
        throw AegisError.failed("internal-error", "nothing is run here")
    }
    func remove(_ agent: String) async {}
    func plans() async -> [(agent: String, policy: String)] { [] }

    func tools(
        of owner: AgentRecord, _ plan: SandboxPlan, mayCall: @escaping @Sendable (String) -> Bool,
        stands: @escaping @Sendable () async -> Bool
    ) async -> OwnTools? {
        let missing = state.withLock { state in
            state.asked.append(Asked(owner: owner.id, mayCall: mayCall("mcp.k."), stands: stands))
            return state.missing
        }
        let registry = ToolRegistry()
        if missing == nil { try? registry.register(Where(owner: owner.id), foreign: true) }
        return OwnTools(registry, missing: missing.map { [("mcp.k.", $0)] } ?? [])
    }
}

@Suite struct SandboxToolsTests {
    private static func spawn(
        _ world: World, _ name: String, _ more: String, by spawner: Spawner = .person(uid: 0), kit: Bool = true
    ) async throws -> AgentProcess {
        let sandbox = kit ? "\nsandbox: { kit: k }" : ""
        return try await world.directory.spawn(
            World.file(name, "capabilities: [\(more)]\(sandbox)"), by: spawner)
    }

    private static func owner(_ process: AgentProcess) async -> String? {
        await process.invoke("mcp.k.where", .object([]), door: "test").value["owner"]?.text
    }

    @Test func toolsAreThoseOfTheSandboxThatOneHas() async throws {
        let sandboxes = BringingSandboxes()
        let world = try World(ClosureDesk { _, _ in ClosureDesk.text("x") }, sandboxes: sandboxes)
        let all = "'tool: mcp.k.where', 'file_read: /workspace/**'"
        let parent = try await Self.spawn(
            world, "parent", "\(all), 'file_write: /workspace/**', 'spawn: *', 'tool: echo'")
        let same = try await Self.spawn(
            world, "same", "\(all), 'file_write: /workspace/**'", by: .agent(parent), kit: false)
        let less = try await Self.spawn(world, "less", all, by: .agent(parent), kit: false)
        let none = try await Self.spawn(world, "none", "'tool: echo'", by: .agent(parent), kit: false)
        let other = try await Self.spawn(world, "other", all, kit: false)
        #expect(await Self.owner(parent) == parent.id)
        #expect(await Self.owner(same) == parent.id)
        #expect(await Self.owner(less) == less.id)
        #expect(await parent.declarations().map(\.name).contains("mcp.k.where"))
        #expect(!sandboxes.asked.contains { !$0.mayCall })
        // The sandbox is not asked for what one has no grant of, and without a kit there is nothing to ask.
        #expect(await none.declarations().contains { $0.name == "mcp.k.where" } == false)
        #expect(sandboxes.asked.last?.mayCall == false)
        let count = sandboxes.asked.count
        #expect(await other.invoke("mcp.k.where", .object([]), door: "test").code == "tool-unknown")
        #expect(sandboxes.asked.count == count)
        // What is taken back is known before anything is started for it.
        let stands = try #require(sandboxes.asked.first?.stands)
        #expect(await stands())
        _ = try world.grants.revoke(
            parent.holder, capability: try Capability(parsing: "file_write: /workspace/**"), reason: "test")
        #expect(await !stands())
        await world.end()
    }

    @Test func whyThereAreNoneIsTold() async throws {
        let sandboxes = BringingSandboxes()
        let world = try World(ClosureDesk { _, _ in ClosureDesk.text("x") }, sandboxes: sandboxes)
        let agent = try await Self.spawn(world, "agent", "'tool: mcp.k.where'")
        sandboxes.fail(.failed("mcp-unavailable", "it does not start"))
        for name in ["mcp.k.where", "mcp__k__where"] {
            #expect(await agent.invoke(name, .object([]), door: "test").code == "mcp-unavailable")
        }
        #expect(await agent.invoke("mcp.other.x", .object([]), door: "test").code == "tool-unknown")
        sandboxes.fail(nil)
        #expect(await agent.invoke("mcp__k__where", .object([]), door: "test").isError == false)
        await world.end()
    }
}
