extension JSONValue {
    /// Makes the tree of a value; fields that are nil are left out, the rest come in the type's own order.
    ///
    /// - Throws: what the type's `encode` throws.
    package init(encoding value: some Encodable) throws {
        let box = JSONBox()
        try value.encode(to: JSONTreeEncoder(box: box, codingPath: []))
        self = box.value
    }
}

/// A node under construction; containers share it with the encoder that made them.
final class JSONBox {
    enum Node { case leaf(JSONValue), list([JSONBox]), object([(String, JSONBox)]) }
    var node = Node.leaf(.null)

    var value: JSONValue {
        switch node {
        case .leaf(let value): value
        case .list(let boxes): .array(boxes.map(\.value))
        case .object(let fields): .object(fields.map { JSONValue.Field($0.0, $0.1.value) })
        }
    }
    func child(_ name: String) -> JSONBox {
        let child = JSONBox()
        if case .object(var fields) = node {
            node = .leaf(.null)
            fields.append((name, child))
            node = .object(fields)
        } else {
            node = .object([(name, child)])
        }
        return child
    }
    func element() -> JSONBox {
        let child = JSONBox()
        if case .list(let boxes) = node { node = .list(boxes + [child]) } else { node = .list([child]) }
        return child
    }
}

struct JSONTreeEncoder: Encoder {
    let box: JSONBox
    let codingPath: [any CodingKey]
    var userInfo: [CodingUserInfoKey: Any] { [:] }

    func container<Key: CodingKey>(keyedBy type: Key.Type) -> KeyedEncodingContainer<Key> {
        if case .leaf = box.node { box.node = .object([]) }
        return KeyedEncodingContainer(JSONObjectWriter(box: box, codingPath: codingPath))
    }
    func unkeyedContainer() -> any UnkeyedEncodingContainer {
        if case .leaf = box.node { box.node = .list([]) }
        return JSONListWriter(box: box, codingPath: codingPath)
    }
    func singleValueContainer() -> any SingleValueEncodingContainer { self }
}

extension JSONTreeEncoder: SingleValueEncodingContainer {
    func set(_ value: JSONValue) { box.node = .leaf(value) }
    func encodeNil() { set(.null) }
    func encode(_ value: Bool) { set(.bool(value)) }
    func encode(_ value: String) { set(.string(value)) }
    func encode(_ value: Double) throws {
        guard value.isFinite else {
            throw EncodingError.invalidValue(
                value, EncodingError.Context(codingPath: codingPath, debugDescription: "JSON has no such number"))
        }
        set(.number(value == value.rounded() && abs(value) < 1e15 ? String(Int64(value)) : String(value)))
    }
    func encode(_ value: Float) throws { try encode(Double(value)) }
    func encode(_ value: Int) { set(.number(String(value))) }
    func encode(_ value: Int8) { set(.number(String(value))) }
    func encode(_ value: Int16) { set(.number(String(value))) }
    func encode(_ value: Int32) { set(.number(String(value))) }
    func encode(_ value: Int64) { set(.number(String(value))) }
    func encode(_ value: UInt) { set(.number(String(value))) }
    func encode(_ value: UInt8) { set(.number(String(value))) }
    func encode(_ value: UInt16) { set(.number(String(value))) }
    func encode(_ value: UInt32) { set(.number(String(value))) }
    func encode(_ value: UInt64) { set(.number(String(value))) }
    func encode<T: Encodable>(_ value: T) throws { try value.encode(to: self) }
}

private struct JSONObjectWriter<Key: CodingKey>: KeyedEncodingContainerProtocol {
    let box: JSONBox
    let codingPath: [any CodingKey]

    private func encoder(_ key: any CodingKey) -> JSONTreeEncoder {
        JSONTreeEncoder(box: box.child(key.stringValue), codingPath: codingPath + [key])
    }
    func encodeNil(forKey key: Key) { encoder(key).encodeNil() }
    func encode<T: Encodable>(_ value: T, forKey key: Key) throws { try value.encode(to: encoder(key)) }
    func nestedContainer<N: CodingKey>(keyedBy type: N.Type, forKey key: Key) -> KeyedEncodingContainer<N> {
        encoder(key).container(keyedBy: type)
    }
    func nestedUnkeyedContainer(forKey key: Key) -> any UnkeyedEncodingContainer { encoder(key).unkeyedContainer() }
    func superEncoder() -> any Encoder { JSONTreeEncoder(box: box, codingPath: codingPath) }
    func superEncoder(forKey key: Key) -> any Encoder { encoder(key) }
}

private struct JSONListWriter: UnkeyedEncodingContainer {
    let box: JSONBox
    let codingPath: [any CodingKey]

    var count: Int {
        guard case .list(let boxes) = box.node else { return 0 }
        return boxes.count
    }
    private func encoder() -> JSONTreeEncoder {
        let key = JSONIndexKey(index: count)
        return JSONTreeEncoder(box: box.element(), codingPath: codingPath + [key])
    }
    func encodeNil() { encoder().encodeNil() }
    func encode<T: Encodable>(_ value: T) throws { try value.encode(to: encoder()) }
    func nestedContainer<N: CodingKey>(keyedBy type: N.Type) -> KeyedEncodingContainer<N> {
        encoder().container(keyedBy: type)
    }
    func nestedUnkeyedContainer() -> any UnkeyedEncodingContainer { encoder().unkeyedContainer() }
    func superEncoder() -> any Encoder { encoder() }
}
