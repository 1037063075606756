internal import AegisCore
internal import AegisJSON
internal import AegisRegex

/// Reads a schema into nodes.
struct SchemaReader {
    /// How many schemas within schemas there may be.
    static let mostNodes = 4096
    /// Words that say something to people, and nothing about what fits.
    private static let annotations: Set<String> = [
        "$schema", "$id", "$comment", "$anchor", "$defs", "definitions", "title", "description", "default", "examples",
        "deprecated", "readOnly", "writeOnly", "format",
    ]

    let document: JSONValue
    let keywords: JSONSchema.Keywords
    private var nodes: [JSONSchema.Node] = []
    /// Where each place of the document went.
    private var known: [String: Int] = [:]
    /// Places that are named and not read yet.
    private var wanted: [(node: Int, value: JSONValue, path: String)] = []

    init(document: JSONValue, keywords: JSONSchema.Keywords) {
        self.document = document
        self.keywords = keywords
    }

    mutating func read() throws(SchemaError) -> [JSONSchema.Node] {
        _ = try place(document, "")
        var next = 0
        while next < wanted.count {
            let (node, value, path) = wanted[next]
            nodes[node] = try self.node(value, path)
            next += 1
        }
        try checkReferences()
        return nodes
    }

    /// The node of a place; it is read later, so that schemas may name themselves.
    private mutating func place(_ value: JSONValue, _ path: String) throws(SchemaError) -> Int {
        if let index = known[path] { return index }
        guard nodes.count < Self.mostNodes else { throw SchemaError(path: path, what: "the schema is too large") }
        let index = nodes.count
        nodes.append(JSONSchema.Node())
        known[path] = index
        wanted.append((index, value, path))
        return index
    }

    private mutating func node(_ value: JSONValue, _ path: String) throws(SchemaError) -> JSONSchema.Node {
        var node = JSONSchema.Node()
        if case .bool(let flag) = value {
            node.isNever = !flag
            return node
        }
        guard case .object(let fields) = value else {
            throw SchemaError(path: path, what: "a schema is an object, true or false")
        }
        for field in fields {
            let at = path + "/" + Pointer.escape(field.name)
            if try read(field, at, into: &node) || Self.annotations.contains(field.name) { continue }
            guard keywords == .anything else {
                let near = nearest(field.name, in: Self.readable).map { ", did you mean '\($0)'?" } ?? ""
                throw SchemaError(path: at, what: "the keyword '\(field.name)' is not supported\(near)")
            }
        }
        return node
    }

    private static let readable = [
        "type", "enum", "const", "properties", "required", "patternProperties", "additionalProperties", "items",
        "prefixItems", "pattern",
        "uniqueItems", "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "minimum",
        "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "allOf", "anyOf", "oneOf", "not", "$ref",
    ]

    /// Reads a keyword; false when it is none that says what fits.
    private mutating func read(
        _ field: JSONValue.Field, _ at: String, into node: inout JSONSchema.Node
    ) throws(SchemaError) -> Bool {
        let value = field.value
        switch field.name {
        case "type": node.types = try types(value, at)
        case "enum":
            guard let values = value.elements, !values.isEmpty else { throw SchemaError(path: at, what: "a list") }
            node.values = values
        case "const": node.values = [value]
        case "properties":
            for property in try object(value, at) {
                node.names.append(property.name)
                node.properties[property.name] = try place(
                    property.value, at + "/" + Pointer.escape(property.name))
            }
        case "required": node.required = try strings(value, at)
        case "patternProperties":
            for property in try object(value, at) {
                let at = at + "/" + Pointer.escape(property.name)
                let index = try place(property.value, at)
                do throws(SchemaError) { node.patterns.append((try regex(property.name, at), index)) } catch {
                    guard keywords == .anything else { throw error }
                    node.hasUnreadPatterns = true
                }
            }
        case "additionalProperties": node.additional = try place(value, at)
        case "items": node.items = try place(value, at)
        case "prefixItems": node.prefix = try places(value, at)
        case "uniqueItems": node.isUnique = try flag(value, at)
        case "pattern":
            guard let text = value.text else { throw SchemaError(path: at, what: "a pattern is a string") }
            node.pattern = try regex(text, at)
            node.patternText = text
        case "allOf": node.all = try places(value, at)
        case "anyOf": node.any = try places(value, at)
        case "oneOf": node.one = try places(value, at)
        case "not": node.not = try place(value, at)
        case "$ref": node.ref = try reference(value, at)
        default: return try readBound(field.name, value, at, into: &node)
        }
        return true
    }

    private func regex(_ text: String, _ at: String) throws(SchemaError) -> BoundedRegex {
        do { return try BoundedRegex(text, options: [.schema, .stoppable]) } catch {
            throw SchemaError(path: at, what: "\(error)")
        }
    }

