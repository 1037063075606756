internal import AegisAgents
package import AegisAudit
internal import AegisCapabilities
internal import AegisCore
package import AegisInference
internal import AegisInstances
internal import AegisMCP
internal import AegisTools

extension AuditKind {
    /// A secret is about to get a value.
    static let secretSet = AuditKind("secret_set")
    /// A secret is about to be deleted.
    static let secretDeleted = AuditKind("secret_deleted")
    /// A daemon begins to work in this home.
    package static let daemonStarted = AuditKind("daemon_started")
    /// A daemon ends as it should.
    package static let daemonStopped = AuditKind("daemon_stopped")
    /// Those of the edges.
    private static let ofEdges: [AuditKind] = [.secretSet, .secretDeleted, .daemonStarted, .daemonStopped]

    /// Every kind that this version writes.
    package static let all: [AuditKind] =
        ofLedger + ofEdges + ofInstances + ofGrants + ofTools + ofApprovals + ofAgents + ofRestarts + ofGoals + ofMemory
        + ofMCP + InferenceStep.Kind.allCases.map(\.auditKind)

    private static let words = all.map(\.description)
    /// What kinds begin with, a word or more: `tool` for `tool_invoked`.
    private static let beginnings = Set(
        words.flatMap { word in word.indices.filter { word[$0] == "_" }.map { String(word[..<$0]) } }
    ).sorted()

    /// Reads a list with commas.
    ///
    /// - Throws: `unknown-kind`.
    static func words(parsing text: String) throws(AegisError) -> Set<String> {
        let wanted = text.split(separator: ",").map(String.init)
        for word in wanted { try check(word) }
        return Set(wanted)
    }

    /// Checks the word of somebody who asks for a kind: one that nothing is ever written under shows nothing, which looks like an
    /// answer.
    ///
    /// - Parameters:
    ///   - word: as it was written.
    ///   - takesBeginnings: whether the first words of kinds will do.
    /// - Throws: `unknown-kind` with the nearest one.
    static func check(_ word: String, takesBeginnings: Bool = false) throws(AegisError) {
        let known = takesBeginnings ? words + beginnings : words
        guard !known.contains(word) else { return }
        let meant = nearest(word, in: known).map { "did you mean '\($0)'? " } ?? ""
        throw AegisError(
            .usage, "unknown-kind", "no record is of the kind '\(word.prefix(100))'",
            hint: meant + "docs/audit.md has all kinds" + (takesBeginnings ? "; their first words will do" : ""))
    }
}

extension InferenceStep.Kind {
    /// How the ledger calls it.
    package var auditKind: AuditKind {
        switch self {
        case .budgetRefused, .queueRefused: AuditKind(rawValue, .denial)
        case .started, .answered, .failed, .retried, .fellBack: AuditKind(rawValue)
        }
    }
}
