extension ConfigReader {
    /// Reads a key whose value has a shape of its own; nil when the file has none.
    ///
    /// - Parameters:
    ///   - key: the key's name.
    ///   - isNullAValue: whether a null is given to `body`, too; else it counts as no value.
    ///   - body: makes a value of what stands there, and tells what is wrong and at which part of it.
    /// - Returns: what `body` made.
    package func readRaw<T>(
        _ key: String, isNullAValue: Bool = false,
        _ body: (_ node: ConfigNode, _ problem: (ConfigNode, String) -> Void) -> T?
    ) -> T? {
        guard let entry = fileEntry(key), isNullAValue || !entry.value.isNull else { return nil }
        return body(entry.value) { node, message in
            session.report(.file(node.mark), "\(name(key)): \(session.told(message))")
        }
    }
}
