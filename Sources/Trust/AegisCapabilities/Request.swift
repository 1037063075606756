/// Where a connection goes to.
package struct Destination: Hashable, Sendable, CustomStringConvertible {
    /// A name, as the egress proxy maps it back from a synthetic address (decision D6), or a literal address.
    package enum Host: Hashable, Sendable {
        case name(HostName)
        case address(IPAddress)
    }
    /// The host.
    package let host: Host
    /// The port.
    package let port: UInt16

    /// A connection to a name.
    package init(_ name: HostName, port: UInt16) {
        host = .name(name)
        self.port = port
    }
    /// A connection to an address.
    package init(_ address: IPAddress, port: UInt16) {
        host = .address(address)
        self.port = port
    }
    /// Takes a host as a client names it; nil when it is neither an address nor a name.
    package init?(host text: String, port: UInt16) {
        let isBracketed = text.hasPrefix("[") && text.hasSuffix("]")
        if let address = IPAddress(isBracketed ? String(text.dropFirst().dropLast()) : text) {
            self.init(address, port: port)
        } else if let name = HostName(text) {
            self.init(name, port: port)
        } else {
            return nil
        }
    }

    package var description: String {
        switch host {
        case .name(let name): "\(name):\(port)"
        case .address(let address): address.isIPv4 ? "\(address):\(port)" : "[\(address)]:\(port)"
        }
    }
}

/// One use of a brokered secret in a request.
package struct SecretUse: Hashable, Sendable {
    /// The secret.
    package var name: String
    /// The host, as its certificate was verified.
    package var host: HostName
    /// The request's path, with or without its query.
    package var path: String
    /// The header that the placeholder stands in.
    package var header: String
    /// The request's method.
    package var method: String

    /// Describes a use.
    package init(name: String, host: HostName, path: String, header: String, method: String) {
        self.name = name
        self.host = host
        self.path = path
        self.header = header
        self.method = method
    }
}

/// What somebody is about to do. Values are canonical by type: what is not cannot be asked.
package enum Action: Hashable, Sendable {
    case tool(String)
    /// The path is the kernel's, of the descriptor that will be used.
    case fileRead(CanonicalPath)
    case fileWrite(CanonicalPath)
    /// `tool` is the tool that connects, nil is the holder's sandbox.
    case connect(Destination, tool: String? = nil)
    /// `program` is argv[0] as it was given; `resolved` is what it was found to be inside, nil where that is only known once it
    /// runs: a bare name that is looked for along PATH.
    case exec(program: String, resolved: CanonicalPath?)
    case spawn(agent: String)
    case model(String)
    case memory(scope: String)
    case message(to: String)
    case secret(SecretUse)

    /// The family of capabilities that can allow it.
    package var kind: CapabilityKind {
        switch self {
        case .tool: .tool
        case .fileRead: .fileRead
        case .fileWrite: .fileWrite
        case .connect: .network
        case .exec: .exec
        case .spawn: .spawn
        case .model: .model
        case .memory: .memory
        case .message: .message
        case .secret: .secret
        }
    }
}

extension Action: CustomStringConvertible {
    /// What is done, as in `network: example.com:443`; control characters are escaped.
    package var description: String {
        let resource =
            switch self {
            case .tool(let name), .spawn(let name), .model(let name), .memory(let name), .message(let name): name
            case .fileRead(let path), .fileWrite(let path): path.description
            case .connect(let destination, let tool): destination.description + (tool.map { " by \($0)" } ?? "")
            case .exec(let program, let resolved):
                resolved.map { program == $0.description ? program : "\(program) (\($0))" } ?? program
            case .secret(let use): "\(use.name)@\(use.host)\(use.path) in \(use.header), \(use.method)"
            }
        return "\(kind.rawValue): \(shown(resource))"
    }
}

/// An action with what it may use up.
package struct Request: Hashable, Sendable {
    /// What is to be done.
    package var action: Action
    /// What it needs at least, beside one call.
    package var needs: Amounts
    /// What it would take if there is so much left; at least `needs`.
    package var wants: Amounts

    /// Makes a request.
    ///
    /// - Parameters:
    ///   - action: what is to be done.
    ///   - needs: refused when there is less left (for a model: the counted input).
    ///   - wants: reserved as far as there is so much left (for a model: input and maximum output).
    package init(_ action: Action, needs: Amounts = Amounts(), wants: Amounts? = nil) {
        self.action = action
        self.needs = needs
        self.wants = wants.map { $0.atLeast(needs) } ?? needs
    }
}
