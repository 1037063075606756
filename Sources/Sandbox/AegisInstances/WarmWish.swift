package import AegisCore

/// How many sandboxes of an image shall be kept ready, as `instances.warm` and `aegis up --warm` say it.
package struct WarmWish: Sendable, Equatable {
    /// The image as the user wrote it.
    package var image: String
    /// The backend; nil is the node's own choice.
    package var isolation: String?
    /// At least 0.
    package var count: Int
    /// The most that one image may have: what is kept ready is there to be taken, not to be stored.
    package static let most = 64

    /// Reads `IMAGE` or `IMAGE@ISOLATION`.
    ///
    /// - Parameters:
    ///   - key: the image, with a backend behind an `@` if it is to be a certain one; a digest (`@sha256:…`) is the image's.
    ///   - count: how many.
    ///   - isolations: the backends that there are.
    /// - Throws: `invalid-argument` for an empty image, an unknown backend or a number out of range.
    package init(_ key: String, count: Int, isolations: [String]) throws(AegisError) {
        guard (0...Self.most).contains(count) else {
            throw .usage("\(count) warm sandboxes of '\(key)' are out of range", hint: "give 0 to \(Self.most)")
        }
        self.count = count
        let at = key.lastIndex(of: "@")
        if let at, !key[at...].contains(":") {
            let name = String(key[key.index(after: at)...])
            guard isolations.contains(name) else {
                throw .usage(
                    "'\(name)' of '\(key)' is not an isolation",
                    hint: nearest(name, in: isolations).map { "did you mean '\($0)'?" }
                        ?? "use one of \(isolations.joined(separator: ", "))")
            }
            image = String(key[..<at])
            isolation = name == "auto" ? nil : name
        } else {
            image = key
        }
        guard !image.isEmpty else {
            throw .usage("a warm sandbox needs an image", hint: "write IMAGE or IMAGE@ISOLATION, as in base@runc")
        }
    }
}
