package import AegisCore

/// A port of an instance that the host reaches (decision D50).
package struct ExposeSpec: Sendable, Equatable {
    /// What the router speaks on the port.
    package enum PortProtocol: String, Sendable, Codable, CaseIterable { case http, tcp, grpc, ws }
    /// Which connections may wake the instance.
    package enum WakeRule: String, Sendable, Codable, CaseIterable { case connect, http, never }
    /// When the guest is ready for connections.
    package enum Readiness: Sendable, Equatable { case tcp, http(path: String) }

    /// The host's address, without brackets.
    package var address = "127.0.0.1"
    /// The host's port; 0 = any free one.
    package var publicPort: UInt16 = 0
    package var guestPort: UInt16
    package var portProtocol = PortProtocol.http
    /// Whether browsers get the loading page while the instance wakes.
    package var ui = false
    package var wake = WakeRule.connect
    package var cooldown: TimeSpan?
    package var ready = Readiness.tcp

    private static let form = "write [ADDR:][PUBLIC:]GUEST[:http|tcp|grpc|ws][,ui], for example 8080:80:http"

    /// Reads `[ADDR:][PUBLIC:]GUEST[:PROTO][,ui][,wake=R][,cooldown=D][,ready=tcp|/PATH]`.
    ///
    /// - Throws: `invalid-argument` with the right spelling.
    package init(parsing text: String) throws(AegisError) {
        var options = text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        var port = options.removeFirst()
        if let slash = port.firstIndex(of: "/") {
            let proto = port[port.index(after: slash)...]
            throw .usage(
                "'\(text)' uses a slash", hint: "write \(port[..<slash]):\(proto.isEmpty ? "tcp" : String(proto))")
        }
        var address: String?
        if port.hasPrefix("[") {
            guard let close = port.firstIndex(of: "]"), port[port.index(after: close)...].hasPrefix(":") else {
                throw .usage("'\(text)' has an unclosed bracket", hint: Self.form)
            }
            address = String(port[port.index(after: port.startIndex)..<close])
            port = String(port[close...].dropFirst(2))
        }
        var parts = port.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        var proto = PortProtocol.http
        if let last = parts.last, !last.isEmpty, last.contains(where: { !$0.isNumber }) {
            guard let known = PortProtocol(rawValue: last) else {
                let near = nearest(last, in: PortProtocol.allCases.map(\.rawValue))
                throw .usage(
                    "'\(last)' is not a protocol in '\(text)'", hint: near.map { "did you mean '\($0)'?" } ?? Self.form)
            }
            proto = known
            parts.removeLast()
        }
        if parts.count == 3, address == nil { address = parts.removeFirst() }
        guard (1...2).contains(parts.count) else { throw .usage("'\(text)' is not a port to expose", hint: Self.form) }
        guestPort = try Self.port(parts[parts.count - 1], in: text, allowZero: false)
        if parts.count == 2 { publicPort = try Self.port(parts[0], in: text, allowZero: true) }
        if let address {
            guard !address.isEmpty, address.allSatisfy({ $0.isHexDigit || $0 == "." || $0 == ":" }) else {
                throw .usage("'\(address)' is not an address in '\(text)'", hint: Self.form)
            }
            self.address = address
        }
        portProtocol = proto
        for option in options { try apply(option, in: text) }
    }

    private static func port(_ text: String, in whole: String, allowZero: Bool) throws(AegisError) -> UInt16 {
        guard let port = UInt16(text), allowZero || port != 0 else {
            throw .usage(
                "'\(text)' is not a port in '\(whole)'", hint: "ports are \(allowZero ? 0 : 1) to 65535; \(form)")
        }
        return port
    }

    private mutating func apply(_ option: String, in text: String) throws(AegisError) {
        let parts = option.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        switch (parts[0], parts.count == 2 ? parts[1] : nil) {
        case ("ui", nil): ui = true
        case ("wake", let value?):
            guard let rule = WakeRule(rawValue: value) else {
                throw .usage(
                    "'\(value)' is not a wake rule in '\(text)'", hint: "use wake=connect, wake=http or wake=never")
            }
            wake = rule
        case ("cooldown", let value?): cooldown = try TimeSpan(parsing: value)
        case ("ready", "tcp"?): ready = .tcp
        case ("ready", let path?) where path.hasPrefix("/"): ready = .http(path: path)
        default:
            let near = nearest(parts[0], in: ["ui", "wake", "cooldown", "ready"])
            throw .usage(
                "'\(option)' is not an option of an exposed port in '\(text)'",
                hint: near.map { "did you mean '\($0)'?" } ?? "options: ui, wake=R, cooldown=D, ready=tcp|/PATH")
        }
    }
}
