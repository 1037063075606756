package import AegisCore

/// Where an address is, as the routes of this host say.
package enum AddressPlace: Sendable, Equatable {
    /// It is one of this host's own.
    case own
    /// On a link of this host's, in this network, whether its addresses are private or public.
    case near(AddressBlock)
    /// Behind a gateway, or nowhere.
    case far
    /// It could not be found out, and why.
    case unknown(String)
}

extension GrantSet {
    /// Why an address must not be connected to that something allowed leads to. Whatever connects for somebody else asks this of
    /// exactly the address that it uses then.
    ///
    /// - Parameters:
    ///   - address: the address.
    ///   - port: the port.
    ///   - tool: the tool that connects; nil is a program.
    ///   - place: where the address is.
    ///   - admitted: what has admitted the connection to this very address, and counts it; nil when it was asked for by name.
    ///   - now: the moment.
    /// - Returns: the reason; nil when it may be connected to.
    package func refusal(
        of address: IPAddress, port: UInt16, by tool: String? = nil, at place: AddressPlace,
        admitted: Capability? = nil, now: Timestamp
    ) -> String? {
        let request = Request(.connect(Destination(address, port: port), tool: tool))
        switch (AddressClass(address), place) {
        case (.forbidden(let what), _): return what
        case (.restricted, _):
            // A name that leads into a private network opens it only to who was let in there by address.
            if admitted == nil, case .deny = evaluate(request, with: self, at: now) { return "private or reserved" }
        case (.open, .near(let network)):
            if admitted.map({ $0.lies(in: network) }) == true { break }
            // As with private addresses, a large block does not mean them: one does that lies in their network.
            let near = GrantSet(grants.filter { $0.terms.capability.lies(in: network) }, protected: protected)
            if case .deny = evaluate(request, with: near, at: now) { return "on a network of this host's own" }
        case (.open, .unknown(let why)): return "not known to be none of this host's neighbours (\(why))"
        case (.open, .own), (.open, .far): break
        }
        return place == .own ? "this host" : nil
    }
}

extension Capability {
    /// Whether it allows connections to addresses of one network alone.
    fileprivate func lies(in network: AddressBlock) -> Bool {
        guard case .network(let pattern) = self, case .block(let block) = pattern.target else { return false }
        return network.contains(block)
    }
}
