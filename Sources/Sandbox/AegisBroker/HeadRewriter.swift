import AegisCapabilities
import AegisIO
import AegisProxy
import AegisSecrets
import AegisWire

/// Writes a request's head anew: secrets in their places, and without what would hide the response from us.
struct HeadRewriter {
    /// The secrets; nil when the instance has none.
    let secrets: BrokeredSecrets?
    let host: HostName
    let method: String
    /// As it was sent, with its query.
    let path: String
    /// The names of the secrets that were put in.
    private(set) var used: [String] = []

    init(_ secrets: BrokeredSecrets?, host: HostName, method: String, path: String) {
        self.secrets = secrets
        self.host = host
        self.method = method
        self.path = path
    }

    /// The new head with its empty line.
    ///
    /// - Parameters:
    ///   - index: where the parts of the head are.
    ///   - bytes: begin with the head.
    /// - Returns: another head of the same request.
    /// - Throws: when a placeholder stands where it may not.
    mutating func rewrite(_ index: HTTPRequestIndex, _ bytes: [UInt8]) throws(BrokerRefusal) -> [UInt8] {
        let table = index.table
        let fieldsStart = table.count > 0 ? table.name(0).lowerBound : table.end
        let line = bytes[index.method.lowerBound..<fieldsStart]
        if let secrets, secrets.hasPlaceholder(line) { throw .misplaced("in the request's target") }
        var out = Array(line)
        out.reserveCapacity(bytes.count + 256)
        for field in 0..<table.count {
            let name = String(decoding: bytes[table.name(field)], as: UTF8.self).lowercased()
            switch try decide(name, Array(bytes[table.value(field)]), line: bytes[table.line(field)]) {
            case .dropped: break
            case .kept: out += bytes[table.line(field)]
            case .replaced(let value):
                out += bytes[table.name(field)]
                out += [0x3a, 0x20]
                out += value
                out += [0x0d, 0x0a]
            }
        }
        // What is encoded cannot be looked through on its way back.
        if secrets != nil { out += Array("Accept-Encoding: identity\r\n".utf8) }
        return out + [0x0d, 0x0a]
    }

    /// The new header section of a request of HTTP/2.
    ///
    /// - Parameter request: as it was sent.
    /// - Returns: what goes to the server.
    /// - Throws: when a placeholder stands where it may not.
    mutating func rewrite(_ request: HTTP2Fields) throws(BrokerRefusal) -> HTTP2Fields {
        let authority = request.text(":authority") ?? request.text("host") ?? ""
        if let secrets, secrets.hasPlaceholder(Array("\(method) \(path)\r\n\(authority)".utf8)[...]) {
            throw .misplaced("in the request's target")
        }
        var out = HTTP2Fields([
            ":method": method, ":scheme": "https", ":authority": authority, ":path": request.text(":path") ?? path,
        ])
        let fields = request.endToEnd
        for index in 0..<fields.count {
            let field = fields.field(index)
            let name = String(decoding: field.name, as: UTF8.self)
            switch try decide(name, field.value, line: (field.name + [0x3a, 0x20] + field.value)[...]) {
            case .dropped: break
            case .kept: out.add(field.name, field.value, neverIndex: field.neverIndex)
            // No table on the way may remember it, nor tell by its size what was in it.
            case .replaced(let value): out.add(field.name, value, neverIndex: true)
            }
        }
        if secrets != nil { out.add(Array("accept-encoding".utf8), Array("identity".utf8)) }
        return out
    }

    /// What becomes of a field.
    private enum Decision {
        case dropped
        case kept
        /// Its value is another one.
        case replaced([UInt8])
    }

    private mutating func decide(
        _ name: String, _ value: [UInt8], line: ArraySlice<UInt8>
    ) throws(BrokerRefusal) -> Decision {
        guard keeps(name, value) else { return .dropped }
        guard let secrets else { return .kept }
        guard secrets.isCredential(name) else {
            if secrets.hasPlaceholder(line) { throw .misplaced("in the header '\(plain(name))'") }
            return .kept
        }
        return .replaced(try credential(name, value, secrets))
    }

    /// Whether a field goes on.
    private func keeps(_ name: String, _ value: [UInt8]) -> Bool {
        switch name {
        case "accept-encoding", "grpc-accept-encoding", "sec-websocket-extensions": secrets == nil
        // Inside another protocol requests could come that nobody has looked at.
        case "upgrade": String(decoding: value, as: UTF8.self).lowercased() == "websocket"
        default: true
        }
    }

    private mutating func credential(
        _ name: String, _ value: [UInt8], _ secrets: BrokeredSecrets
    ) throws(BrokerRefusal) -> [UInt8] {
        let use = SecretUse(name: "", host: host, path: path, header: name, method: method)
        guard name == "authorization", let blank = value.firstIndex(of: 0x20) else {
            return try secrets.replaced(in: value, use, needsHeader: name == "authorization", &used)
        }
        let scheme = String(decoding: value[..<blank], as: UTF8.self).lowercased()
        let rest = Array(value[blank...].drop { $0 == 0x20 })
        switch scheme {
        case "bearer":
            return Array(value[...blank]) + (try secrets.replaced(in: rest, use, needsHeader: false, &used))
        case "basic":
            guard let decoded = Base64.decode(rest) else { fallthrough }
            let replaced = try secrets.replaced(in: decoded, use, needsHeader: false, &used)
            return replaced == decoded ? value : Array(value[...blank]) + Base64.encode(replaced)
        default:
            return try secrets.replaced(in: value, use, needsHeader: true, &used)
        }
    }
}
