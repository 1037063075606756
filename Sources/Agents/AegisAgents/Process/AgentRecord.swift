internal import AegisCapabilities
package import AegisCore

/// What is wanted otherwise than a manifest has it.
package struct SpawnOptions: Sendable, Codable, Hashable {
    /// Another model.
    package var model: String?
    /// More grants, as a manifest has them.
    package var grants: [String] = []
    /// Another budget, in tokens of its whole life.
    package var maxTokens: UInt64?
    /// Another budget, in millionths of a dollar.
    package var maxMicroUSD: UInt64?

    /// Nothing otherwise.
    package init() {}

    /// Changes a manifest.
    ///
    /// - Throws: `invalid-capability`; what is wrong with the model's name.
    func apply(to manifest: inout AgentManifest) throws(AegisError) {
        do throws(CapabilityError) {
            if let model {
                let own = try Capability(parsing: "model: \(manifest.model)")
                manifest.capabilities.removeAll { $0.capability == own }
                manifest.model = model
                manifest.capabilities = try GrantSpec.completed(manifest.capabilities, model: model)
            }
            for grant in grants { manifest.capabilities.append(try GrantSpec(parsing: grant)) }
        } catch { throw error.asAegisError }
        guard maxTokens != nil || maxMicroUSD != nil else { return }
        // A manifest's budget may be of money alone, and then has no tokens to be kept.
        let own = manifest.budget.map(\.maxTokens) ?? 1_000_000
        var budget = AgentManifest.Budget(maxTokens: maxTokens ?? own)
        budget.maxMicroUSD = maxMicroUSD ?? manifest.budget?.maxMicroUSD
        budget.resetPeriodSeconds = 0
        manifest.budget = budget
    }
}

/// What is kept of a live agent beside its steps.
package struct AgentRecord: Sendable, Codable, Hashable {
    /// Whether a text has the form of an agent's id: `a-` and 16 hexadecimal digits.
    static func isID(_ text: String) -> Bool {
        text.utf8.count == 18 && text.hasPrefix("a-") && text.dropFirst(2).allSatisfy(\.isHexDigit)
    }

    /// The version of this form.
    package var version = 1
    package var id: String
    package var name: String
    /// The manifest as it was given; its prompt's file was read when it was.
    package var manifest: String
    package var prompt: String?
    /// Who spawned it; nil when a person did.
    package var parent: String?
    /// 0 for what a person spawned.
    package var depth: Int
    /// The agent at the top, whose budget holds for all below it.
    package var tree: String
    /// The user that it belongs to.
    package var owner: UInt32
    /// That user's group.
    package var group: UInt32
    package var created: Timestamp
    /// What it adds to the manifest's `approval_required`: its parent's.
    package var approvals: [String] = []
    /// Whether its id outlives restarts: who has one may keep private memories.
    package var isPersistent: Bool
    /// What stands before its system prompt: the skills that there are.
    package var preamble: String?
    /// What whoever spawned it wants otherwise than the manifest has it.
    package var options = SpawnOptions()
    /// Whether it was to go with its answer: nobody waits for that after its daemon has ended.
    package var isOneShot = false
    /// Of a child, the grant that it was spawned by where that limits what children use of models: its account stands between its
    /// own and its parent's.
    package var bound: String?
    /// The goal that it works for.
    package var goal: String?
    /// When that goal ends, reached or not: no question that cannot be asked by then waits for its turn at a model.
    package var deadline: Timestamp?
    /// The owner's folder that is the workspace of its tree; nil is one that Aegis keeps.
    package var workspace: String?

    package init(
        id: String, name: String, manifest: String, parent: String?, depth: Int, tree: String, owner: UInt32,
        group: UInt32, created: Timestamp, isPersistent: Bool
    ) {
        self.id = id
        self.name = name
        self.manifest = manifest
        self.parent = parent
        self.depth = depth
        self.tree = tree
        self.owner = owner
        self.group = group
        self.created = created
        self.isPersistent = isPersistent
    }

    /// Whether the next daemon goes on with it: whoever waits for a child, or for the one answer of another, is gone by then.
    var outlivesDaemon: Bool { parent == nil && !isOneShot }
    /// Whether it is there for a second message.
    var takesMessages: Bool { outlivesDaemon && goal == nil }

    /// All that the model is told first.
    func systemPrompt(_ manifest: AgentManifest) -> String {
        [manifest.systemPrompt, preamble ?? ""].filter { !$0.isEmpty }.joined(separator: "\n\n")
    }
}
