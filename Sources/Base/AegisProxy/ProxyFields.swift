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

    /// Whether a field of that name is set.
    func holds(_ bytes: Span<UInt8>, _ name: Range<Int>) -> Bool {
        names.contains { HTTPText.equal(bytes, name, to: $0.span) }
    }
}
