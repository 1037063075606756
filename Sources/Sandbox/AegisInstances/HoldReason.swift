/// Why an instance must run.
package enum HoldReason: Sendable, Hashable {
    /// A connection to an exposed port of the guest.
    case connection(port: UInt16)
    /// A whole request on an exposed port of the guest.
    case request(port: UInt16)
    case exec, terminal, copy, lease

    /// The guest's port that it came through, if it came through one.
    package var port: UInt16? {
        switch self {
        case .connection(let port), .request(let port): port
        case .exec, .terminal, .copy, .lease: nil
        }
    }

    /// What people call it.
    package var name: String {
        switch self {
        case .connection: "connection"
        case .request: "request"
        case .exec: "exec"
        case .terminal: "terminal"
        case .copy: "copy"
        case .lease: "lease"
        }
    }
}
