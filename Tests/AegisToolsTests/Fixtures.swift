import AegisAudit
import AegisAuditTestSupport
import AegisCapabilities
import AegisCore
import AegisJSON
import Synchronization

@testable import AegisTools

/// A run's calls in memory.
final class MemoryJournal: CallJournal {
    private let state = Mutex((calls: [String: CallState](), fails: Set<String>(), isLeft: false, isStopped: false))
    var isLeft: Bool { state.withLock { $0.isLeft } }
    var isStopped: Bool { state.withLock { $0.isStopped } }
    func stop() { state.withLock { $0.isStopped = true } }
    func leave() { state.withLock { $0.isLeft = true } }
    init(_ calls: [String: CallState] = [:]) { state.withLock { $0.calls = calls } }
    func fail(_ step: String) { state.withLock { _ = $0.fails.insert(step) } }
    private func check(_ step: String) throws(AegisError) {
        if state.withLock({ $0.fails.contains(step) }) { throw .failed("disk-full", "the disk is full") }
    }
    func state(of callID: String) throws(AegisError) -> CallState {
        try check("state")
        return state.withLock { $0.calls[callID] ?? .unknown }
    }
    func begin(_ callID: String, tool: String, input: JSONValue) throws(AegisError) {
        try check("begin")
        state.withLock { $0.calls[callID] = .begun }
    }
    func end(_ callID: String, with reply: ToolReply) throws(AegisError) {
        try check("end")
        state.withLock { $0.calls[callID] = .ended(reply) }
    }
}

/// A tool made of closures that counts its calls.
final class ClosureTool: Tool {
    let declaration: ToolDeclaration
    private let count = Mutex(0)
    private let body: @Sendable (JSONValue, ToolContext) async throws -> ToolReply
    private let shown: @Sendable (JSONValue) throws -> ApprovalPreview
    var calls: Int { count.withLock { $0 } }

    init(
        _ name: String = "probe", input: JSONValue = ["type": "object"], effects: ToolEffects = .writes,
        isIdempotent: Bool = false, asksApproval: Bool = false, resources: [CapabilityKind] = [],
        timeLimit: Duration = .seconds(100), outputLimit: Int = 1 << 20,
        preview: @escaping @Sendable (JSONValue) throws -> ApprovalPreview = { ApprovalPreview($0.pretty) },
        _ body: @escaping @Sendable (JSONValue, ToolContext) async throws -> ToolReply
    ) {
        declaration = ToolDeclaration(
            name: name, description: "for tests", input: input, effects: effects, isIdempotent: isIdempotent,
            asksApproval: asksApproval, resources: resources, timeLimit: timeLimit, outputLimit: outputLimit)
        self.body = body
        shown = preview
    }
    /// One that answers with its input.
    convenience init(
        _ name: String = "probe", input: JSONValue = ["type": "object"], isIdempotent: Bool = false,
        asksApproval: Bool = false
    ) {
        self.init(name, input: input, isIdempotent: isIdempotent, asksApproval: asksApproval) { input, _ in
            ToolReply(input)
        }
    }
    func call(_ input: JSONValue, _ context: ToolContext) async throws -> ToolReply {
        count.withLock { $0 += 1 }
        return try await body(input, context)
    }
    func preview(_ input: JSONValue, _ context: ToolContext) async throws -> ApprovalPreview { try shown(input) }
}

/// A desk that answers what it is told.
final class ScriptedDesk: ApprovalDesk {
    private let asked = Mutex([ApprovalRequest]())
    private let answer: @Sendable (ApprovalRequest, Int) async throws -> ApprovalDecision
    var requests: [ApprovalRequest] { asked.withLock { $0 } }
    init(_ answer: @escaping @Sendable (ApprovalRequest, Int) async throws -> ApprovalDecision) { self.answer = answer }
    func ask(_ request: ApprovalRequest) async throws -> ApprovalDecision {
        let count = asked.withLock {
            $0.append(request)
            return $0.count
        }
        return try await answer(request, count)
    }
    static func agreeing() -> ScriptedDesk {
        ScriptedDesk { _, _ in .granted(id: "a-1", by: Approver(uid: 0, door: "cli")) }
    }
}

/// One agent with some tools.
struct World {
    let trail = MemoryTrail()
    let holder = HolderID("agent-1")
    let book: GrantBook
    let gate: ToolGate
    let registry: ToolRegistry
    var context: ToolContext

    init(_ tools: [any Tool], grants: [String], clock: (any Clock<Duration>)? = nil) throws {
        registry = try ToolRegistry(tools)
        gate = ToolGate(registry, clock: clock)
        book = GrantBook()
        try book.issue(grants.map { try GrantSpec(parsing: $0) }, to: holder)
        context = ToolContext(
            holder: holder, agent: "agent-1", name: "tester", trace: "t-1", step: 1, callID: "c-1", grants: book,
            audit: trail)
    }

    func call(_ name: String, _ input: JSONValue = [:]) async -> ToolReply {
        await gate.call(name, input: input, context)
    }
}

extension JSONValue {
    init(json text: String) throws { try self.init(parsing: Array(text.utf8)) }
}
