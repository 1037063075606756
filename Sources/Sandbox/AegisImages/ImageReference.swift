package import AegisCore

/// What a user names when a sandbox needs an image.
package enum ImageReference: Sendable, Hashable, CustomStringConvertible {
    /// The image that is built on this machine.
    case base
    /// An image of a registry.
    case registry(RegistryReference)
    /// An image in a file or folder of this machine.
    case local(LocalReference)

    /// The registry that a name without one belongs to, by docker's convention; `registries.default` replaces it.
    package static let conventionalRegistry = "docker.io"

    /// Reads docker's reference grammar, `base`, or `oci:PATH`, `oci-archive:PATH`, `docker-archive:PATH`.
    ///
    /// - Parameters:
    ///   - text: what the user wrote.
    ///   - defaultRegistry: the registry of names that have none.
    /// - Throws: `invalid-argument`, naming what is wrong with the text.
    package init(parsing text: String, defaultRegistry: String = ImageReference.conventionalRegistry) throws(AegisError)
    {
        if text == "base" {
            self = .base
        } else if let local = try LocalReference(parsing: text) {
            self = .local(local)
        } else {
            self = .registry(try RegistryReference(parsing: text, defaultRegistry: defaultRegistry))
        }
    }

    /// The full form, the same for all spellings of one image.
    package var description: String {
        switch self {
        case .base: "base"
        case .registry(let reference): reference.description
        case .local(let reference): reference.description
        }
    }
}

/// An image in a file or folder of this machine, as other tools write them.
package struct LocalReference: Sendable, Hashable, CustomStringConvertible {
    /// The form of the file or folder.
    package enum Transport: String, Sendable, CaseIterable {
        case layout = "oci"
        case layoutArchive = "oci-archive"
        case dockerArchive = "docker-archive"
    }
    /// The form of the file or folder.
    package let transport: Transport
    /// The absolute path.
    package let path: String
    /// Which image of several, or nil when there is one.
    package let tag: String?

    /// Reads `TRANSPORT:PATH[:TAG]`; nil when the text does not begin with a known transport.
    init?(parsing text: String) throws(AegisError) {
        guard let colon = text.firstIndex(of: ":"), let transport = Transport(rawValue: String(text[..<colon])),
            text[text.index(after: colon)...].contains("/") || transport != .layout
        else { return nil }
        let rest = text[text.index(after: colon)...]
        guard rest.hasPrefix("/") else {
            throw .usage("'\(text)' has no absolute path", hint: "write \(transport.rawValue):/the/whole/path")
        }
        let name = rest.lastIndex(of: "/").map { rest[$0...] } ?? rest
        let mark = name.firstIndex(of: ":")
        self.transport = transport
        path = String(mark.map { rest[..<$0] } ?? rest)
        tag = mark.map { String(rest[rest.index(after: $0)...]) }
        guard !text.utf8.contains(0), path.utf8.count < 4096, tag != "" else {
            throw .usage(
                "'\(text)' is not a valid local image",
                hint: "write \(transport.rawValue):/path or \(transport.rawValue):/path:TAG")
        }
    }

    /// The text that names this image.
    package var description: String { "\(transport.rawValue):\(path)" + (tag.map { ":\($0)" } ?? "") }
}

