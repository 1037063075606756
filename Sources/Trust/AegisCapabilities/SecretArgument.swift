package import AegisCore

/// What `--secret` says: a secret to put into the environment, or one that only the egress proxy knows.
package enum SecretArgument: Hashable, Sendable, CustomStringConvertible {
    /// `NAME`, or `*` for all: the value becomes a variable inside.
    case plain(String)
    /// `NAME@HOST[/PATH][,header=H][,methods=GET+POST]`: the variable holds a placeholder.
    case brokered(SecretBinding)

    /// The secret's name, or `*`.
    package var name: String {
        switch self {
        case .plain(let name): name
        case .brokered(let binding): binding.name
        }
    }

    /// The canonical text.
    package var description: String {
        switch self {
        case .plain(let name): name
        case .brokered(let binding): binding.description
        }
    }

    /// Reads the argument of `--secret`.
    ///
    /// - Throws: `invalid-argument` with the place, what is wrong there, and the nearest form that can be read.
    package init(parsing text: String) throws(AegisError) {
        if text == "*" || (!text.isEmpty && text.utf8.allSatisfy { Letters.isAlphanumeric($0) || $0 == 0x5f }) {
            guard text == "*" || !Letters.isDigit(text.utf8.first ?? 0x30), text.utf8.count <= 128 else {
                throw Self.error(text, ValueProblem(0, "a secret's name is that of an environment variable"))
            }
            self = .plain(text)
            return
        }
        if let misuse = Self.misuse(text) { throw misuse }
        guard text.utf8.count <= 4096 else {
            throw AegisError.usage("the argument of --secret is longer than 4096 bytes")
        }
        do throws(ValueProblem) {
            self = .brokered(try SecretBinding(parsing: text))
        } catch {
            var problem = error
            if problem.nearest == nil { problem.nearest = Self.repaired(text) }
            // Only what can be read is proposed.
            problem.nearest = problem.nearest.flatMap { try? SecretBinding(parsing: $0) }?.description
            throw Self.error(text, problem)
        }
    }

    /// What is meant as a value is not repeated anywhere; and a host that is a number gets a reason.
    ///
    /// - Returns: nil when the text is neither.
    package static func misuse(_ text: String) -> AegisError? {
        func belongs(_ c: Character) -> Bool { c == "_" || c.isASCII && (c.isLetter || c.isNumber) }
        let head = text.prefix { $0 != "@" && $0 != "," && $0 != "/" }
        if let end = head.firstIndex(of: "=") {
            let written = head[..<end]
            let shownName = !written.isEmpty && written.allSatisfy(belongs) ? String(written.prefix(128)) : "NAME"
            return .usage(
                "--secret takes the name of a stored secret, not its value (which is not shown here)",
                hint: "store it with 'aegis secret set \(shownName)', then give --secret \(shownName),"
                    + " or --secret \(shownName)@HOST for a placeholder")
        }
        let name = text.prefix(while: belongs)
        let rest = text.dropFirst(name.count)
        let host = rest.dropFirst().prefix { $0 != "/" && $0 != "," }
        guard !name.isEmpty, rest.first == "@", isAddress(host) else { return nil }
        return .usage(
            "--secret \(name)@\(shown(String(host))): an address cannot be used, only a host name",
            hint: "the server proves with its certificate that it is HOST, and an address can be anybody's;"
                + " where no name exists, --secret \(name) gives the value itself")
    }

    /// `10.0.0.1`, `10.0.0.1:443`, `[::1]`, `::1`
    private static func isAddress(_ host: Substring) -> Bool {
        if host.hasPrefix("[") || host.filter({ $0 == ":" }).count > 1 { return true }
        let parts = host.prefix { $0 != ":" }.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4 && parts.allSatisfy { UInt8($0) != nil }
    }

    private static func error(_ text: String, _ problem: ValueProblem) -> AegisError {
        let error = problem.within(text, at: 0)
        return .usage(
            "--secret '\(shown(text))', column \(error.column): \(error.problem)",
            hint: error.nearest.map { "the nearest valid form is \($0)" }
                ?? "NAME, or NAME@HOST[/PATH][,header=H][,methods=GET+POST]")
    }

    /// What people write instead: a URL for the host, its port, a colon for `@`, a final `/`.
    private static func repaired(_ text: String) -> String? {
        let name = text.prefix { $0 == "_" || $0.isASCII && ($0.isLetter || $0.isNumber) }
        var rest = text.dropFirst(name.count)
        guard !name.isEmpty, let sign = rest.first, "@: ".contains(sign) else { return nil }
        rest = rest.dropFirst()
        for scheme in ["https://", "http://"] where rest.hasPrefix(scheme) { rest = rest.dropFirst(scheme.count) }
        let options = rest.drop { $0 != "," }
        let place = rest.prefix { $0 != "," && $0 != "?" && $0 != "#" }
        var host = place.prefix { $0 != "/" }
        var path = place.dropFirst(host.count)
        if host.hasSuffix(":443") { host = host.dropLast(4) }
        if path.hasSuffix("/") { path = path.dropLast() }
        return "\(name)@\(host)\(path)\(options)"
    }
}