    private func readBound(
        _ name: String, _ value: JSONValue, _ at: String, into node: inout JSONSchema.Node
    ) throws(SchemaError) -> Bool {
        switch name {
        case "minLength": node.lengths.least = try count(value, at)
        case "maxLength": node.lengths.most = try count(value, at)
        case "minItems": node.counts.least = try count(value, at)
        case "maxItems": node.counts.most = try count(value, at)
        case "minProperties": node.members.least = try count(value, at)
        case "maxProperties": node.members.most = try count(value, at)
        case "minimum": node.minimum = try number(value, at)
        case "maximum": node.maximum = try number(value, at)
        case "exclusiveMinimum": node.above = try number(value, at)
        case "exclusiveMaximum": node.below = try number(value, at)
        case "multipleOf":
            let step = try number(value, at)
            guard let zero = JSONNumber("0"), step > zero else { throw SchemaError(path: at, what: "above 0") }
            node.multiple = step
        default: return false
        }
        return true
    }

    // MARK: Values of keywords

    private func types(_ value: JSONValue, _ at: String) throws(SchemaError) -> [JSONSchema.Kind] {
        var kinds: [JSONSchema.Kind] = []
        let names: [String] = if let one = value.text { [one] } else { try strings(value, at) }
        for name in names {
            guard let kind = JSONSchema.Kind(rawValue: name) else {
                let near = nearest(name, in: JSONSchema.Kind.allCases.map(\.rawValue))
                throw SchemaError(path: at, what: "'\(name)' is no type" + (near.map { ", '\($0)' is" } ?? ""))
            }
            kinds.append(kind)
        }
        guard !kinds.isEmpty else { throw SchemaError(path: at, what: "the list of types is empty") }
        return kinds
    }

    private func object(_ value: JSONValue, _ at: String) throws(SchemaError) -> [JSONValue.Field] {
        guard let fields = value.fields else { throw SchemaError(path: at, what: "an object was expected") }
        return fields
    }

    private func strings(_ value: JSONValue, _ at: String) throws(SchemaError) -> [String] {
        guard let elements = value.elements else { throw SchemaError(path: at, what: "a list was expected") }
        let texts = elements.compactMap(\.text)
        guard texts.count == elements.count else { throw SchemaError(path: at, what: "a list of strings was expected") }
        return texts
    }

    private func flag(_ value: JSONValue, _ at: String) throws(SchemaError) -> Bool {
        guard let flag = value.flag else { throw SchemaError(path: at, what: "true or false was expected") }
        return flag
    }

    private func count(_ value: JSONValue, _ at: String) throws(SchemaError) -> Int {
        guard let count = value.integer, count >= 0 else {
            throw SchemaError(path: at, what: "a whole number from 0 was expected")
        }
        return Int(count)
    }

    private func number(_ value: JSONValue, _ at: String) throws(SchemaError) -> JSONNumber {
        guard let number = JSONNumber(value) else { throw SchemaError(path: at, what: "a number was expected") }
        return number
    }

    private mutating func places(_ value: JSONValue, _ at: String) throws(SchemaError) -> [Int] {
        guard let elements = value.elements, !elements.isEmpty else {
            throw SchemaError(path: at, what: "a list of schemas was expected")
        }
        var found: [Int] = []
        for (index, element) in elements.enumerated() { found.append(try place(element, "\(at)/\(index)")) }
        return found
    }

    // MARK: References

    private mutating func reference(_ value: JSONValue, _ at: String) throws(SchemaError) -> Int {
        guard let text = value.text, text == "#" || text.hasPrefix("#/") else {
            throw SchemaError(path: at, what: "only references within the schema can be followed, as in #/$defs/name")
        }
        let path = String(text.dropFirst())
        var here = document
        for part in path.split(separator: "/", omittingEmptySubsequences: false).dropFirst() {
            let name = Pointer.unescape(part)
            if let next = here[name] {
                here = next
            } else if let index = Int(name), let elements = here.elements, elements.indices.contains(index) {
                here = elements[index]
            } else {
                throw SchemaError(path: at, what: "'\(text)' leads nowhere")
            }
        }
        return try place(here, path)
    }

    /// A schema that only leads back to itself says nothing and would never end.
    private func checkReferences() throws(SchemaError) {
        for start in nodes.indices {
            var steps = 0
            var here = start
            while let next = nodes[here].ref {
                here = next
                steps += 1
                guard steps <= nodes.count else {
                    let path = known.first { $0.value == start }?.key ?? ""
                    throw SchemaError(path: path, what: "the references lead in a circle")
                }
            }
        }
    }
}

/// JSON pointers (RFC 6901).
enum Pointer {
    /// A name as a part of a pointer.
    static func escape(_ name: String) -> String {
        guard name.utf8.contains(where: { $0 == 0x7e || $0 == 0x2f }) else { return name }
        return name.replacing("~", with: "~0").replacing("/", with: "~1")
    }
    /// A part of a pointer as a name.
    static func unescape(_ part: Substring) -> String {
        String(part.replacing("~1", with: "/").replacing("~0", with: "~"))
    }
}
