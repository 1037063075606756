extension JSONValue {
    /// One text for all that mean the same: without white space, fields in the order of their names' bytes, numbers as a double
    /// is written shortest. For hashes and for comparing what was shown with what is done.
    ///
    /// Close to RFC 8785, but names are ordered as UTF-8, and a number that no double can hold stays as it was written.
    package var canonical: [UInt8] { sorted.compact }

    private var sorted: JSONValue {
        switch self {
        case .array(let elements): .array(elements.map(\.sorted))
        case .object(let fields):
            .object(
                fields.map { Field($0.name, $0.value.sorted) }
                    .sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) })
        case .number(let text): .number(Self.shortest(text))
        case .null, .bool, .string: self
        }
    }

    private static func shortest(_ text: String) -> String {
        if let whole = Int64(text) { return String(whole) }
        guard let value = Double(text), value.isFinite else { return text }
        if let whole = Int64(exactly: value) { return String(whole) }
        return "\(value)"
    }
}
