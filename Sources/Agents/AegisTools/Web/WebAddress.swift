package import AegisCapabilities
package import AegisCore

/// The address of a page, read strictly: two readers of one text must not go to two hosts.
package struct WebAddress: Sendable, Hashable, CustomStringConvertible {
    package let isEncrypted: Bool
    /// The host as it is written, in lower case; an IPv6 address in brackets.
    package let host: String
    package let port: UInt16
    /// From `/` on, with the query.
    package let target: String

    /// Where a connection goes to.
    package let destination: Destination

    /// The longest that is taken, in bytes.
    static let longest = 4096

    /// Reads an absolute address.
    ///
    /// - Throws: `url-invalid` with what is wrong.
    package init(parsing text: String) throws(AegisError) {
        guard text.utf8.count <= Self.longest else {
            throw Self.invalid(text, "it is longer than \(Self.longest) bytes")
        }
        guard let bad = text.utf8.first(where: { $0 <= 0x20 || $0 >= 0x7f || $0 == 0x5c }) else {
            try self.init(plain: text)
            return
        }
        let what = bad == 0x20 ? "a space" : bad == 0x5c ? "a backslash" : "a character that is not plain ASCII"
        throw Self.invalid(text, "it contains \(what), which must be percent-encoded")
    }

    private init(plain text: String) throws(AegisError) {
        let scheme = text.prefix { $0 != ":" }.lowercased()
        guard scheme == "http" || scheme == "https" else {
            let hint = scheme == text.lowercased() ? "write it as https://\(Escaped.line(text, atMost: 200))" : nil
            throw Self.invalid(text, "only http and https are fetched", hint: hint)
        }
        let rest = text.dropFirst(scheme.count)
        guard rest.hasPrefix("://") else { throw Self.invalid(text, "'//' is missing after '\(scheme):'") }
        let authority = rest.dropFirst(3).prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        guard !authority.contains("@") else {
            throw Self.invalid(text, "it holds a user name, which is never sent")
        }
        let after = rest.dropFirst(3 + authority.count).prefix { $0 != "#" }
        let (host, port) = try Self.split(authority, scheme, text)
        guard let destination = Destination(host: host, port: port) else {
            throw Self.invalid(text, "'\(Escaped.line(host, atMost: 100))' is no host")
        }
        isEncrypted = scheme == "https"
        self.host = host
        self.port = port
        self.destination = destination
        let path = after.prefix { $0 != "?" }
        target = Self.cleaned(path) + after.dropFirst(path.count)
    }

    private static func split(
        _ authority: Substring, _ scheme: String, _ text: String
    ) throws(AegisError) -> (host: String, port: UInt16) {
        var host = authority
        var port: UInt16 = scheme == "https" ? 443 : 80
        let end = authority.hasPrefix("[") ? authority.firstIndex(of: "]") : authority.startIndex
        if let end, let colon = authority[end...].lastIndex(of: ":") {
            host = authority[..<colon]
            let digits = authority[authority.index(after: colon)...]
            if !digits.isEmpty {
                guard digits.utf8.allSatisfy({ (48...57).contains($0) }), let number = UInt16(digits), number > 0 else {
                    throw invalid(text, "'\(digits)' is no port")
                }
                port = number
            }
        }
        guard !host.isEmpty else { throw invalid(text, "the host is missing") }
        return (host.lowercased(), port)
    }

    private static func invalid(_ text: String, _ why: String, hint: String? = nil) -> AegisError {
        AegisError(
            .usage, "url-invalid", "'\(Escaped.line(text, atMost: 200))' cannot be fetched: \(why)", hint: hint)
    }

    /// A path without `.` and `..`.
    private static func cleaned(_ path: Substring) -> String {
        var parts: [Substring] = []
        let all = path.split(separator: "/", omittingEmptySubsequences: false).dropFirst()
        for (index, part) in all.enumerated() {
            let isLast = index == all.count - 1
            switch part {
            case ".", "..":
                if part == ".." { _ = parts.popLast() }
                if isLast { parts.append("") }
            default: parts.append(part)
            }
        }
        return "/" + parts.joined(separator: "/")
    }

    /// Where a redirect leads to.
    ///
    /// - Parameter reference: the `Location`: an address, or a part of one.
    /// - Returns: the whole address.
    /// - Throws: `url-invalid`.
    func following(_ reference: String) throws(AegisError) -> WebAddress {
        let head = reference.prefix { $0 != ":" && $0 != "/" && $0 != "?" && $0 != "#" }
        if head.count < reference.count, reference[head.endIndex] == ":" { return try WebAddress(parsing: reference) }
        let scheme = isEncrypted ? "https" : "http"
        if reference.hasPrefix("//") { return try WebAddress(parsing: "\(scheme):\(reference)") }
        let path = target.prefix { $0 != "?" }
        let whole: String
        if reference.hasPrefix("/") {
            whole = reference
        } else if reference.hasPrefix("?") {
            whole = path + reference
        } else if reference.isEmpty || reference.hasPrefix("#") {
            whole = target
        } else {
            whole = path[...(path.lastIndex(of: "/") ?? path.startIndex)] + reference
        }
        return try WebAddress(parsing: "\(scheme)://\(host):\(port)\(whole)")
    }

    /// The canonical text; the usual port is left out.
    package var description: String {
        let usual: UInt16 = isEncrypted ? 443 : 80
        return (isEncrypted ? "https://" : "http://") + host + (port == usual ? "" : ":\(port)") + target
    }

    /// Whether an address that the host was resolved to may be connected to.
    ///
    /// A name leads to no private network, whatever somebody's name server says. An address was granted as such.
    ///
    /// - Parameters:
    ///   - address: the address.
    ///   - refusal: why nothing may be connected to there, as far as that depends on grants and on where it is.
    /// - Returns: whether it may.
    func admits(_ address: String, unless refusal: (IPAddress) -> String?) -> Bool {
        guard let found = IPAddress(address) else { return false }
        switch destination.host {
        case .name: if AddressClass(found) != .open { return false }
        case .address(let named): if found != named { return false }
        }
        return refusal(found) == nil
    }
}