/// An image of a registry, with everything that docker's convention leaves out filled in.
package struct RegistryReference: Sendable, Hashable, CustomStringConvertible {
    /// `HOST` or `HOST:PORT`.
    package let registry: String
    /// The path within the registry, as `library/python`.
    package let repository: String
    /// The tag, or nil when only a digest was given.
    package let tag: String?
    /// The digest that the manifest must have, if one was given.
    package let digest: Digest?

    /// Reads `[REGISTRY/]PATH[:TAG][@sha256:HEX]`; no tag and no digest means `latest`.
    init(parsing text: String, defaultRegistry: String) throws(AegisError) {
        func bad(_ what: String, _ hint: String = "write NAME[:TAG], HOST[:PORT]/NAME[:TAG] or NAME@sha256:HEX")
            -> AegisError
        {
            .usage("'\(text)' is not an image reference: \(what)", hint: hint)
        }
        guard !text.isEmpty else { throw bad("it is empty") }
        var rest = Substring(text)
        var digest: Digest?
        if let at = rest.firstIndex(of: "@") {
            let written = String(rest[rest.index(after: at)...])
            guard let parsed = Digest(written) else {
                throw bad("the digest '\(written)' is not sha256: and 64 hexadecimal digits")
            }
            digest = parsed
            rest = rest[..<at]
        }
        var tag: String?
        let lastSlash = rest.lastIndex(of: "/") ?? rest.startIndex
        if let colon = rest[lastSlash...].lastIndex(of: ":") {
            let written = String(rest[rest.index(after: colon)...])
            guard Grammar.isTag(written) else { throw bad("'\(written)' is not a tag") }
            tag = written
            rest = rest[..<colon]
        }
        let first = rest.prefix { $0 != "/" }
        let named = first.endIndex != rest.endIndex && Grammar.looksLikeHost(first)
        registry = named ? String(first) : defaultRegistry
        var path = named ? String(rest[rest.index(after: first.endIndex)...]) : String(rest)
        guard Grammar.isHost(Substring(registry)) else { throw bad("'\(registry)' is not a registry") }
        if registry == ImageReference.conventionalRegistry, !path.contains("/") { path = "library/" + path }
        if path.contains(where: \.isUppercase) {
            throw bad("names are lower case", "did you mean '\(text.lowercased())'?")
        }
        guard path.split(separator: "/", omittingEmptySubsequences: false).allSatisfy(Grammar.isPathComponent) else {
            throw bad("'\(rest)' is not a name")
        }
        guard registry.utf8.count + path.utf8.count + 1 <= 255 else {
            throw bad("the name is longer than 255 characters")
        }
        repository = path
        self.digest = digest
        self.tag = tag ?? (digest == nil ? "latest" : nil)
    }

    /// `REGISTRY/PATH`.
    package var name: String { "\(registry)/\(repository)" }
    /// The full form.
    package var description: String { name + (tag.map { ":\($0)" } ?? "") + (digest.map { "@\($0)" } ?? "") }
    /// What is asked of the registry: the digest alone if there is one, else the tag.
    package var wanted: String { digest.map { "\(name)@\($0)" } ?? "\(name):\(tag ?? "latest")" }
    /// Whether the registry is on this machine, where plain HTTP is usual.
    package var isLoopback: Bool {
        let host = registry.hasPrefix("[") ? registry.prefix { $0 != "]" } + "]" : registry.prefix { $0 != ":" }
        guard !host.hasPrefix("127.") else {
            let parts = host.split(separator: ".", omittingEmptySubsequences: false)
            return parts.count == 4 && parts.allSatisfy { UInt8($0) != nil }
        }
        return host == "localhost" || host == "[::1]"
    }
}

/// The character rules of docker's reference grammar.
private enum Grammar {
    static func isLower(_ c: UInt8) -> Bool { (97...122).contains(c) || isDigit(c) }
    static func isDigit(_ c: UInt8) -> Bool { (48...57).contains(c) }
    static func isLetter(_ c: UInt8) -> Bool { (97...122).contains(c) || (65...90).contains(c) }

    /// Whether the first component of a name is a host, and not the first part of a path.
    static func looksLikeHost(_ text: Substring) -> Bool {
        text.contains(".") || text.contains(":") || text == "localhost" || text.contains(where: \.isUppercase)
    }

    /// `HOST`, `HOST:PORT`, `[V6]` or `[V6]:PORT`.
    static func isHost(_ text: Substring) -> Bool {
        var host = text
        if let colon = text.lastIndex(of: ":"), !text.hasSuffix("]") {
            let port = text[text.index(after: colon)...]
            guard let number = UInt16(port), number > 0, port.utf8.allSatisfy(isDigit) else { return false }
            host = text[..<colon]
        }
        if host.hasPrefix("["), host.hasSuffix("]") {
            let inner = host.dropFirst().dropLast()
            return inner.contains(":")
                && inner.utf8.allSatisfy {
                    isDigit($0) || (97...102).contains($0) || (65...70).contains($0) || $0 == 58
                }
        }
        return host.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { label in
            let s = Array(label.utf8)
            guard let first = s.first, let last = s.last, first != 45, last != 45 else { return false }
            return s.allSatisfy { isLetter($0) || isDigit($0) || $0 == 45 }
        }
    }

    /// `[a-z0-9]+` groups joined by `.`, `_`, `__` or any number of `-`.
    static func isPathComponent(_ text: Substring) -> Bool {
        let s = Array(text.utf8)
        guard let first = s.first, let last = s.last, isLower(first), isLower(last) else { return false }
        var i = 0
        while i < s.count {
            guard !isLower(s[i]) else {
                i += 1
                continue
            }
            let start = i
            while i < s.count, s[i] == s[start] { i += 1 }
            let count = i - start
            let allowed = s[start] == 46 ? count == 1 : s[start] == 95 ? count <= 2 : s[start] == 45
            guard allowed, i < s.count, isLower(s[i]) else { return false }
        }
        return true
    }

    /// A letter, digit or `_`, then up to 127 of these, `.` and `-`.
    static func isTag(_ text: String) -> Bool {
        let s = Array(text.utf8)
        guard let first = s.first, s.count <= 128, first != 45, first != 46 else { return false }
        return s.allSatisfy { isLetter($0) || isDigit($0) || $0 == 95 || $0 == 45 || $0 == 46 }
    }
}
