package import AegisCore

/// One value as it is in force, with its origin: what `aegis config show` prints.
package struct ConfigEntry: Sendable, Equatable {
    /// `network.port`
    package let path: String
    /// The value's text; `•••` or the reference (`env:VAR`, `secret:NAME`) when it is a secret.
    package let value: String
    /// Where it comes from.
    package let origin: ConfigOrigin
}

/// What all readers of one configuration share: what overrides the file, and what was found wrong.
final class ConfigSession {
    var substitution: Substitution
    let overrides: Bool
    let quotesValues: Bool
    var flags: [String: ConfigFlag]
    var problems: [ConfigProblem] = []
    var entries: [ConfigEntry] = []
    /// The sections that were read, and every variable that sets one of their keys.
    var sections: Set<String> = []
    var variables: Set<String> = []

    init(environment: [String: String], flags: [ConfigFlag], overrides: Bool, quotesValues: Bool) {
        substitution = Substitution(environment: environment, secret: nil)
        self.flags = Dictionary(flags.map { ($0.path, $0) }) { _, last in last }
        self.overrides = overrides
        self.quotesValues = quotesValues
    }

    /// Reports variables of a section's name that set no key of it. An empty one counts as not set.
    func reportUnknownVariables() {
        let names = substitution.environment.filter { !$0.value.isEmpty && !variables.contains($0.key) }.keys.sorted()
        for section in sections.sorted() {
            let prefix = ConfigReader.variable(for: section) + "_"
            let known = variables.filter { $0.hasPrefix(prefix) }.sorted()
            for name in names where name.hasPrefix(prefix) {
                // The common beginning says nothing of how near two names are.
                let keys = known.map { String($0.dropFirst(prefix.count)) }
                let near = nearest(String(name.dropFirst(prefix.count)), in: keys).map {
                    "did you mean '\(prefix)\($0)'?"
                }
                let all =
                    known.isEmpty ? "its keys are set in the file only" : "known: \(known.joined(separator: ", "))"
                report(.environment(name), "it sets no key of spec.\(section); \(near ?? all)")
            }
        }
    }

    func report(_ origin: ConfigOrigin, _ message: String) {
        problems.append(ConfigProblem(origin: origin, message: message))
    }

    /// What a check says of a value. Where values must not be shown, only what cannot show one is told: "must be ..." and "expected ...",
    /// which say what would be right.
    func told(_ problem: String) -> String {
        if quotesValues || problem.hasPrefix("must be ") || problem.hasPrefix("expected ") { return problem }
        return "is wrong; what it says is not shown, for it was read from a file"
    }

    /// What stands there, for a message: short, without control characters, without a value that must not be shown.
    func found(_ node: ConfigNode) -> String {
        switch node.content {
        case .list: return "a list"
        case .map: return "a map"
        case .scalar where node.isNull: return "nothing"
        case .scalar(let text, _): return found(text)
        }
    }
    func found(_ text: String) -> String {
        guard quotesValues else { return "something else" }
        let short = text.unicodeScalars.prefix(40).map { $0.properties.generalCategory == .control ? "?" : String($0) }
        return "'\(short.joined())\(text.unicodeScalars.count > 40 ? "…" : "")'"
    }
}

