/// What became of a text after the environment and the secret store were asked.
struct Expanded {
    var text: String
    /// `env:VAR` or `secret:NAME` as it was written: it is shown in place of the value.
    var reference: String?
}

/// Failure of a substitution: a message without place.
struct SubstitutionFailure: Error { let message: String }

/// `${VAR}`, `${VAR:-default}`, `env:VAR` and `secret:NAME`. Results are not expanded again.
struct Substitution {
    let environment: [String: String]
    let secret: ((String) throws -> String)?
    /// Whether anything is replaced at all.
    var isOn = true

    func expand(_ text: String) throws(SubstitutionFailure) -> Expanded {
        guard isOn else { return Expanded(text: text, reference: nil) }
        if let name = text.dropping(prefix: "env:") {
            guard Self.isName(name) else { throw SubstitutionFailure(message: "'\(text)' is not env:NAME") }
            guard let value = environment[name] else {
                throw SubstitutionFailure(message: "environment variable \(name) is not set")
            }
            return Expanded(text: value, reference: text)
        }
        if let name = text.dropping(prefix: "secret:") {
            guard Self.isName(name) else { throw SubstitutionFailure(message: "'\(text)' is not secret:NAME") }
            guard let secret else {
                throw SubstitutionFailure(
                    message: "secret:\(name) cannot be used here: this value is needed before the secret store is open")
            }
            do {
                return Expanded(text: try secret(name), reference: text)
            } catch {
                throw SubstitutionFailure(message: "secret:\(name) cannot be read: \(error)")
            }
        }
        return Expanded(text: try variables(text), reference: nil)
    }

    /// Replaces every `${...}`; `$${` stands for a literal `${`.
    private func variables(_ text: String) throws(SubstitutionFailure) -> String {
        var out = ""
        var rest = Substring(text)
        while let dollar = rest.firstIndex(of: "$") {
            out += rest[..<dollar]
            rest = rest[dollar...]
            if rest.hasPrefix("$${") {
                out += "${"
                rest = rest.dropFirst(3)
            } else if rest.hasPrefix("${") {
                guard let end = rest.firstIndex(of: "}") else {
                    throw SubstitutionFailure(
                        message: "'${' is not closed by '}'; write '$${' for the two characters themselves")
                }
                out += try variable(rest[..<end].dropFirst(2))
                rest = rest[end...].dropFirst()
            } else {
                out.append("$")
                rest = rest.dropFirst()
            }
        }
        return out + rest
    }

    private func variable(_ inside: Substring) throws(SubstitutionFailure) -> String {
        let name = inside.prefix { $0 != ":" }
        let tail = inside.dropFirst(name.count)
        guard Self.isName(name), tail.isEmpty || tail.hasPrefix(":-"), !tail.contains("${") else {
            throw SubstitutionFailure(message: "'${\(inside)}' is neither ${NAME} nor ${NAME:-default}")
        }
        if let value = environment[String(name)], !value.isEmpty || tail.isEmpty { return value }
        guard !tail.isEmpty else {
            throw SubstitutionFailure(
                message: "environment variable \(name) is not set; set it or write ${\(name):-default}")
        }
        return String(tail.dropFirst(2))
    }

    /// Whether a text is the name of an environment variable.
    static func isName(_ text: some StringProtocol) -> Bool {
        let letter: (UInt8) -> Bool = { (0x41...0x5a).contains($0) || (0x61...0x7a).contains($0) || $0 == 0x5f }
        guard let first = text.utf8.first, letter(first) else { return false }
        return text.utf8.allSatisfy { letter($0) || (0x30...0x39).contains($0) }
    }
}

extension String {
    func dropping(prefix: String) -> String? { hasPrefix(prefix) ? String(dropFirst(prefix.count)) : nil }
}
