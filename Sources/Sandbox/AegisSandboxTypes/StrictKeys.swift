internal import AegisCore

/// A coding key for any field name.
package struct AnyKey: CodingKey {
    package var stringValue: String
    package var intValue: Int? { nil }
    package init(stringValue: String) { self.stringValue = stringValue }
    package init?(intValue: Int) { nil }
}

extension Decoder {
    /// Refuses fields that the type does not have, naming the nearest one that it has.
    package func refuseUnknownKeys<Key: CodingKey & CaseIterable>(_ type: Key.Type) throws {
        let known = Key.allCases.map(\.stringValue)
        for key in try container(keyedBy: AnyKey.self).allKeys where !known.contains(key.stringValue) {
            let path = (codingPath.map(\.stringValue) + [key.stringValue]).joined(separator: ".")
            throw AegisError(
                .usage, "unknown-field", "unknown field '\(path)'",
                hint: nearest(key.stringValue, in: known).map { "did you mean '\($0)'?" }
                    ?? "known fields: \(known.joined(separator: ", "))")
        }
    }
}
