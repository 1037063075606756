internal import AegisCore

/// Reads one exposed port, and says of what it cannot read where it stands and how it is written.
struct ExposeParser {
    private static let form = "write [ADDR:][PUBLIC:]GUEST[:http|tcp|grpc|ws][,ui], for example 8080:80:http"
    private static let optionNames = ["ui", "wake", "cooldown", "wait", "ready"]

    private let text: String
    private var given: Set<String> = []

    init(_ text: String) { self.text = text }

    mutating func parse() throws(AegisError) -> ExposeSpec {
        try refuseForeignForms()
        let words = text.split(separator: ",", omittingEmptySubsequences: false)
        var spec = try ports(words[0])
        for word in words.dropFirst() { try apply(word, to: &spec) }
        try checkTogether(spec)
        return spec
    }

    /// The error for a part: what is wrong with it, and where it is.
    private func bad(_ part: Substring, _ what: String, _ hint: String? = nil) -> AegisError {
        let column = text.distance(from: text.startIndex, to: part.startIndex) + 1
        return .usage("'\(text)', character \(column): \(what)", hint: hint ?? Self.form)
    }

    // MARK: Other tools' forms

    private func refuseForeignForms() throws(AegisError) {
        guard text.utf8.count <= 2048 else {
            throw .usage("an exposed port is longer than 2048 bytes", hint: Self.form)
        }
        if let space = text.firstIndex(where: { $0.isWhitespace || !$0.isASCII || ($0.asciiValue ?? 0) < 32 }) {
            let rest = String(text.filter { !$0.isWhitespace })
            let isSpelled = rest != text && (try? ExposeSpec(parsing: rest)) != nil
            throw bad(
                text[space...].prefix(1), "a character that does not belong there",
                isSpelled ? "write \(rest)" : nil)
        }
        let ports = text.prefix { $0 != "," }
        guard let slash = ports.firstIndex(of: "/") else { return }
        if let scheme = ports.firstRange(of: "://") {
            throw bad(ports[scheme.lowerBound...], "an exposed port is not a URL")
        }
        let name = ports[ports.index(after: slash)...].lowercased()
        guard name != "udp" else {
            throw bad(ports[slash...], "UDP is not relayed", "only TCP is: \(ports[..<slash]):tcp")
        }
        let known = ExposeSpec.PortProtocol(rawValue: name) != nil
        throw bad(
            ports[slash...], "the protocol follows a colon, not a slash",
            "write \(ports[..<slash]):\(known ? name : "tcp")\(text[ports.endIndex...])")
    }

    // MARK: Addresses and ports

    private func ports(_ word: Substring) throws(AegisError) -> ExposeSpec {
        guard !word.isEmpty else { throw bad(word, "a port is missing") }
        var (address, rest) = try bracketed(word)
        var parts = rest.split(separator: ":", omittingEmptySubsequences: false)
        if address == nil, parts.count > 4 {
            throw bad(word, "too many parts", "IPv6 addresses stand in brackets: [::1]:8080:80")
        }
        var proto = ExposeSpec.PortProtocol.http
        if parts.count > 1, let last = parts.last, !last.isEmpty, !Self.isNumber(last), !Self.isRange(last) {
            proto = try self.proto(last)
            parts.removeLast()
        }
        if parts.count == 3, address == nil {
            guard let read = HostAddress(String(parts[0])) else {
                throw bad(
                    parts[0], "'\(parts[0])' is not a numeric address",
                    parts[0].lowercased() == "localhost"
                        ? "write 127.0.0.1:\(parts[1]):\(parts[2])"
                        : "for example 0.0.0.0:\(parts[1]):\(parts[2]), or [::1]:\(parts[1]):\(parts[2])")
            }
            address = read
            parts.removeFirst()
        }
        guard parts.count <= 2 else { throw bad(word, "too many parts") }
        if parts.count == 1, let only = parts.first, HostAddress(String(only)) != nil {
            throw bad(only, "a port is missing after the address", "write \(only):8080:80")
        }
        if address != nil, parts.count == 1 {
            throw bad(parts[0], "an address needs a public and a guest port", "write 0 for any free public port")
        }
        var spec = ExposeSpec(guestPort: try port(parts[parts.count - 1], what: "guest", lowest: 1))
        if parts.count == 2 { spec.publicPort = try port(parts[0], what: "public", lowest: 0) }
        spec.address = address ?? .loopback
        spec.portProtocol = proto
        return spec
    }

    private func bracketed(_ word: Substring) throws(AegisError) -> (HostAddress?, Substring) {
        guard word.hasPrefix("[") else { return (nil, word) }
        guard let close = word.firstIndex(of: "]") else {
            throw bad(word, "a bracket is not closed", "for example [::1]:8080:80")
        }
        let inside = word[word.index(after: word.startIndex)..<close]
        guard let address = HostAddress(String(inside)), address.isIPv6 else {
            throw bad(
                inside, "'\(inside)' is not an IPv6 address",
                HostAddress(String(inside)) == nil ? "for example [::1]:8080:80" : "IPv4 stands without brackets")
        }
        let after = word[word.index(after: close)...]
        guard after.hasPrefix(":") else { throw bad(after, "a colon and ports are missing after the bracket") }
        return (address, after.dropFirst())
    }

