package import AegisJSON
internal import AegisRegex

/// What is wrong with an input, and where.
package struct SchemaProblem: Error, Sendable, Hashable, CustomStringConvertible {
    /// The place, as a JSON pointer; empty is the whole.
    package var path: String
    /// What was expected there.
    package var what: String
    package var description: String { path.isEmpty ? what : "\(path): \(what)" }
}

/// A schema that cannot be used, and where in it.
package struct SchemaError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The place, as a JSON pointer into the schema.
    package var path: String
    /// What is wrong there.
    package var what: String
    package var description: String { path.isEmpty ? what : "\(path): \(what)" }
}

/// A JSON Schema (draft 2020-12, the part that inputs of tools use), read once and then asked.
///
/// Nothing is coerced, and no default is filled in. What a check may cost is bounded.
package final class JSONSchema: Sendable {
    /// What happens to keywords that are not known.
    package enum Keywords: Sendable {
        /// They are an error: what is not checked must not look as if it were.
        case known
        /// They are passed over, as the standard says: for schemas that others wrote.
        case anything
    }

    /// The types of JSON, as schemas name them.
    enum Kind: String, Sendable, CaseIterable {
        case null, boolean, integer, number, string, array, object

        /// As it is called in a message.
        var words: String {
            switch self {
            case .null: "null"
            case .boolean: "true or false"
            case .integer: "a whole number"
            case .number: "a number"
            case .string: "a string"
            case .array: "a list"
            case .object: "an object"
            }
        }
    }

    /// One schema, with others named by their place in `nodes`.
    struct Node: Sendable {
        /// `false` as a schema: nothing fits.
        var isNever = false
        var types: [Kind]?
        var values: [JSONValue]?
        var properties: [String: Int] = [:]
        /// In the order of the schema, for messages.
        var names: [String] = []
        var required: [String] = []
        /// What fields are to fit whose names have a pattern in them.
        var patterns: [(name: BoundedRegex, node: Int)] = []
        /// There are such patterns that cannot be read.
        var hasUnreadPatterns = false
        var additional: Int?
        var items: Int?
        var prefix: [Int] = []
        var pattern: BoundedRegex?
        var patternText = ""
        var isUnique = false
        var lengths = Bounds()
        var counts = Bounds()
        var members = Bounds()
        var minimum: JSONNumber?
        var maximum: JSONNumber?
        var above: JSONNumber?
        var below: JSONNumber?
        var multiple: JSONNumber?
        var all: [Int] = []
        var any: [Int] = []
        var one: [Int] = []
        var not: Int?
        var ref: Int?
    }

    /// How many of something there may be.
    struct Bounds: Sendable {
        var least: Int?
        var most: Int?
    }

    let nodes: [Node]

    /// Reads a schema.
    ///
    /// - Parameters:
    ///   - schema: the schema.
    ///   - keywords: what happens to keywords that are not known.
    /// - Throws: `SchemaError` with the place.
    package init(_ schema: JSONValue, keywords: Keywords = .known) throws(SchemaError) {
        var reader = SchemaReader(document: schema, keywords: keywords)
        nodes = try reader.read()
    }

    /// Checks a value.
    ///
    /// - Returns: nil when it fits; else what is wrong, at most eight things.
    package func problems(_ value: JSONValue) -> [SchemaProblem]? {
        var check = SchemaCheck(schema: self)
        check.check(value, 0, at: "", depth: 0)
        return check.problems.isEmpty ? nil : check.problems
    }
}
