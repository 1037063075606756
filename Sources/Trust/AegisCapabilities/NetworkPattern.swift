/// Where a grant lets connections go to: `HOST`, `*.DOMAIN`, a block of addresses or `*`, each with an optional port.
package struct NetworkPattern: Hashable, Sendable, CustomStringConvertible {
    /// The hosts that are meant.
    package enum Target: Hashable, Sendable {
        /// Every name, and every public address.
        case any
        /// This name only.
        case host(HostName)
        /// Every name below this one, at any depth, but not the name itself.
        case subdomains(HostName)
        /// The addresses of a block (see `AddressClass` for those that a block does not reach).
        case block(AddressBlock)
    }

    /// The hosts.
    package let target: Target
    /// The only port; nil is any.
    package let port: UInt16?
    /// Whether the egress proxy must look into TLS (decision D6).
    package let inspect: Bool
    /// The only tools that may use it, in order; empty is whoever holds the grant, its sandbox included.
    package let tools: [String]

    /// Makes a pattern.
    package init(_ target: Target, port: UInt16? = nil, inspect: Bool = false, tools: Set<String> = []) {
        self.target = target
        self.port = port
        self.inspect = inspect
        self.tools = tools.sorted()
    }

    /// What the bare word `web_search` means (decision D13).
    package static let webSearch = NetworkPattern(.any, tools: ["web_fetch", "web_search"])

    /// Whether a connection is one of those that are meant; `tool` is the tool that makes it, nil for the sandbox itself.
    package func matches(_ destination: Destination, tool: String?) -> Bool {
        guard port == nil || port == destination.port, reaches(destination.host) else { return false }
        guard !tools.isEmpty else { return true }
        return tool.map(tools.contains) ?? false
    }

    /// Whether a host is one of those that are meant.
    func reaches(_ host: Destination.Host) -> Bool {
        switch host {
        case .name(let name):
            guard !name.isLocalhost else { return false }
            return switch target {
            case .any: true
            case .host(let own): own == name
            case .subdomains(let domain): name.isBelow(domain)
            case .block: false
            }
        case .address(let address):
            switch (AddressClass(address), target) {
            case (.open, .any): return true
            case (.open, .block(let block)): return block.contains(address)
            case (.restricted, .block(let block)): return block.contains(address) && AddressClass.isRestricted(block)
            default: return false
            }
        }
    }

    /// Whether everything that the other pattern means is meant by this one too.
    package func covers(_ other: NetworkPattern) -> Bool {
        guard port == nil || port == other.port, !inspect || other.inspect else { return false }
        guard tools.isEmpty || (!other.tools.isEmpty && other.tools.allSatisfy(tools.contains)) else { return false }
        switch (target, other.target) {
        case (.any, .block(let block)): return !AddressClass.isRestricted(block)
        case (.any, _): return true
        case (.host(let own), .host(let name)): return own == name
        case (.subdomains(let own), .host(let name)): return name.isBelow(own)
        case (.subdomains(let own), .subdomains(let domain)): return own == domain || domain.isBelow(own)
        case (.block(let own), .block(let block)):
            return own.contains(block) && (AddressClass.isRestricted(own) || !AddressClass.isRestricted(block))
        default: return false
        }
    }

    /// How narrow it is: of several grants that fit, the narrowest answers.
    var rank: Int {
        let host =
            switch target {
            case .any: 0
            case .block(let block): 1 + block.bits
            case .subdomains(let domain): 200 + domain.labelCount
            case .host: 400
            }
        return host * 8 + (port == nil ? 0 : 4) + (tools.isEmpty ? 0 : 2) + (inspect ? 1 : 0)
    }

    /// The canonical text.
    package var description: String {
        let suffix = port.map { ":\($0)" } ?? ""
        let text =
            switch target {
            case .any: "*" + suffix
            case .host(let name): name.description + suffix
            case .subdomains(let domain): "*.\(domain)" + suffix
            case .block(let block) where !block.base.isIPv4 && port != nil: "[\(block)]" + suffix
            case .block(let block): block.description + suffix
            }
        return text + (inspect ? ",inspect" : "") + (tools.isEmpty ? "" : ",tools=" + tools.joined(separator: "+"))
    }
}
