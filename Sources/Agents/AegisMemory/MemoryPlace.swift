/// Whose records are meant: no call reaches beyond the one place that it is given.
package struct MemoryPlace: Sendable, Hashable, CustomStringConvertible {
    /// The identity that the records belong to; empty for a shared scope.
    package let owner: String
    /// `self` for an agent's own records, else the name of a shared scope.
    package let scope: String

    /// The private records of an identity; nobody else has a way to name them but a person at the CLI.
    package static func own(_ identity: String) -> MemoryPlace {
        precondition(!identity.isEmpty, "an agent without an identity has no memory")
        return MemoryPlace(owner: identity, scope: "self")
    }

    /// A scope that several agents share; who may use it is decided by the grant `memory: SCOPE` before the store is asked.
    package static func shared(_ scope: String) -> MemoryPlace {
        precondition(!scope.isEmpty && scope != "self", "'self' is an agent's own memory, not a shared scope")
        return MemoryPlace(owner: "", scope: scope)
    }

    init(owner: String, scope: String) { (self.owner, self.scope) = (owner, scope) }

    package var description: String { owner.isEmpty ? scope : "\(scope) of \(owner)" }
}
