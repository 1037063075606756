package import AegisCapabilities
package import AegisCore

/// A path as an agent writes it, cleaned as text: what it is called, before anything is opened.
package struct AgentPath: Sendable, Equatable {
    /// The name, without `.`, `..` and empty components.
    package let name: CanonicalPath
    /// Whether it is in the workspace, else at the host.
    package let isInWorkspace: Bool
    /// The components below `/workspace`, or below `/`.
    let parts: [[UInt8]]

    /// Reads a path.
    ///
    /// - Throws: `path-invalid` with the nearest path that is one.
    package init(_ text: String) throws(AegisError) {
        let bytes = Array(text.utf8)
        guard bytes.first == 0x2f else {
            let near = bytes.isEmpty ? "" : "/\(text)"
            throw Self.invalid(
                "a path starts with '/': the workspace is \(FileScope.workspaceName)",
                hint: "'\(FileScope.workspaceName)\(near)' is in the workspace")
        }
        guard !bytes.contains(0) else { throw Self.invalid("a path cannot contain a zero byte", hint: nil) }
        guard bytes.count <= CanonicalPath.longest else {
            throw Self.invalid("a path has at most \(CanonicalPath.longest) bytes", hint: nil)
        }
        var parts: [[UInt8]] = []
        for part in bytes.split(separator: 0x2f) where part != [0x2e] {
            if part == [0x2e, 0x2e] { _ = parts.popLast() } else { parts.append(Array(part)) }
        }
        guard let name = CanonicalPath(bytes: Self.joined(parts)) else {
            throw Self.invalid("a name in a path has at most \(CanonicalPath.longestComponent) bytes", hint: nil)
        }
        self.name = name
        isInWorkspace = parts.first == Array(FileScope.workspaceName.utf8.dropFirst())
        self.parts = isInWorkspace ? Array(parts.dropFirst()) : parts
    }

    private static func invalid(_ message: String, hint: String?) -> AegisError {
        AegisError(.usage, "path-invalid", message, hint: hint)
    }

    /// An absolute path of components.
    static func joined(_ parts: some Sequence<[UInt8]>) -> [UInt8] {
        var text: [UInt8] = []
        for part in parts {
            text.append(0x2f)
            text += part
        }
        return text.isEmpty ? [0x2f] : text
    }

    /// A path by the name that the kernel has for it.
    init(_ name: CanonicalPath) {
        let parts = name.bytes.split(separator: 0x2f).map(Array.init)
        self.name = name
        isInWorkspace = parts.first == Array(FileScope.workspaceName.utf8.dropFirst())
        self.parts = isInWorkspace ? Array(parts.dropFirst()) : parts
    }
}
