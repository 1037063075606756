/// A request target of RFC 9112, section 3.2, taken apart and decoded.
package struct HTTPTarget: Sendable, Equatable {
    /// The four forms.
    package enum Form: Sendable, Equatable {
        case origin, absolute, authority, asterisk
    }

    /// The target as it stands in the request line.
    package let raw: String
    /// Which form it has.
    package let form: Form
    /// Host and optional port of the absolute and authority forms.
    package let authority: String?
    /// The decoded segments of the path: `/` has none, `/a/` has `a` and an empty one.
    ///
    /// A segment may contain `/` (escaped in the target); it is never `.` or `..` and holds no NUL.
    package let path: [String]
    /// The decoded parameters after `?`.
    package let query: HTTPQuery

    /// A target in origin form, from decoded parts.
    package init(path: [String], query: HTTPQuery = HTTPQuery()) {
        var out: [UInt8] = []
        for segment in path {
            out.append(47)
            PercentCoding.append(segment, to: &out)
        }
        if path.isEmpty { out.append(47) }
        if !query.isEmpty {
            out.append(63)
            query.encode(into: &out)
        }
        raw = String(decoding: out, as: UTF8.self)
        form = .origin
        authority = nil
        self.path = path
        self.query = query
    }

    /// Reads a target that is already encoded.
    ///
    /// - Throws: `.malformed` when it is none or has a bad escape, `.tooLarge` when it has too many parameters.
    package init(parsing text: String, method: HTTPMethod = .get, limits: HTTPLimits = HTTPLimits()) throws(HTTPError) {
        try self.init(text.utf8Span.span, method: method, limits: limits)
    }

    /// Reads a target from the bytes of a request line.
    init(_ bytes: Span<UInt8>, method: HTTPMethod, limits: HTTPLimits) throws(HTTPError) {
        // Everything visible but `#`: a fragment is never sent, and a second reading of it could differ.
        for index in bytes.indices where bytes[index] <= 32 || bytes[index] >= 127 || bytes[index] == 35 {
            throw .malformed("the request target has a character that is not allowed")
        }
        guard !bytes.isEmpty else { throw .malformed("the request target is empty") }
        var pathStart = 0
        var authority: String?
        if method == .connect {
            guard Self.isAuthority(bytes), bytes[bytes.count - 1] != ASCII.colon, Self.hasPort(bytes) else {
                throw .malformed("CONNECT needs a host and a port")
            }
            self.init(raw: bytes, form: .authority, authority: String(copying: bytes))
            return
        }
        if bytes.count == 1, bytes[0] == 42 {
            guard method == .options else { throw .malformed("the target * is for OPTIONS only") }
            self.init(raw: bytes, form: .asterisk, authority: nil)
            return
        }
        if bytes[0] != 47 {
            guard let start = Self.schemeLength(bytes) else {
                throw .malformed("the request target is neither a path nor an http URL")
            }
            pathStart = start
            while pathStart < bytes.count, bytes[pathStart] != 47, bytes[pathStart] != 63 { pathStart += 1 }
            let host = bytes.extracting(start..<pathStart)
            guard !host.isEmpty, Self.isAuthority(host) else {
                throw .malformed("the host of the request target is not valid")
            }
            authority = String(copying: host)
        }
        var pathEnd = pathStart
        while pathEnd < bytes.count, bytes[pathEnd] != 63 { pathEnd += 1 }
        let query =
            pathEnd < bytes.count
            ? try HTTPQuery(bytes.extracting((pathEnd + 1)...), limit: limits.queryParameters) : HTTPQuery()
        self.init(
            raw: bytes, form: authority == nil ? .origin : .absolute, authority: authority,
            path: try Self.segments(bytes.extracting(pathStart..<pathEnd)), query: query)
    }

    private init(raw: Span<UInt8>, form: Form, authority: String?, path: [String] = [], query: HTTPQuery = HTTPQuery())
    {
        self.raw = String(copying: raw)
        self.form = form
        self.authority = authority
        self.path = path
        self.query = query
    }

    private static func schemeLength(_ bytes: Span<UInt8>) -> Int? {
        for scheme in ["http://", "https://"] where bytes.count > scheme.utf8.count {
            if ASCII.equal(bytes.extracting(first: scheme.utf8.count), scheme.utf8Span.span) {
                return scheme.utf8.count
            }
        }
        return nil
    }

    private static func segments(_ bytes: Span<UInt8>) throws(HTTPError) -> [String] {
        guard bytes.count > 1 else { return [] }
        var segments: [String] = []
        var start = 1
        for index in 1...bytes.count where index == bytes.count || bytes[index] == 47 {
            let segment = try PercentCoding.decode(bytes.extracting(start..<index), plusIsSpace: false)
            guard segment != "." && segment != ".." else {
                throw .malformed("the path has a '\(segment)' segment")
            }
            segments.append(segment)
            start = index + 1
        }
        return segments
    }

    static func hasPort(_ bytes: Span<UInt8>) -> Bool {
        var index = bytes.count
        while index > 0, ASCII.isDigit(bytes[index - 1]) { index -= 1 }
        return index > 1 && index < bytes.count && bytes[index - 1] == ASCII.colon
    }

    /// Whether bytes are `uri-host [":" port]`: a name, an IPv4 address or an IPv6 address in brackets.
    static func isAuthority(_ bytes: Span<UInt8>) -> Bool {
        var index = 0
        if !bytes.isEmpty, bytes[0] == 91 {
            index = 1
            while index < bytes.count, ASCII.hexValue(bytes[index]) != nil || bytes[index] == 58 || bytes[index] == 46 {
                index += 1
            }
            guard index < bytes.count, index > 1, bytes[index] == 93 else { return false }
            index += 1
        } else {
            while index < bytes.count, bytes[index] != ASCII.colon {
                guard isRegName(bytes[index]) else { return false }
                index += 1
            }
        }
        guard index < bytes.count else { return true }
        guard bytes[index] == ASCII.colon else { return false }
        var port = 0
        for at in (index + 1)..<bytes.count {
            guard ASCII.isDigit(bytes[at]), port < 65536 else { return false }
            port = port * 10 + Int(bytes[at] - 48)
        }
        return port < 65536
    }

    /// `unreserved`, `sub-delims` without the comma (two hosts in one field), and `%`.
    private static func isRegName(_ byte: UInt8) -> Bool {
        if ASCII.isUnreserved(byte) { return true }
        switch byte {
        case 33, 36, 37, 38, 39, 40, 41, 42, 43, 59, 61: return true
        default: return false
        }
    }
}

