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
    /// A part of a node: whole already, or with containers that still write into it.
    enum Slot {
        case whole(JSONValue)
        case open(JSONBox)

        var value: JSONValue {
            switch self {
            case .whole(let value): value
            case .open(let box): box.value
            }
        }
    }
    enum Node { case leaf(JSONValue), list([Slot]), object([(String, Slot)]) }
    var node = Node.leaf(.null)

    var value: JSONValue {
        switch node {
        case .leaf(let value): value
        case .list(let slots): .array(slots.map(\.value))
        case .object(let fields): .object(fields.map { JSONValue.Field($0.0, $0.1.value) })
        }
    }

    func add(_ name: String, _ slot: Slot) {
        guard case .object(var fields) = node else { return node = .object([(name, slot)]) }
        // So that the array has one owner, and grows in place.
        node = .leaf(.null)
        fields.append((name, slot))
        node = .object(fields)
    }
    func child(_ name: String) -> JSONBox {
        let child = JSONBox()
        add(name, .open(child))
        return child
    }
    func element() -> JSONBox {
        let child = JSONBox()
        guard case .list(var slots) = node else {
            node = .list([.open(child)])
            return child
        }
        node = .leaf(.null)
        slots.append(.open(child))
        node = .list(slots)
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
    private func set(_ key: Key, _ value: JSONValue) { box.add(key.stringValue, .whole(value)) }

    func encodeNil(forKey key: Key) { set(key, .null) }
    // What most fields are needs no encoder of its own.
    func encode(_ value: Bool, forKey key: Key) { set(key, .bool(value)) }
    func encode(_ value: String, forKey key: Key) { set(key, .string(value)) }
    func encode(_ value: Int, forKey key: Key) { set(key, .number(String(value))) }
    func encode(_ value: Int64, forKey key: Key) { set(key, .number(String(value))) }
    func encode(_ value: UInt32, forKey key: Key) { set(key, .number(String(value))) }
    func encode(_ value: UInt64, forKey key: Key) { set(key, .number(String(value))) }
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
        guard case .list(let slots) = box.node else { return 0 }
        return slots.count
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
