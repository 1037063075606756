/// A tree inside a type that is `Codable`, such as the input of a tool call.
///
/// Through our own coders (`JSONValue(encoding:)`, `decode`) it passes unchanged: order of fields and spelling of numbers stay.
extension JSONValue: Codable {
    package func encode(to encoder: any Encoder) throws {
        if let tree = encoder as? JSONTreeEncoder { return tree.set(self) }
        switch self {
        case .array(let elements):
            var list = encoder.unkeyedContainer()
            for element in elements { try list.encode(element) }
        case .object(let fields):
            var object = encoder.container(keyedBy: JSONNameKey.self)
            for field in fields { try object.encode(field.value, forKey: JSONNameKey(field.name)) }
        case .null, .bool, .string, .number:
            var single = encoder.singleValueContainer()
            try encodeLeaf(into: &single)
        }
    }

    private func encodeLeaf(into container: inout any SingleValueEncodingContainer) throws {
        switch self {
        case .bool(let flag): try container.encode(flag)
        case .string(let text): try container.encode(text)
        case .number(let text):
            if let whole = Int64(text) { return try container.encode(whole) }
            guard let double else {
                throw EncodingError.invalidValue(
                    text, EncodingError.Context(codingPath: container.codingPath, debugDescription: "beyond a double"))
            }
            try container.encode(double)
        case .null, .array, .object: try container.encodeNil()
        }
    }

    package init(from decoder: any Decoder) throws {
        if let tree = decoder as? JSONTreeDecoder {
            self = tree.value
        } else if let object = try? decoder.container(keyedBy: JSONNameKey.self) {
            self = .object(
                try object.allKeys.map { Field($0.stringValue, try object.decode(JSONValue.self, forKey: $0)) })
        } else if var list = try? decoder.unkeyedContainer() {
            var elements: [JSONValue] = []
            while !list.isAtEnd { elements.append(try list.decode(JSONValue.self)) }
            self = .array(elements)
        } else {
            self = try Self.leaf(of: decoder.singleValueContainer())
        }
    }

    private static func leaf(of container: any SingleValueDecodingContainer) throws -> JSONValue {
        if container.decodeNil() { return .null }
        if let flag = try? container.decode(Bool.self) { return .bool(flag) }
        if let whole = try? container.decode(Int64.self) { return .number(whole) }
        if let number = try? container.decode(Double.self) { return .number("\(number)") }
        return .string(try container.decode(String.self))
    }
}

/// A field's name as a key, whatever it is.
private struct JSONNameKey: CodingKey {
    let stringValue: String
    var intValue: Int? { nil }
    init(_ name: String) { stringValue = name }
    init?(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
}