    private func proto(_ part: Substring) throws(AegisError) -> ExposeSpec.PortProtocol {
        if let known = ExposeSpec.PortProtocol(rawValue: String(part)) { return known }
        let before = text[..<part.startIndex]
        if let name = Self.optionNames.first(where: { part == $0 || part.hasPrefix("\($0)=") }) {
            throw bad(part, "'\(name)' follows a comma, not a colon", "write \(before.dropLast()),\(part)")
        }
        let near = nearest(part.lowercased(), in: ExposeSpec.PortProtocol.allCases.map(\.rawValue))
        throw bad(
            part, "'\(part)' is not a protocol",
            near.map { "did you mean '\(before)\($0)'?" } ?? "protocols: http, tcp, grpc, ws")
    }

    private static func isNumber(_ part: Substring) -> Bool { part.allSatisfy { $0.isASCII && $0.isNumber } }

    private static func isRange(_ part: Substring) -> Bool {
        let ends = part.split(separator: "-", omittingEmptySubsequences: false)
        return ends.count == 2 && ends.allSatisfy { !$0.isEmpty && isNumber($0) }
    }

    private func port(_ part: Substring, what: String, lowest: UInt16) throws(AegisError) -> UInt16 {
        guard !part.isEmpty else { throw bad(part, "the \(what) port is missing") }
        guard !Self.isRange(part) else {
            throw bad(part, "'\(part)' is a range of ports", "expose each port of it by its own --expose")
        }
        guard Self.isNumber(part) else { throw bad(part, "'\(part)' is not a number of a port") }
        guard part.count == 1 || part.first != "0" else {
            throw bad(part, "'\(part)' has a leading zero", "write \(part.drop { $0 == "0" })")
        }
        guard let port = UInt16(part), port >= lowest else {
            throw bad(part, "'\(part)' is not a \(what) port", "\(what) ports are \(lowest) to 65535")
        }
        return port
    }

    // MARK: Options

    private mutating func apply(_ word: Substring, to spec: inout ExposeSpec) throws(AegisError) {
        let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        let name = String(parts[0])
        guard !word.isEmpty else { throw bad(word, "an option is missing after the comma") }
        guard Self.optionNames.contains(name) else { throw unknown(word, name) }
        guard given.insert(name).inserted else { throw bad(word, "'\(name)' is given twice", "leave one of them out") }
        guard name != "ui" else {
            guard parts.count == 1 else { throw bad(word, "'ui' takes no value", "write ui, or leave it out") }
            spec.ui = true
            return
        }
        guard parts.count == 2, let value = parts.last, !value.isEmpty else {
            throw bad(word, "'\(name)' needs a value", Self.example(name))
        }
        try set(name, value, in: &spec)
    }

    private func set(_ name: String, _ value: Substring, in spec: inout ExposeSpec) throws(AegisError) {
        switch name {
        case "wake":
            // `http-only` is the specification's word for it.
            let word = value == "http-only" ? "http" : String(value)
            guard let rule = ExposeSpec.WakeRule(rawValue: word) else {
                let near = nearest(value.lowercased(), in: ExposeSpec.WakeRule.allCases.map(\.rawValue))
                throw bad(
                    value, "'\(value)' is not a wake rule",
                    (near.map { "did you mean 'wake=\($0)'? " } ?? "") + Self.example(name))
            }
            spec.wake = rule
        case "cooldown":
            guard let span = try? TimeSpan(parsing: String(value)), span.milliseconds > 0,
                span <= ExposeSpec.longestCooldown
            else {
                throw bad(value, "'\(value)' is not a length of time up to 7d", Self.example(name))
            }
            spec.cooldown = span
        case "wait":
            guard let span = try? TimeSpan(parsing: String(value)), ExposeSpec.waits.contains(span) else {
                throw bad(value, "'\(value)' is not a length of time from 1s to 1h", Self.example(name))
            }
            spec.wait = span
        default:
            guard value != "tcp" else { return }
            guard value.hasPrefix("/"), value.utf8.allSatisfy({ (33...126).contains($0) }), !value.contains("#") else {
                throw bad(value, "'\(value)' is neither tcp nor a path", Self.example(name))
            }
            spec.ready = .http(path: String(value))
        }
    }

    private func unknown(_ word: Substring, _ name: String) -> AegisError {
        if ExposeSpec.PortProtocol(rawValue: name.lowercased()) != nil {
            return bad(
                word, "the protocol follows a colon, not a comma",
                "write \(text.prefix { $0 != "," }):\(name.lowercased())")
        }
        let near = nearest(name.lowercased(), in: Self.optionNames)
        return bad(
            word, "'\(word)' is not an option of an exposed port",
            near.map { "did you mean '\($0)'?" } ?? "options: ui, wake=RULE, cooldown=TIME, wait=TIME, ready=tcp|/PATH")
    }

    private static func example(_ name: String) -> String {
        switch name {
        case "wake": "use wake=connect, wake=http or wake=never"
        case "cooldown": "for example cooldown=10m"
        case "wait": "for example wait=90s"
        default: "write ready=tcp or ready=/health"
        }
    }

    /// What cannot be said of one protocol.
    private func checkTogether(_ spec: ExposeSpec) throws(AegisError) {
        let proto = spec.portProtocol
        if spec.ui, proto != .http {
            throw .usage("'\(text)': only http ports have a loading page", hint: "leave ui out, or expose it as http")
        }
        if spec.wake == .http, proto == .tcp {
            throw .usage(
                "'\(text)': a tcp port has no requests that could wake the instance",
                hint: "use wake=connect or wake=never, or expose it as http")
        }
        if case .http = spec.ready, proto == .tcp || proto == .grpc {
            throw .usage(
                "'\(text)': a \(proto.rawValue) port is not asked over HTTP whether it is ready", hint: "use ready=tcp")
        }
    }
}