/// Reads the keys of one map, each with its type, and remembers which keys there are.
///
/// A section reads **every** key that it knows, every time: what it did not ask for is unknown. Readers never throw: a
/// wrong value is reported with its place, the default is returned, and the caller learns of all problems at once.
package final class ConfigReader {
    let session: ConfigSession
    /// The path of this map without `spec`: `network`, `llm_providers[0]`.
    let path: String
    let prefix: String
    /// Where the map stands, for a key that is missing.
    private let place: ConfigOrigin
    private let entries: [ConfigNode.Entry]
    private var known: [String] = []
    private var accepted: Set<String> = []

    /// Makes the reader of a map; `prefix` is what messages put before the path.
    init(_ node: ConfigNode?, path: String, prefix: String, session: ConfigSession) {
        self.session = session
        self.path = path
        self.prefix = prefix
        place = node.map { .file($0.mark) } ?? .standard
        switch node?.content {
        case .map(let entries): self.entries = entries
        case .none: entries = []
        case .some:
            entries = []
            if let node, !node.isNull {
                session.report(.file(node.mark), "expected a map for \(whereabouts), found \(session.found(node))")
            }
        }
    }

    /// Where this map stands, for a check of its own that a section reports.
    package func report(_ message: String) { session.report(place, message) }

    // MARK: Scalars

    /// Reads a key, or returns the default when nothing sets it.
    ///
    /// - Parameters:
    ///   - key: the key's name.
    ///   - standard: the value in force when nothing is said.
    ///   - aliases: older spellings of the key.
    ///   - variables: environment variables that set it besides `AEGIS_<SECTION>_<KEY>`.
    ///   - check: says what is wrong with a value of the right type, or nil. What begins with "must be" must not repeat the value.
    /// - Returns: the value in force.
    package func read<T: ConfigScalar>(
        _ key: String, default standard: T, aliases: [String] = [], variables: [String] = [],
        check: ((T) -> String?)? = nil
    ) -> T {
        guard let value: T = readIfPresent(key, aliases: aliases, variables: variables, check: check) else {
            enter(key, standard.configText, .standard)
            return standard
        }
        return value
    }

    /// Reads a key; nil when nothing sets it (or when what sets it was reported as wrong).
    package func readIfPresent<T: ConfigScalar>(
        _ key: String, as type: T.Type = T.self, aliases: [String] = [], variables: [String] = [],
        check: ((T) -> String?)? = nil
    ) -> T? {
        guard let (node, origin) = lookup(key, aliases: aliases, variables: variables) else { return nil }
        guard let (value, shown) = scalar(node, origin, name(key), as: type, check: check) else { return nil }
        enter(key, shown, origin)
        return value
    }

    /// Reads a key that must be set; a missing one is reported, and `placeholder` stands in until the problems are thrown.
    package func require<T: ConfigScalar>(
        _ key: String, placeholder: T, aliases: [String] = [], variables: [String] = [], check: ((T) -> String?)? = nil
    ) -> T {
        let before = session.problems.count
        if let value: T = readIfPresent(key, aliases: aliases, variables: variables, check: check) { return value }
        if session.problems.count == before {
            session.report(place, "\(name(key)) is missing: expected \(T.expectation)")
        }
        return placeholder
    }

    /// Reads a text that is never shown, neither in messages nor by `config show`.
    package func readSecret(_ key: String, aliases: [String] = [], variables: [String] = []) -> Secret<String>? {
        guard let (node, origin) = lookup(key, aliases: aliases, variables: variables) else { return nil }
        guard case .scalar(let text, _) = node.content, !node.isNull else {
            session.report(origin, "expected a text for \(name(key)), found \(session.found(node))")
            return nil
        }
        guard let expanded = expand(text, origin, name(key)) else { return nil }
        enter(key, expanded.reference ?? "•••", origin)
        return Secret(expanded.text)
    }

    // MARK: What readers are made of

    /// How messages call a key: `spec.network.port`.
    func name(_ key: String) -> String { prefix + (path.isEmpty ? key : "\(path).\(key)") }
    private func plainPath(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

    func enter(_ key: String, _ value: String, _ origin: ConfigOrigin) {
        session.entries.append(ConfigEntry(path: plainPath(key), value: value, origin: origin))
    }

    /// What sets a key: flag, then variable, then file.
    func lookup(_ key: String, aliases: [String], variables: [String]) -> (ConfigNode, ConfigOrigin)? {
        let entry = fileEntry(key, aliases: aliases)
        if session.overrides {
            session.variables.insert(Self.variable(for: plainPath(key)))
            if let flag = session.flags.removeValue(forKey: plainPath(key)) {
                return (Self.override(flag.value), .flag(flag.name))
            }
            for variable in [Self.variable(for: plainPath(key))] + variables {
                // An empty variable is one that was not set: that is how service managers and shells leave it.
                guard let value = session.substitution.environment[variable], !value.isEmpty else { continue }
                return (Self.override(value), .environment(variable))
            }
        }
        return entry.map { ($0.value, .file($0.value.mark)) }
    }

    /// The entry of the file, and the key counted as known.
    func fileEntry(_ key: String, aliases: [String] = []) -> ConfigNode.Entry? {
        known.append(key)
        accepted.formUnion([key] + aliases)
        let found = entries.filter { $0.key == key || aliases.contains($0.key) }
        if found.count > 1 {
            let words = found.map { "'\($0.key)'" }.joined(separator: " and ")
            session.report(.file(found[1].mark), "\(words) in \(whereabouts) mean the same; keep '\(key)'")
        }
        return found.first { $0.key == key } ?? found.first
    }

    /// Expands and types a scalar; nil after a report.
    func scalar<T: ConfigScalar>(
        _ node: ConfigNode, _ origin: ConfigOrigin, _ name: String, as type: T.Type, check: ((T) -> String?)? = nil
    ) -> (value: T, shown: String)? {
        guard case .scalar(let text, _) = node.content, !node.isNull else {
            session.report(origin, "expected \(T.expectation) for \(name), found \(session.found(node))")
            return nil
        }
        guard let expanded = expand(text, origin, name) else { return nil }
        let hidden = expanded.reference.map { "the value of \($0)" }
        guard let value = T(configText: expanded.text) else {
            var message =
                "expected \(T.expectation) for \(name), found \(hidden ?? session.found(T.quotable(expanded.text)))"
            if hidden == nil, let near = nearest(expanded.text, in: T.words) { message += "; did you mean '\(near)'?" }
            session.report(origin, message)
            return nil
        }
        if let wrong = check?(value) {
            session.report(
                origin, "\(name) \(session.told(wrong)), found \(hidden ?? session.found(T.quotable(expanded.text)))")
            return nil
        }
        return (value, expanded.reference ?? value.configText)
    }

    private func expand(_ text: String, _ origin: ConfigOrigin, _ name: String) -> Expanded? {
        do {
            return try session.substitution.expand(text)
        } catch {
            session.report(origin, "\(error.message) (for \(name))")
            return nil
        }
    }

    /// How messages call this map.
    private var whereabouts: String {
        path.isEmpty ? (prefix.isEmpty ? "the file" : String(prefix.dropLast())) : prefix + path
    }

    /// Reports the keys that nobody asked for.
    func finish() {
        for entry in entries where !accepted.contains(entry.key) {
            let near = nearest(entry.key, in: known.sorted())
            let hint =
                near.map { "did you mean '\($0)'?" } ?? "known keys: \(Set(known).sorted().joined(separator: ", "))"
            session.report(.file(entry.mark), "unknown key \(Self.quoted(entry.key)) in \(whereabouts); \(hint)")
        }
    }

    private static func quoted(_ key: String) -> String {
        "'"
            + key.unicodeScalars.prefix(60).map { $0.properties.generalCategory == .control ? "?" : String($0) }
            .joined() + "'"
    }

    private static func override(_ text: String) -> ConfigNode {
        ConfigNode(.scalar(text, plain: false), at: SourceMark(file: "", line: 1, column: 1))
    }

    /// The environment variable of a path: `network.router_port` is `AEGIS_NETWORK_ROUTER_PORT`.
    package static func variable(for path: String) -> String {
        "AEGIS_" + String(path.map { $0 == "." || $0 == "-" ? "_" : $0 }).uppercased()
    }
}
