package import AegisCapabilities
package import AegisJSON

/// What a tool changes outside of its own answer: the least that is true of every call.
package enum ToolEffects: String, Sendable, Codable, CaseIterable {
    /// Nothing is touched.
    case none
    /// Something is looked at.
    case reads
    /// Something of the agent's own world is changed.
    case writes
    /// Something elsewhere is asked or changed: what was sent cannot be taken back.
    case external
}

/// What a tool says of itself.
package struct ToolDeclaration: Sendable {
    /// The name that models call and grants name.
    package var name: String
    /// What it does, for the model.
    package var description: String
    /// The JSON Schema of its input.
    package var input: JSONValue
    /// What it changes.
    package var effects: ToolEffects
    /// Whether a second call with the same input does no more than the first (decision D34).
    package var isIdempotent: Bool
    /// Whether a person is asked before each call, where the manifest says nothing.
    package var asksApproval: Bool
    /// Whether several calls may run at once.
    package var isParallelSafe: Bool
    /// Whether a call ends by itself, with words of its own, when what allowed it is taken back.
    package var endsWithGrant: Bool
    /// The grants that a call needs beside `tool: NAME`: a refusal tells which of them are held.
    package var resources: [CapabilityKind]
    /// How long a call may take.
    package var timeLimit: Duration
    /// How long an answer may be, in bytes of text; more is cut.
    package var outputLimit: Int

    /// How long a call may take when its tool says nothing.
    package static let usualTimeLimit = Duration.seconds(120)
    /// How long an answer may be when its tool says nothing, in bytes.
    package static let usualOutputLimit = 256 << 10

    /// Declares a tool.
    package init(
        name: String, description: String, input: JSONValue, effects: ToolEffects, isIdempotent: Bool = false,
        asksApproval: Bool = false, isParallelSafe: Bool = false, resources: [CapabilityKind] = [],
        timeLimit: Duration = Self.usualTimeLimit, outputLimit: Int = Self.usualOutputLimit,
        endsWithGrant: Bool = false
    ) {
        self.name = name
        self.description = description
        self.input = input
        self.effects = effects
        self.isIdempotent = isIdempotent
        self.asksApproval = asksApproval
        self.isParallelSafe = isParallelSafe
        self.resources = resources
        self.timeLimit = timeLimit
        self.outputLimit = outputLimit
        self.endsWithGrant = endsWithGrant
    }
}

/// Something that an agent can call. Only `ToolGate` calls it: never anything else.
package protocol Tool: Sendable {
    /// What the tool says of itself; it does not change.
    var declaration: ToolDeclaration { get }

    /// Whether it is there for agents of a user of the node. For others there is no such tool.
    func serves(user: UInt32) -> Bool

    /// Does it. The input fits the schema, and `tool: NAME` was admitted; the tool itself asks for each resource, before it
    /// touches it, with `context.grants.admit`.
    ///
    /// - Throws: a `Denial`, an `AegisError`, or `CancellationError`; each becomes an answer that the model reads.
    func call(_ input: JSONValue, _ context: ToolContext) async throws -> ToolReply

    /// What a call would do, to be shown and to be bound to an approval (decision D48). It changes nothing.
    ///
    /// - Throws: what the call would be refused with already now: nobody is asked about that.
    func preview(_ input: JSONValue, _ context: ToolContext) async throws -> ApprovalPreview
}

extension Tool {
    /// For everybody's.
    package func serves(user: UInt32) -> Bool { true }

    /// The arguments as they are.
    package func preview(_ input: JSONValue, _ context: ToolContext) async throws -> ApprovalPreview {
        ApprovalPreview(input.pretty)
    }
}
