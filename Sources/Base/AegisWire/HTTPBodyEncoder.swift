/// Turns the bytes of a body into what goes onto the wire.
struct HTTPBodyEncoder: Sendable {
    private let coding: HTTPBodyCoding
    private var left: Int

    /// Chunks up to this size are copied behind their size line, so that each is one write.
    private static var joined: Int { 64 << 10 }

    init(_ coding: HTTPBodyCoding) {
        self.coding = coding
        left = if case .length(let count) = coding { count } else { 0 }
    }

    /// The pieces to write for some bytes of the body.
    ///
    /// - Throws: `.misuse` for more than was announced.
    mutating func encode(_ bytes: ArraySlice<UInt8>) throws(HTTPError) -> [ArraySlice<UInt8>] {
        // An empty chunk would be the end of the body.
        guard !bytes.isEmpty else { return [] }
        switch coding {
        case .none: return []
        case .untilClose: return [bytes]
        case .length:
            guard bytes.count <= left else {
                throw HTTPError(.misuse, "the body has \(bytes.count - left) bytes more than announced")
            }
            left -= bytes.count
            return [bytes]
        case .chunked:
            var out: [UInt8] = []
            if bytes.count <= Self.joined { out.reserveCapacity(bytes.count + 16) }
            ASCII.append(hex: bytes.count, to: &out)
            out.append(ASCII.carriageReturn)
            out.append(ASCII.lineFeed)
            guard bytes.count <= Self.joined else {
                return [out[...], bytes, [ASCII.carriageReturn, ASCII.lineFeed]]
            }
            out.append(contentsOf: bytes)
            out.append(ASCII.carriageReturn)
            out.append(ASCII.lineFeed)
            return [out[...]]
        }
    }

    /// What ends the body.
    ///
    /// - Throws: `.misuse` for less than was announced, or trailers that cannot be sent.
    func end(_ trailers: HTTPHeaders) throws(HTTPError) -> [UInt8] {
        if case .length = coding, left > 0 {
            throw HTTPError(.misuse, "the body has \(left) bytes less than announced")
        }
        guard coding == .chunked else { return [] }
        if let name = trailers.invalidField { throw HTTPError(.misuse, "trailer '\(name)' cannot be sent") }
        var out = Array("0\r\n".utf8)
        trailers.encode(into: &out)
        out.append(ASCII.carriageReturn)
        out.append(ASCII.lineFeed)
        return out
    }
}
