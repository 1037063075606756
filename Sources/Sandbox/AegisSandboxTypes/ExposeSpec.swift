package import AegisCore

/// A port of an instance that the host reaches (decision D50):
/// `[ADDR:][PUBLIC:]GUEST[:PROTO][,ui][,wake=connect|http|never][,cooldown=DUR][,wait=DUR][,ready=tcp|/PATH]`.
package struct ExposeSpec: Sendable, Equatable {
    /// What the router speaks on the port.
    package enum PortProtocol: String, Sendable, Codable, CaseIterable { case http, tcp, grpc, ws }
    /// Which connections may wake the instance.
    package enum WakeRule: String, Sendable, Codable, CaseIterable {
        /// Any connection.
        case connect
        /// Only a whole request: a connection that says nothing does not.
        case http
        /// None: the port is served while the instance is awake.
        case never
    }
    /// When the guest is ready for connections.
    package enum Readiness: Sendable, Equatable, CustomStringConvertible {
        /// As soon as it accepts.
        case tcp
        /// As soon as it answers a GET of the path with 2xx or 3xx.
        case http(path: String)

        package var description: String {
            switch self {
            case .tcp: "tcp"
            case .http(let path): path
            }
        }
    }

    /// The most ports that one instance exposes.
    package static let limit = 64
    /// The longest cooldown.
    package static let longestCooldown = TimeSpan.seconds(7 * 86_400)
    /// How long clients may be told to wait for a server.
    package static let waits = TimeSpan.seconds(1)...TimeSpan.seconds(3600)

    /// The host's address; loopback unless told otherwise.
    package var address: HostAddress
    /// The host's port; 0 = any free one, which the instance then keeps.
    package var publicPort: UInt16 = 0
    package var guestPort: UInt16
    package var portProtocol = PortProtocol.http
    /// Whether browsers get the loading page while the instance wakes.
    package var ui = false
    package var wake = WakeRule.connect
    /// The port wakes the instance, or keeps it awake, once in that time at most; nil = always.
    package var cooldown: TimeSpan?
    /// How long a client waits for the server at most; nil = 30 s after a wake, 10 s where the instance runs already.
    package var wait: TimeSpan?
    package var ready = Readiness.tcp

    /// `http` on any free port of 127.0.0.1.
    package init(guestPort: UInt16) {
        address = Self.loopback
        self.guestPort = guestPort
    }

    /// Reads the grammar, strictly.
    ///
    /// - Throws: `invalid-argument` that names the place and the nearest right form.
    package init(parsing text: String) throws(AegisError) {
        var parser = ExposeParser(text)
        self = try parser.parse()
    }

    /// Reads several, which must not be in each other's way.
    ///
    /// - Throws: as for one; the port that comes twice.
    package static func list(_ texts: [String]) throws(AegisError) -> [ExposeSpec] {
        guard texts.count <= limit else {
            throw .usage("\(texts.count) exposed ports are too many", hint: "an instance exposes at most \(limit)")
        }
        var all: [ExposeSpec] = []
        for text in texts {
            let spec = try ExposeSpec(parsing: text)
            if let other = all.first(where: { $0.guestPort == spec.guestPort }) {
                throw .usage(
                    "'\(text)': port \(spec.guestPort) is exposed twice, also by '\(other)'",
                    hint: "one port has one exposure: leave one of them out")
            }
            if let other = all.first(where: { $0.collides(with: spec) }) {
                throw .usage(
                    "'\(text)': public port \(spec.publicPort) is taken by '\(other)'",
                    hint: "give each its own public port, or leave it out for any free one")
            }
            all.append(spec)
        }
        return all
    }

    /// Whether both ask for the same port of the host.
    package func collides(with other: ExposeSpec) -> Bool {
        publicPort != 0 && publicPort == other.publicPort && address.overlaps(other.address)
    }

    static let loopback = HostAddress.loopback
}

extension HostAddress {
    /// 127.0.0.1
    package static let loopback: HostAddress = {
        guard let address = HostAddress("127.0.0.1") else {
            // Cannot happen: the text is an address.
            preconditionFailure("127.0.0.1 is an address")
        }
        return address
    }()
}

extension ExposeSpec: CustomStringConvertible {
    /// The shortest text that reads back to the same value.
    package var description: String {
        var text = ""
        if address != Self.loopback {
            text = "\(address.beforePort):\(publicPort):"
        } else if publicPort != 0 {
            text = "\(publicPort):"
        }
        text += "\(guestPort)"
        if portProtocol != .http { text += ":\(portProtocol.rawValue)" }
        if ui { text += ",ui" }
        if wake != .connect { text += ",wake=\(wake.rawValue)" }
        if let cooldown { text += ",cooldown=\(cooldown)" }
        if let wait { text += ",wait=\(wait)" }
        if ready != .tcp { text += ",ready=\(ready)" }
        return text
    }
}
