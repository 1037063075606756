package import AegisCore
package import AegisJSON

/// The parameters of one call, read strictly: a field that the method does not know is an error that names the nearest one.
///
/// A failure is of kind `usage`, so that a client sees -32602.
package struct RPCParameters: Sendable {
    private let fields: [String: JSONValue]
    private let known: [String]

    /// Takes the parameters of a call.
    ///
    /// - Parameters:
    ///   - value: an object, an array, or null where there were none. A field that is null counts as absent.
    ///   - known: every field of the method.
    ///   - positional: how many of these, from the first, may come as an array; 0 wants names.
    /// - Throws: `invalid-params`.
    package init(_ value: JSONValue, known: [String], positional: Int = 0) throws(AegisError) {
        self.known = known
        switch value {
        case .null: fields = [:]
        case .object(let members):
            for member in members where !known.contains(member.name) {
                throw Self.unknown(member.name, known: known)
            }
            fields = Dictionary(
                members.filter { $0.value != .null }.map { ($0.name, $0.value) },
                uniquingKeysWith: { first, _ in first })
        case .array(let elements):
            guard elements.count <= positional else {
                throw AegisError(
                    .usage, "invalid-params",
                    positional == 0
                        ? "the parameters came by position"
                        : "\(elements.count) parameters came, \(positional) are known",
                    hint: "send an object; its fields are \(known.joined(separator: ", "))")
            }
            fields = Dictionary(
                zip(known, elements).filter { $0.1 != .null }.map { ($0.0, $0.1) },
                uniquingKeysWith: { first, _ in first })
        default: throw AegisError(.usage, "invalid-params", "the parameters are neither an object nor an array")
        }
    }

    private static func unknown(_ name: String, known: [String]) -> AegisError {
        let hint: String
        if known.isEmpty {
            hint = "it takes none"
        } else if let near = nearest(name, in: known) {
            hint = "did you mean '\(near)'?"
        } else {
            hint = "its fields are \(known.joined(separator: ", "))"
        }
        return AegisError(.usage, "invalid-params", "there is no parameter '\(name.prefix(100))'", hint: hint)
    }

    private func wrong(_ name: String, _ what: String) -> AegisError {
        AegisError(.usage, "invalid-params", "'\(name)' is not \(what)")
    }

    private func require<T>(_ name: String, _ value: T?) throws(AegisError) -> T {
        guard let value else { throw AegisError(.usage, "invalid-params", "'\(name)' is missing") }
        return value
    }

    /// Any JSON; nil when it is absent or null.
    package func optionalValue(_ name: String) -> JSONValue? {
        precondition(known.contains(name), "a method asks for '\(name)', which it has not declared")
        return fields[name]
    }

    /// Any JSON.
    ///
    /// - Throws: `invalid-params` when it is missing.
    package func value(_ name: String) throws(AegisError) -> JSONValue { try require(name, optionalValue(name)) }

    /// A text; nil when it is absent.
    ///
    /// - Throws: `invalid-params` when it is something else, or longer than `limit` bytes.
    package func optionalText(_ name: String, limit: Int = 1 << 20) throws(AegisError) -> String? {
        guard let value = optionalValue(name) else { return nil }
        guard let text = value.text else { throw wrong(name, "a string") }
        guard text.utf8.count <= limit else { throw wrong(name, "at most \(ByteSize(UInt64(limit))) long") }
        return text
    }

    /// A text that is there.
    ///
    /// - Throws: `invalid-params`.
    package func text(_ name: String, limit: Int = 1 << 20) throws(AegisError) -> String {
        try require(name, try optionalText(name, limit: limit))
    }

    /// One of some words; nil when it is absent.
    ///
    /// - Throws: `invalid-params` with the nearest of them.
    package func optionalWord(_ name: String, of words: [String]) throws(AegisError) -> String? {
        guard let text = try optionalText(name) else { return nil }
        guard words.contains(text) else {
            throw AegisError(
                .usage, "invalid-params", "'\(name)' is not one of \(words.joined(separator: ", "))",
                hint: nearest(text, in: words).map { "did you mean '\($0)'?" })
        }
        return text
    }

    /// A whole number within a range; nil when it is absent.
    ///
    /// - Throws: `invalid-params`.
    package func optionalInteger(_ name: String, in range: ClosedRange<Int>) throws(AegisError) -> Int? {
        guard let value = optionalValue(name) else { return nil }
        guard let number = value.integer.flatMap({ Int(exactly: $0) }), range.contains(number) else {
            throw wrong(name, "a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    /// A whole number within a range.
    ///
    /// - Throws: `invalid-params`.
    package func integer(_ name: String, in range: ClosedRange<Int>) throws(AegisError) -> Int {
        try require(name, try optionalInteger(name, in: range))
    }

    /// A truth value; nil when it is absent.
    ///
    /// - Throws: `invalid-params`.
    package func optionalFlag(_ name: String) throws(AegisError) -> Bool? {
        guard let value = optionalValue(name) else { return nil }
        guard let flag = value.flag else { throw wrong(name, "true or false") }
        return flag
    }

    /// A list of texts; nil when it is absent.
    ///
    /// - Throws: `invalid-params`.
    package func optionalTexts(_ name: String, limit: Int = 1000) throws(AegisError) -> [String]? {
        guard let value = optionalValue(name) else { return nil }
        guard let elements = value.elements, elements.count <= limit else {
            throw wrong(name, "an array of at most \(limit) strings")
        }
        let texts = elements.compactMap(\.text)
        guard texts.count == elements.count else { throw wrong(name, "an array of strings") }
        return texts
    }

    /// The members of an object; nil when it is absent.
    ///
    /// - Throws: `invalid-params`.
    package func optionalObject(_ name: String) throws(AegisError) -> [JSONValue.Field]? {
        guard let value = optionalValue(name) else { return nil }
        guard let fields = value.fields else { throw wrong(name, "an object") }
        return fields
    }
}
