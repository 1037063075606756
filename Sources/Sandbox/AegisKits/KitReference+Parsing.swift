package import AegisCore

extension KitReference {
    /// Reads `NAME` or `NAME@VERSION`.
    ///
    /// - Throws: `invalid-argument` with the right form.
    package init(parsing text: String) throws(AegisError) {
        let parts = text.split(separator: "@", maxSplits: 1, omittingEmptySubsequences: false)
        name = String(parts.first ?? "")
        try Names.validate(name, what: "kit")
        guard parts.count == 2 else { return }
        guard let read = KitVersion(String(parts[1])) else {
            throw .usage(
                "'\(parts[1])' of kit '\(text)' is not a version", hint: "write MAJOR.MINOR.PATCH, as in \(name)@1.0.0")
        }
        version = read
    }
}
