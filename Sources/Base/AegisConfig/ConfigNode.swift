/// A value of a YAML file with the place where it stands. Scalars keep their text: who reads one decides its type.
package struct ConfigNode: Sendable {
    /// What kind of value it is.
    package enum Content: Sendable {
        /// A text; `plain` means that it stood there without quotes.
        case scalar(String, plain: Bool)
        /// Values in order.
        case list([ConfigNode])
        /// Keys, each once, in order.
        case map([Entry])
    }
    /// One key of a map with its value.
    package struct Entry: Sendable {
        /// The key's text.
        package let key: String
        /// Where the key stands.
        package let mark: SourceMark
        /// What it stands for.
        package let value: ConfigNode
    }

    /// The value.
    package let content: Content
    /// Where it starts.
    package let mark: SourceMark
    /// How many values it holds, itself and expanded aliases included.
    let size: Int

    init(_ content: Content, at mark: SourceMark) {
        self.content = content
        self.mark = mark
        size =
            switch content {
            case .scalar: 1
            case .list(let items): items.reduce(1) { $0 + $1.size }
            case .map(let entries): entries.reduce(1) { $0 + 1 + $1.value.size }
            }
    }

    /// Whether nothing stands there: an empty place, `~` or `null` without quotes.
    package var isNull: Bool {
        guard case .scalar(let text, plain: true) = content else { return false }
        return ["", "~", "null", "Null", "NULL"].contains(text)
    }
}

/// What a YAML text may cost at most.
package struct YAMLLimits: Sendable {
    /// Length of the text in bytes.
    package var bytes = 1 << 20
    /// How deep lists and maps may stand in each other.
    package var depth = 64
    /// How many values there may be after aliases were expanded.
    package var values = 100_000

    /// The limits for files that people write.
    package init() {}
}