/// The parameters of a query, decoded, in order.
package struct HTTPQuery: Sendable, Equatable {
    private var items: [Item]

    private struct Item: Sendable, Equatable {
        var name: String
        var value: String
    }

    /// No parameters.
    package init() { items = [] }

    /// Parameters from decoded names and values.
    package init(_ list: [(name: String, value: String)]) { items = list.map { Item(name: $0.name, value: $0.value) } }

    init(_ bytes: Span<UInt8>, limit: Int) throws(HTTPError) {
        items = []
        var start = 0
        for index in 0...bytes.count where index == bytes.count || bytes[index] == 38 {
            defer { start = index + 1 }
            guard start < index else { continue }
            guard items.count < limit else {
                throw HTTPError(.tooLarge, "the query has more than \(limit) parameters", status: 414)
            }
            var equals = start
            while equals < index, bytes[equals] != 61 { equals += 1 }
            let name = try PercentCoding.decode(bytes.extracting(start..<equals), plusIsSpace: true)
            let value =
                equals < index ? try PercentCoding.decode(bytes.extracting(equals + 1..<index), plusIsSpace: true) : ""
            items.append(Item(name: name, value: value))
        }
    }

    /// Whether there is no parameter.
    package var isEmpty: Bool { items.isEmpty }
    /// The names in order, also those that occur twice.
    package var names: [String] { items.map(\.name) }
    /// The value of the first parameter with a name; `""` when it has no `=`; nil when it is absent.
    package func first(_ name: String) -> String? { items.first { $0.name == name }?.value }
    /// The values of all parameters with a name.
    package func all(_ name: String) -> [String] { items.filter { $0.name == name }.map(\.value) }
    /// Adds a parameter at the end.
    package mutating func add(_ name: String, _ value: String) { items.append(Item(name: name, value: value)) }

    func encode(into out: inout [UInt8]) {
        for (index, item) in items.enumerated() {
            if index > 0 { out.append(38) }
            PercentCoding.append(item.name, to: &out)
            out.append(61)
            PercentCoding.append(item.value, to: &out)
        }
    }
}

/// Percent escapes of RFC 3986; strict on the way in.
enum PercentCoding {
    /// Decodes `%XX` (and `+` as a blank in queries).
    ///
    /// - Throws: `.malformed` for a bad escape, a NUL or text that is not UTF-8.
    static func decode(_ bytes: Span<UInt8>, plusIsSpace: Bool) throws(HTTPError) -> String {
        var plain = true
        for index in bytes.indices where bytes[index] == ASCII.percent || (plusIsSpace && bytes[index] == 43) {
            plain = false
            break
        }
        if plain { return String(copying: bytes) }
        var out: [UInt8] = []
        out.reserveCapacity(bytes.count)
        var index = 0
        while index < bytes.count {
            if bytes[index] == ASCII.percent {
                guard index + 2 < bytes.count, let high = ASCII.hexValue(bytes[index + 1]),
                    let low = ASCII.hexValue(bytes[index + 2])
                else { throw .malformed("the request target has a bad percent escape") }
                guard high | low != 0 else { throw .malformed("the request target has an escaped NUL") }
                out.append(high << 4 | low)
                index += 3
            } else {
                out.append(plusIsSpace && bytes[index] == 43 ? ASCII.space : bytes[index])
                index += 1
            }
        }
        guard let text = String(validating: out, as: UTF8.self) else {
            throw .malformed("the request target is not UTF-8 after decoding")
        }
        return text
    }

    /// Appends a text with everything but unreserved characters escaped.
    static func append(_ text: String, to out: inout [UInt8]) {
        for byte in text.utf8 {
            if ASCII.isUnreserved(byte) {
                out.append(byte)
            } else {
                out.append(ASCII.percent)
                out.append(ASCII.hexDigit(byte >> 4, uppercase: true))
                out.append(ASCII.hexDigit(byte & 15, uppercase: true))
            }
        }
    }
}
