/// The addresses of a page's links.
struct PageLink: Sendable {
    /// Links that are longer are not shown.
    static let longest = 2000
    private let scheme: Substring
    private let authority: Substring
    private let path: Substring

    /// What links of a page are relative to; nil for an address that is none.
    init?(_ address: String) {
        let lower = address.lowercased()
        guard lower.hasPrefix("http://") || lower.hasPrefix("https://"), address.utf8.count <= Self.longest,
            let slashes = address.firstRange(of: "://")
        else { return nil }
        scheme = address[..<slashes.lowerBound]
        let rest = address[slashes.upperBound...]
        authority = rest.prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        path = rest.dropFirst(authority.count).prefix { $0 != "?" && $0 != "#" }
        guard !authority.isEmpty else { return nil }
    }

    /// The whole address of a link; nil for one that leads nowhere else, or runs something.
    func resolve(_ reference: String) -> String? {
        let text = reference.unicodeScalars.filter { $0.value > 0x20 && $0.value != 0x7f }.reduce(into: "") {
            $0.unicodeScalars.append($1)
        }
        guard !text.isEmpty, !text.hasPrefix("#"), text.utf8.count <= Self.longest else { return nil }
        let head = text.prefix { $0 != ":" && $0 != "/" && $0 != "?" && $0 != "#" }
        let whole: String
        if head.count < text.count, text[head.endIndex] == ":" {
            guard ["http", "https", "mailto"].contains(head.lowercased()) else { return nil }
            whole = text
        } else if text.hasPrefix("//") {
            whole = "\(scheme):\(text)"
        } else if text.hasPrefix("/") {
            whole = "\(scheme)://\(authority)\(Self.cleaned(text[...]))"
        } else if text.hasPrefix("?") {
            whole = "\(scheme)://\(authority)\(path)\(text)"
        } else {
            let folder = path.lastIndex(of: "/").map { path[...$0] } ?? "/"
            whole = "\(scheme)://\(authority)\(Self.cleaned("\(folder)\(text)"))"
        }
        // What would end the link's mark.
        return Self.encoded(whole).replacing("(", with: "%28").replacing(")", with: "%29")
    }

    /// With what is not ASCII percent-encoded: no address has it otherwise, and some of it cannot be seen.
    private static func encoded(_ text: String) -> String {
        guard !text.utf8.allSatisfy({ $0 < 0x80 }) else { return text }
        let digits = Array("0123456789ABCDEF".utf8)
        let bytes = text.utf8.flatMap { $0 < 0x80 ? [$0] : [0x25, digits[Int($0 >> 4)], digits[Int($0 & 15)]] }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Without `.` and `..` in the path.
    private static func cleaned(_ text: Substring) -> String {
        let path = text.prefix { $0 != "?" && $0 != "#" }
        var parts: [Substring] = []
        let all = path.split(separator: "/", omittingEmptySubsequences: false).dropFirst()
        for (index, part) in all.enumerated() {
            guard part == "." || part == ".." else {
                parts.append(part)
                continue
            }
            if part == ".." { _ = parts.popLast() }
            if index == all.count - 1 { parts.append("") }
        }
        return "/" + parts.joined(separator: "/") + text.dropFirst(path.count)
    }
}
