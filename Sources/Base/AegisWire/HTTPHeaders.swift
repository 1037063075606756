/// An ordered list of header fields whose names are compared without case.
///
/// All names and values lie in one array of bytes and a field is four offsets into it, so that a parsed section
/// costs two allocations however many fields it has. Values become strings only when somebody asks for them.
package struct HTTPHeaders: Sendable {
    struct Field: Sendable {
        var nameStart: UInt32
        var nameCount: UInt32
        var valueStart: UInt32
        var valueCount: UInt32

        var name: Range<Int> { Int(nameStart)..<Int(nameStart + nameCount) }
        var value: Range<Int> { Int(valueStart)..<Int(valueStart + valueCount) }
    }

    private var bytes: [UInt8]
    private var fields: [Field]
    /// The first field that was added with a name or value that HTTP does not allow; such headers cannot be sent.
    package private(set) var invalidField: String?

    /// An empty list.
    package init() {
        bytes = []
        fields = []
    }

    /// A list of fields in the given order.
    package init(_ list: [(name: String, value: String)]) {
        self.init()
        for (name, value) in list { add(name, value) }
    }

    /// Takes over a section that a parser has checked; the offsets are into `bytes`.
    init(bytes: [UInt8], fields: [Field]) {
        self.bytes = bytes
        self.fields = fields
    }

    /// Number of fields (a name that occurs twice counts twice).
    package var count: Int { fields.count }
    /// Whether there is no field.
    package var isEmpty: Bool { fields.isEmpty }

    /// The field at a position, in the order of the message; text that is not UTF-8 is repaired.
    package subscript(position: Int) -> (name: String, value: String) {
        (String(decoding: bytes[fields[position].name], as: UTF8.self), text(fields[position]))
    }

    private func text(_ field: Field) -> String { String(decoding: bytes[field.value], as: UTF8.self) }

    private func index(of name: String, from start: Int = 0) -> Int? {
        let wanted = name.utf8Span.span
        let all = bytes.span
        for index in start..<fields.count where Int(fields[index].nameCount) == wanted.count {
            if ASCII.equal(all.extracting(fields[index].name), wanted) { return index }
        }
        return nil
    }

    /// The value of the first field with a name, or nil.
    package func first(_ name: String) -> String? { index(of: name).map { text(fields[$0]) } }

    /// The values of all fields with a name, in order.
    package func all(_ name: String) -> [String] {
        var found: [String] = []
        var start = 0
        while let index = index(of: name, from: start) {
            found.append(text(fields[index]))
            start = index + 1
        }
        return found
    }

    /// Whether a field with that name is there.
    package func contains(_ name: String) -> Bool { index(of: name) != nil }

    /// Whether a comma-separated field (`Connection`, `Upgrade`) has an element, compared without case.
    package func contains(_ name: String, token: String) -> Bool {
        var found = false
        forEachElement(of: name) { if ASCII.equal($0, token.utf8Span.span) { found = true } }
        return found
    }

    /// The elements of all fields with a name, split at commas and trimmed; empty ones are left out.
    package func elements(_ name: String) -> [String] {
        var found: [String] = []
        forEachElement(of: name) { element in
            found.append(String(copying: element))
        }
        return found
    }

    private func forEachElement(of name: String, _ body: (Span<UInt8>) -> Void) {
        var start = 0
        while let index = index(of: name, from: start) {
            start = index + 1
            let value = bytes.span.extracting(fields[index].value)
            var from = 0
            for at in 0...value.count where at == value.count || value[at] == 44 {
                var lower = from
                var upper = at
                while lower < upper, ASCII.isBlank(value[lower]) { lower += 1 }
                while lower < upper, ASCII.isBlank(value[upper - 1]) { upper -= 1 }
                if lower < upper { body(value.extracting(lower..<upper)) }
                from = at + 1
            }
        }
    }

    /// Adds a field at the end, also when the name is there already.
    ///
    /// A name that is no token, or a value with a control character, marks the list as not sendable instead of
    /// writing something that a peer would read as another field.
    package mutating func add(_ name: String, _ value: String) {
        let nameBytes = name.utf8
        let valid =
            !nameBytes.isEmpty && nameBytes.allSatisfy(ASCII.isToken) && value.utf8.allSatisfy(ASCII.isFieldValue)
            && value.utf8.count < 1 << 24 && nameBytes.count < 1 << 16 && bytes.count < 1 << 28
        guard valid else {
            invalidField = invalidField ?? name
            return
        }
        let start = bytes.count
        bytes.append(contentsOf: nameBytes)
        let valueStart = bytes.count
        bytes.append(contentsOf: value.utf8)
        fields.append(
            Field(
                nameStart: UInt32(start), nameCount: UInt32(valueStart - start), valueStart: UInt32(valueStart),
                valueCount: UInt32(bytes.count - valueStart)))
    }

    /// Removes every field with a name.
    package mutating func remove(_ name: String) {
        while let index = index(of: name) { fields.remove(at: index) }
    }

    /// Makes a field the only one of its name.
    package mutating func set(_ name: String, _ value: String) {
        remove(name)
        add(name, value)
    }

    /// Appends `name: value CRLF` for every field.
    package func encode(into out: inout [UInt8]) {
        for field in fields {
            out.append(contentsOf: bytes[field.name])
            out.append(ASCII.colon)
            out.append(ASCII.space)
            out.append(contentsOf: bytes[field.value])
            out.append(ASCII.carriageReturn)
            out.append(ASCII.lineFeed)
        }
    }

    /// Calls a body with name and value of each field, as bytes.
    func forEachField(_ body: (Span<UInt8>, Span<UInt8>) throws(HTTPError) -> Void) throws(HTTPError) {
        let all = bytes.span
        for field in fields { try body(all.extracting(field.name), all.extracting(field.value)) }
    }
}

extension HTTPHeaders: Equatable {
    /// Same fields in the same order; names without case.
    package static func == (a: HTTPHeaders, b: HTTPHeaders) -> Bool {
        guard a.fields.count == b.fields.count else { return false }
        for (x, y) in zip(a.fields, b.fields) {
            guard ASCII.equal(a.bytes.span.extracting(x.name), b.bytes.span.extracting(y.name)),
                a.bytes[x.value] == b.bytes[y.value]
            else { return false }
        }
        return true
    }
}

extension HTTPHeaders: ExpressibleByDictionaryLiteral {
    /// Fields in the order in which they are written.
    package init(dictionaryLiteral elements: (String, String)...) {
        self.init()
        for (name, value) in elements { add(name, value) }
    }
}

extension HTTPHeaders: Sequence {
    /// The fields in order, as strings.
    package func makeIterator() -> AnyIterator<(name: String, value: String)> {
        var position = 0
        return AnyIterator {
            guard position < count else { return nil }
            defer { position += 1 }
            return self[position]
        }
    }
}

extension String {
    /// Text from bytes of a span; what is not UTF-8 is repaired.
    init(copying span: Span<UInt8>) {
        self = unsafe span.withUnsafeBufferPointer { unsafe String(decoding: $0, as: UTF8.self) }
    }
}
