import AegisCore

extension Capability {
    /// Reads a capability: `KIND: RESOURCE`, or `web_search` alone.
    ///
    /// - Throws: where it cannot be read, and the nearest that can.
    package init(parsing text: String) throws(CapabilityError) {
        do throws(CapabilityError) { self = try Self.parse(text) } catch {
            // What is proposed is proposed in canonical form, and can be read.
            var error = error
            error.nearest = error.nearest.flatMap { try? Self.parse($0).description }
            throw error
        }
    }

    private static func parse(_ text: String) throws(CapabilityError) -> Capability {
        guard text.utf8.count <= 8192 else {
            throw ValueProblem(0, "a capability has at most 8192 bytes").within("", at: 0)
        }
        let trimmed = text.trimmingSpaces
        if trimmed == "web_search" { return .network(.webSearch) }
        guard let colon = text.firstIndex(of: ":") else { throw withoutColon(text, trimmed) }
        let word = text[..<colon].trimmingSpaces
        let after = text[text.index(after: colon)...]
        let value = after.trimmingSpaces
        let valueStart = text.utf8.count - after.drop { $0 == " " }.utf8.count
        guard let kind = CapabilityKind(rawValue: word) ?? aliases[word] else {
            throw unknownKind(word, value, text)
        }
        do throws(ValueProblem) {
            guard !value.isEmpty else {
                throw ValueProblem(0, "there is nothing behind '\(word):'; for example '\(example(kind))'")
            }
            return try read(kind, value)
        } catch {
            throw error.within(text, at: valueStart, prefix: "\(kind.rawValue): ")
        }
    }

    /// Other spellings, which are read and shown as the canonical one.
    static let aliases: [String: CapabilityKind] = ["spawn_child": .spawn]

    /// Reads what stands behind the kind.
    static func read(_ kind: CapabilityKind, _ value: String) throws(ValueProblem) -> Capability {
        switch kind {
        case .tool: value == "*" ? .tool(nil) : .tool(try NameRule.tool.check(value))
        case .fileRead: .fileRead(try PathPattern(parsing: value))
        case .fileWrite: .fileWrite(try PathPattern(parsing: value))
        case .network: .network(try NetworkPattern(parsing: value))
        case .exec: .exec(try program(value))
        case .spawn: .spawn(try NameSet(parsing: value, .agent))
        case .model: .model(try NameRule.model.check(value))
        case .memory: .memory(try NameRule.scope.check(value))
        case .message: .message(try NameSet(parsing: value, .agent))
        case .secret: .secret(try SecretBinding(parsing: value))
        }
    }

    private static func program(_ value: String) throws(ValueProblem) -> ProgramPattern {
        if value == "*" { return .any }
        guard value.hasPrefix("/") else {
            if let space = value.utf8.firstIndex(of: 0x20) {
                let name = String(value[..<space])
                throw ValueProblem(
                    name.utf8.count, "a grant names a program without its arguments",
                    nearest: try? NameRule.program.check(name))
            }
            if value.contains("/") {
                throw ValueProblem(0, "a program is a bare name or an absolute path inside")
            }
            return .name(try NameRule.program.check(value))
        }
        let pattern = try PathPattern(parsing: value)
        guard pattern.isLiteral, let path = CanonicalPath(value), path.count > 0 else {
            throw ValueProblem(0, "a program is one path; '*' alone means every program")
        }
        return .path(path)
    }

    /// A valid capability of a kind, for messages.
    static func example(_ kind: CapabilityKind) -> String {
        let value =
            switch kind {
            case .tool: "web_fetch"
            case .fileRead: "/workspace/**"
            case .fileWrite: "/workspace/output/**"
            case .network: "example.com:443"
            case .exec: "git"
            case .spawn, .message: "[writer]"
            case .model: "default"
            case .memory: "self"
            case .secret: "API_TOKEN@api.example.com"
            }
        return "\(kind.rawValue): \(value)"
    }

    private static func withoutColon(_ text: String, _ trimmed: String) -> CapabilityError {
        guard !trimmed.isEmpty else {
            return ValueProblem(0, "a capability is missing: 'KIND: RESOURCE'").within(text, at: 0)
        }
        let word = String(trimmed.prefix { $0 != " " && $0 != "=" })
        let rest = String(trimmed.dropFirst(word.count).drop { $0 == " " || $0 == "=" })
        if let kind = CapabilityKind(rawValue: word) ?? aliases[word] {
            let near = rest.isEmpty ? nil : try? read(kind, rest).description
            let problem = "after '\(word)' comes ': RESOURCE'"
            return ValueProblem(word.utf8.count, problem, nearest: near ?? example(kind)).within(text, at: 0)
        }
        let near = nearestKind(word)
        let known = near.map { $0 == "web_search" ? $0 : CapabilityKind(rawValue: $0).map(example) ?? $0 }
        return ValueProblem(0, "'\(shown(trimmed))' is not a capability: \(kinds)", nearest: known).within(text, at: 0)
    }

    private static func unknownKind(_ word: String, _ value: String, _ text: String) -> CapabilityError {
        let problem: String
        if word == "web_search" {
            return ValueProblem(
                word.utf8.count, "'web_search' stands alone; for single hosts write 'network:'",
                nearest: (try? read(.network, value).description) ?? "web_search"
            ).within(text, at: 0)
        }
        let near = nearestKind(word).flatMap { $0 == "web_search" ? .network : CapabilityKind(rawValue: $0) }
        problem =
            word.isEmpty ? "the kind is missing: \(kinds)" : "'\(shown(word))' is not a kind of capability: \(kinds)"
        var nearest: String?
        if let near {
            do { nearest = try read(near, value).description } catch {
                nearest = error.nearest.map { "\(near.rawValue): \($0)" } ?? example(near)
            }
        }
        return ValueProblem(0, problem, nearest: nearest).within(text, at: 0)
    }

    private static let kinds = CapabilityKind.allCases.map(\.rawValue).joined(separator: ", ")

    private static func nearestKind(_ word: String) -> String? {
        let words = CapabilityKind.allCases.map(\.rawValue) + ["web_search"] + aliases.keys
        let lower = word.lowercased().replacing("-", with: "_")
        let near = words.contains(lower) ? lower : nearest(lower, in: words)
        return near.map { aliases[$0]?.rawValue ?? $0 }
    }
}
