/// Where a brokered secret may be put: `NAME@HOST[/PATH][,header=H][,methods=GET+POST]` (decision D19).
package struct SecretBinding: Hashable, Sendable, CustomStringConvertible {
    /// The secret's name, which is that of the variable inside.
    package let name: String
    /// The only host.
    package let host: HostName
    /// The only path with what lies below it; nil is any.
    package let path: String?
    /// The only header, in lower case; nil is one of `usualHeaders`.
    package let header: String?
    /// The only methods, in order; empty is any.
    package let methods: [String]

    /// Where credentials usually stand.
    package static let usualHeaders = ["api-key", "authorization", "private-token", "x-api-key", "x-goog-api-key"]

    /// Whether a use is one of those that are meant.
    package func matches(_ use: SecretUse) -> Bool {
        guard use.name == name, use.host == host else { return false }
        let used = String(decoding: use.header.utf8.map(Letters.lowered), as: UTF8.self)
        guard header.map({ $0 == used }) ?? Self.usualHeaders.contains(used) else { return false }
        return covers(host: use.host, method: use.method, path: use.path)
    }

    /// Whether a request is one of those that the secret may be used in, whether it is used or not.
    package func covers(host: HostName, method: String, path: String) -> Bool {
        host == self.host && (methods.isEmpty || methods.contains(method))
            && (self.path.map { Self.isPlain(path, below: $0) } ?? true)
    }

    /// Whether a request's path is the bound one or below it, and written so that no server reads it differently.
    private static func isPlain(_ path: String, below bound: String) -> Bool {
        let plain = path.prefix { $0 != "?" }
        guard isPath(String(plain)) || plain.hasSuffix("/") && isPath(String(plain.dropLast())) else { return false }
        return bound == "/" || plain == bound || plain.hasPrefix(bound + "/")
    }

    /// Whether a path has no escapes, no empty and no dotted components.
    private static func isPath(_ path: String) -> Bool {
        guard path != "/", !path.isEmpty else { return true }
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        return parts[0].isEmpty && parts.dropFirst().allSatisfy { !$0.isEmpty && $0 != "." && $0 != ".." }
            && path.utf8.allSatisfy { Letters.isAlphanumeric($0) || "/-._~!$&'()*+=:@".utf8.contains($0) }
    }

    /// Whether everything that the other binding means is meant by this one too.
    package func covers(_ other: SecretBinding) -> Bool {
        guard name == other.name, host == other.host else { return false }
        switch (header, other.header) {
        case (nil, nil): break
        case (nil, .some(let used)): guard Self.usualHeaders.contains(used) else { return false }
        case (.some(let own), let used): guard own == used else { return false }
        }
        guard methods.isEmpty || (!other.methods.isEmpty && other.methods.allSatisfy(methods.contains)) else {
            return false
        }
        guard let path else { return true }
        guard let wanted = other.path else { return false }
        return path == "/" || wanted == path || wanted.hasPrefix(path + "/")
    }

    /// The canonical text.
    package var description: String {
        "\(name)@\(host)" + (path ?? "") + (header.map { ",header=\($0)" } ?? "")
            + (methods.isEmpty ? "" : ",methods=" + methods.joined(separator: "+"))
    }

    private init(name: String, host: HostName, path: String?, header: String?, methods: [String]) {
        self.name = name
        self.host = host
        self.path = path
        self.header = header
        self.methods = methods
    }

    // MARK: Reading

    /// Reads a binding.
    ///
    /// - Throws: where it is none, and the nearest that is one.
    init(parsing text: String) throws(ValueProblem) {
        let parts = text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        let head = parts[0]
        guard let at = head.firstIndex(of: "@") else {
            throw ValueProblem(head.utf8.count, "a secret is bound to a host: NAME@HOST")
        }
        let name = try Self.variable(String(head[..<at]))
        let rest = String(head[head.index(after: at)...])
        let hostText = String(rest.prefix { $0 != "/" })
        let hostStart = name.utf8.count + 1
        let host: HostName
        do { host = try HostName(parsing: hostText) } catch { throw error.shifted(by: hostStart) { "\(name)@\($0)" } }
        guard !host.isLocalhost else { throw ValueProblem(hostStart, "no grant reaches the host that Aegis runs on") }
        let pathText = String(rest.dropFirst(hostText.count))
        guard Self.isPath(pathText) else {
            throw ValueProblem(
                hostStart + hostText.utf8.count, "a path has no empty or dotted parts, no escapes and no final '/'",
                nearest: Self.repaired(pathText).map { "\(name)@\(host)\($0)" })
        }
        var header: String?
        var methods: Set<String> = []
        var offset = head.utf8.count + 1
        for part in parts.dropFirst() {
            let near = "\(name)@\(host)\(pathText)"
            if part.hasPrefix("header="), header == nil {
                header = try Self.header(String(part.dropFirst(7)), at: offset + 7, near)
            } else if part.hasPrefix("methods="), methods.isEmpty {
                methods = try Self.methods(String(part.dropFirst(8)), at: offset + 8, near)
            } else {
                throw ValueProblem(
                    offset, "'\(shown(part))' is not an option, or is there twice (header=H, methods=GET+POST)",
                    nearest: near)
            }
            offset += part.utf8.count + 1
        }
        self.init(
            name: name, host: host, path: pathText.isEmpty ? nil : pathText, header: header, methods: methods.sorted())
    }

    private static func variable(_ text: String) throws(ValueProblem) -> String {
        let bytes = Array(text.utf8)
        let isName = bytes.allSatisfy { Letters.isAlphanumeric($0) || $0 == 0x5f }
        guard let first = bytes.first, isName, !Letters.isDigit(first), bytes.count <= 128 else {
            throw ValueProblem(0, "a secret's name is that of an environment variable (A-Z, a-z, 0-9 and _)")
        }
        return text
    }

    private static func header(_ text: String, at offset: Int, _ near: String) throws(ValueProblem) -> String {
        let bytes = text.utf8.map(Letters.lowered)
        guard !bytes.isEmpty, bytes.count <= 64,
            bytes.allSatisfy({ Letters.isAlphanumeric($0) || $0 == 0x2d || $0 == 0x5f })
        else { throw ValueProblem(offset, "'\(shown(text))' is not the name of a header", nearest: near) }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func methods(_ text: String, at offset: Int, _ near: String) throws(ValueProblem) -> Set<String> {
        let words = text.split(separator: "+", omittingEmptySubsequences: false).map(String.init)
        guard words.allSatisfy({ !$0.isEmpty && $0.utf8.count <= 16 && $0.utf8.allSatisfy(Letters.isUpper) }) else {
            let upper = words.filter { !$0.isEmpty && $0.utf8.allSatisfy(Letters.isAlphanumeric) }.map {
                $0.uppercased()
            }
            let isGood = upper.count == words.count && upper.allSatisfy { $0.utf8.allSatisfy(Letters.isUpper) }
            throw ValueProblem(
                offset, "methods are written in capitals, as in GET+POST",
                nearest: isGood ? near + ",methods=" + Set(upper).sorted().joined(separator: "+") : near)
        }
        return Set(words)
    }

    private static func repaired(_ path: String) -> String? {
        let parts = path.split(separator: "/").filter { $0 != "." }
        let text = "/" + parts.joined(separator: "/")
        return parts.contains("..") || !isPath(text) ? nil : text
    }
}
