import AegisWire

/// Header fields that a relay sets in the messages of one direction: what the sender said there is dropped.
package final class ProxyFields: Sendable {
    private let names: [[UInt8]]
    /// All of them as they are sent.
    let bytes: [UInt8]

    /// Fields whose names and values are known to be well-formed, and none that the relay writes itself.
    package init(_ fields: [(name: String, value: String)]) {
        names = fields.map { Array($0.name.utf8) }
        bytes = fields.flatMap { Array("\($0.name): \($0.value)\r\n".utf8) }
    }

    /// Whether a field of that name is set. `_` counts as `-`: many servers hand both on as the same variable (RFC 3875).
    func holds(_ bytes: Span<UInt8>, _ name: Range<Int>) -> Bool {
        names.contains { own in
            own.count == name.count
                && own.indices.allSatisfy { Self.folded(own[$0]) == Self.folded(bytes[name.lowerBound + $0]) }
        }
    }

    private static func folded(_ byte: UInt8) -> UInt8 {
        switch byte {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): byte | 32
        case UInt8(ascii: "_"): UInt8(ascii: "-")
        default: byte
        }
    }
}
