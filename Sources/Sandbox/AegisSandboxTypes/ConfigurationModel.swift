/// A configuration as it is shown: every value in force with its origin, secrets masked.
package struct ConfigurationReport: Sendable, Codable, Equatable {
    /// One value.
    package struct Value: Sendable, Codable, Equatable {
        /// `network.port`
        package var key: String
        /// As text.
        package var value: String
        /// The default, or the file with its line, the variable or the flag that it comes from.
        package var origin: String

        /// One value with its origin.
        package init(key: String, value: String, origin: String) {
            self.key = key
            self.value = value
            self.origin = origin
        }
    }
    /// Sorted by key.
    package var values: [Value]

    /// A report of values.
    package init(values: [Value]) { self.values = values }

    /// One value a line, with its origin as a comment.
    package var text: String {
        values.map { "\($0.key): \($0.value)  # \($0.origin)\n" }.joined()
    }
}
