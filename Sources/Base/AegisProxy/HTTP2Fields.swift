import AegisIO
import AegisWire
import CNghttp2

/// One header or trailer section of HTTP/2, names in lower case as they travel.
package struct HTTP2Fields: Sendable {
    private(set) var bytes: [UInt8] = []
    private(set) var places: [al_h2_field] = []
    /// More came than the limits allow; what is here is not all.
    private(set) var isTooLarge = false
    private var size = 0

    /// An empty section.
    package init() {}

    /// A section of ours.
    package init(_ fields: KeyValuePairs<String, String>) {
        for (name, value) in fields { add(name, value) }
    }

    /// Whether there is no field.
    package var isEmpty: Bool { places.isEmpty }
    /// How many fields there are.
    package var count: Int { places.count }

    func name(_ index: Int) -> Range<Int> {
        let start = Int(places[index].name)
        return start..<(start + Int(places[index].name_count))
    }

    func value(_ index: Int) -> Range<Int> {
        let start = Int(places[index].value)
        return start..<(start + Int(places[index].value_count))
    }

    /// Takes a field of the peer; counted as RFC 9113, 6.5.2 does.
    mutating func add(
        name: UnsafeBufferPointer<UInt8>, value: UnsafeBufferPointer<UInt8>, neverIndex: Bool, limits: HTTPLimits
    ) {
        size += name.count + value.count + 32
        // The count leaves room for what counts 32 bytes each, and for the four fields in front.
        guard size <= limits.headerSection, places.count < limits.fields + 4 else {
            isTooLarge = true
            return
        }
        let start = bytes.count
        unsafe bytes.append(contentsOf: name)
        unsafe bytes.append(contentsOf: value)
        place(start, name.count, value.count, neverIndex)
    }

    mutating func add(_ name: String, _ value: String) { add(Array(name.utf8), Array(value.utf8)) }

    /// Adds a field at the end.
    ///
    /// - Parameters:
    ///   - name: in lower case.
    ///   - value: what it says.
    ///   - neverIndex: no table of a compressor may remember it (RFC 7541, 7.1.3).
    package mutating func add(_ name: [UInt8], _ value: [UInt8], neverIndex: Bool = false) {
        let start = bytes.count
        bytes.append(contentsOf: name)
        bytes.append(contentsOf: value)
        place(start, name.count, value.count, neverIndex)
    }

    /// A field as its sender wrote it.
    package func field(_ index: Int) -> (name: [UInt8], value: [UInt8], neverIndex: Bool) {
        (Array(bytes[name(index)]), Array(bytes[value(index)]), places[index].never_index != 0)
    }

    private mutating func place(_ start: Int, _ name: Int, _ value: Int, _ neverIndex: Bool) {
        places.append(
            al_h2_field(
                name: UInt32(start), name_count: UInt32(name), value: UInt32(start + name), value_count: UInt32(value),
                never_index: neverIndex ? 1 : 0))
    }

    /// Copies a field of another section.
    mutating func add(_ index: Int, of other: HTTP2Fields) {
        let start = bytes.count
        bytes.append(contentsOf: other.bytes[other.name(index)])
        bytes.append(contentsOf: other.bytes[other.value(index)])
        place(start, other.name(index).count, other.value(index).count, other.places[index].never_index != 0)
    }

    mutating func removeAll() {
        bytes.removeAll(keepingCapacity: true)
        places.removeAll(keepingCapacity: true)
        isTooLarge = false
        size = 0
    }

    /// The value of the first field with that name; nil when there is none.
    package func text(_ name: StaticString) -> String? {
        let bytes = bytes.span
        for index in places.indices where HTTPText.equal(bytes, self.name(index), name) {
            return HTTPText.string(bytes, value(index))
        }
        return nil
    }

    // MARK: Relaying (RFC 9113, 8.2 and 8.3)

    /// The request as it goes on: nothing that belongs to one hop, one authority, and who asked.
    ///
    /// - Parameters:
    ///   - client: who it is.
    ///   - timeout: what is left of a call's time; nil leaves it as it is.
    /// - Returns: the section for the server.
    func request(of client: ProxyClient, timeout: String?) -> HTTP2Fields {
        var out = HTTP2Fields()
        let authority = text(":authority") ?? text("host")
        out.add(":method", text(":method") ?? "")
        out.add(":scheme", "http")
        if let authority { out.add(":authority", authority) }
        out.add(":path", text(":path") ?? "")
        let span = bytes.span
        for index in places.indices {
            let name = name(index)
            if !name.isEmpty, bytes[name.lowerBound] == UInt8(ascii: ":") { continue }
            if timeout != nil, HTTPText.equal(span, name, "grpc-timeout") { continue }
            switch RelayedFields.role(span, name, isRequest: true, tellsClient: true) {
            case .endToEnd, .length, .te, .setCookie: out.add(index, of: self)
            case .dropped, .host, .upgrade: break
            }
        }
        if let timeout { out.add("grpc-timeout", timeout) }
        out.add("x-forwarded-for", client.address)
        out.add("x-real-ip", client.address)
        out.add("x-forwarded-proto", "http")
        if let authority { out.add("x-forwarded-host", authority) }
        return out
    }

    /// The fields behind the pseudo-fields that are for the other end, without `Host`.
    package var endToEnd: HTTP2Fields {
        var out = HTTP2Fields()
        let span = bytes.span
        for index in places.indices {
            let name = name(index)
            if !name.isEmpty, bytes[name.lowerBound] == UInt8(ascii: ":") { continue }
            switch RelayedFields.role(span, name, isRequest: true) {
            case .endToEnd, .length, .te, .setCookie: out.add(index, of: self)
            case .dropped, .host, .upgrade: break
            }
        }
        return out
    }

    /// A response as it goes back.
    var response: HTTP2Fields {
        var out = HTTP2Fields()
        let span = bytes.span
        for index in places.indices {
            switch RelayedFields.role(span, name(index), isRequest: false) {
            case .endToEnd, .length, .te, .setCookie, .host: out.add(index, of: self)
            case .dropped, .upgrade: break
            }
        }
        return out
    }

    /// The trailers that may be passed on.
    var trailers: HTTP2Fields {
        var out = HTTP2Fields()
        for index in places.indices {
            let name = HTTPText.string(bytes.span, name(index))
            if RelayedFields.isTrailer(name) { out.add(index, of: self) }
        }
        return out
    }
}
