package import AegisCore
internal import AegisNetwork
package import AegisSandboxTypes

/// The network groups that instances make and end.
extension InstanceDirectory {
    /// The groups of a user, by name; root sees all.
    package func groups(for caller: Caller) -> [NetworkGroup] {
        services.network.groups.filter { caller.maySee(owner: $0.owner) }
    }

    /// One of them; the caller's own comes before those of others.
    ///
    /// - Throws: `group-not-found`; `group-ambiguous` when root means one that several users have.
    package func group(_ name: String, for caller: Caller) throws(AegisError) -> NetworkGroup {
        let known = groups(for: caller)
        let found = known.filter { $0.name == name }
        if let own = found.first(where: { $0.owner == caller.uid }) { return own }
        guard found.count < 2 else {
            throw .conflict(
                "group-ambiguous", "\(found.count) users have a group '\(name)'",
                hint: "'aegis group list --output json' shows them all")
        }
        guard let only = found.first else {
            throw .notFound(
                "group-not-found", "no running instance is in a group '\(name)'",
                hint: nearest(name, in: known.map(\.name)).map { "did you mean '\($0)'?" } ?? "see 'aegis group list'")
        }
        return only
    }
}
