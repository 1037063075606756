package import AegisCapabilities
package import AegisCore
package import AegisSandboxTypes

/// What an instance may reach, checked: the grants that its flags mean.
package struct NetworkPolicy: Sendable, Equatable {
    /// The grants, in the order in which they were given; none is a closed network.
    package let grants: [GrantSpec]
    /// Those of them that only brokered secrets ask for: they open what the secrets are bound to, and nothing else there.
    package let implied: [GrantSpec]
    /// How the record calls it.
    package let mode: Mode
    /// The group whose members it reaches.
    package let group: String?

    /// The forms of a network.
    package enum Mode: String, Sendable {
        /// Loopback only.
        case none
        /// The places that are listed.
        case listed
        /// Every public address.
        case allow
    }

    /// The most places that one instance may list.
    private static let most = 256

    /// Reads what a request wants.
    ///
    /// - Parameters:
    ///   - request: the places, the mode and the group.
    ///   - secrets: where brokered secrets may be used.
    /// - Throws: `network-unsupported` for what this release does not have, `invalid-capability` for a place that cannot be
    ///   read, `invalid-argument` for a group that cannot be.
    package init(_ request: NetworkRequest?, secrets: [SecretBinding] = []) throws(AegisError) {
        let wanted = request ?? NetworkRequest()
        let named = ["none", "allow"].contains(wanted.mode) ? nil : wanted.mode
        if let named, let group = wanted.group, named != group {
            throw .usage("two networks are given: '\(named)' and '\(group)'", hint: "an instance has one group")
        }
        group = wanted.group ?? named
        if let group { try GroupNames.validate(group) }
        let places = wanted.allow ?? []
        guard places.count <= Self.most else {
            throw .usage("\(places.count) places are too many", hint: "at most \(Self.most); use *.DOMAIN or a block")
        }
        var grants: [GrantSpec] = []
        for place in places { grants.append(try Self.grant(place)) }
        // A secret that may be used somewhere opens the way there, and that is looked at.
        var implied: [GrantSpec] = []
        for host in Set(secrets.map(\.host.description)).sorted() {
            let grant = try Self.grant("\(host):443,inspect")
            if !grants.contains(grant) { implied.append(grant) }
        }
        self.implied = implied
        grants += implied
        if wanted.mode == "allow" { grants.append(GrantSpec(.network(NetworkPattern(.any)))) }
        mode = wanted.mode == "allow" ? .allow : grants.isEmpty ? .none : .listed
        self.grants = grants
    }

    private static func grant(_ place: String) throws(AegisError) -> GrantSpec {
        let capability: Capability
        do { capability = try Capability(parsing: "network: \(place)") } catch { throw error.asAegisError }
        guard case .network(let pattern) = capability else {
            throw .usage("'\(place)' is not a place in a network", hint: "write --allow HOST[:PORT]")
        }
        guard pattern.tools.isEmpty else {
            throw AegisError(
                .usage, "network-unsupported",
                "'\(place)': ',tools=' is not in this release for a sandbox's own connections",
                hint: "write --allow \(NetworkPattern(pattern.target, port: pattern.port, inspect: pattern.inspect))")
        }
        return GrantSpec(capability)
    }

    /// Whether TLS is looked into somewhere.
    package var inspects: Bool {
        grants.contains { if case .network(let pattern) = $0.capability { pattern.inspect } else { false } }
    }

    /// Whether the instance reaches nobody at all.
    package var isClosed: Bool { grants.isEmpty && group == nil }
    /// The places in their canonical form, as the record shows them.
    package var places: [String] {
        grants.compactMap { spec in
            if case .network(let pattern) = spec.capability { pattern.description } else { nil }
        }
    }
}
