package import AegisCore

/// A model that can be asked: its provider, its id there, its bounds and its price.
package struct ModelEntry: Sendable, Hashable {
    /// The provider's name.
    package let provider: String
    /// Its entry in the configuration.
    package let section: ModelSection

    /// `provider/model`, which names it without doubt.
    package var id: String { "\(provider)/\(section.model)" }
    /// The provider's id of the model.
    package var model: String { section.model }
    /// How many tokens question and answer may have together.
    package var contextWindow: Int { section.contextWindow }
}

/// Every model of the configuration by the names that it has, and what is asked when one fails. Never changes.
package struct ModelCatalog: Sendable {
    /// All models, in the order of the file.
    package let entries: [ModelEntry]
    private let byName: [String: Int]
    private let chains: [Int: [Int]]
    private let ambiguous: [String: [String]]

    /// Gathers the models of all providers that are enabled and checks what refers to them.
    ///
    /// - Throws: `invalid-config` for a name that two have, a fallback that names none, or fallbacks that lead in a circle.
    package init(providers: [ProviderSection], selection: SelectionSection) throws(AegisError) {
        try self.init(
            models: providers.filter(\.isEnabled).map { ($0.name, $0.models) }, fallback: selection.fallback)
    }

    init(
        models: [(provider: String, models: [ModelSection])], fallback: [(key: String, value: [String])]
    ) throws(AegisError) {
        var entries: [ModelEntry] = []
        var byName: [String: Int] = [:]
        var bare: [String: [Int]] = [:]
        var problems: [String] = []
        func claim(_ name: String, _ index: Int, _ what: String) {
            if let other = byName[name] {
                problems.append("spec.llm_providers: \(what) '\(name)' stands at \(entries[other].id) already")
            } else {
                byName[name] = index
            }
        }
        var names: Set<String> = []
        for (provider, models) in models {
            if !names.insert(provider).inserted {
                problems.append("spec.llm_providers: two providers are called '\(provider)'")
                continue
            }
            for section in models {
                let entry = ModelEntry(provider: provider, section: section)
                entries.append(entry)
                claim(entry.id, entries.count - 1, "the model")
                bare[section.model, default: []].append(entries.count - 1)
                if let alias = section.alias { claim(alias, entries.count - 1, "the alias") }
            }
        }
        // A provider's id alone is a name as well, as long as only one has it and no alias is spelled so.
        ambiguous = bare.filter { $0.value.count > 1 && byName[$0.key] == nil }
            .mapValues { $0.map { entries[$0].id } }
        for (model, found) in bare where found.count == 1 && byName[model] == nil { byName[model] = found[0] }
        self.entries = entries
        self.byName = byName
        chains = Self.chains(fallback, byName, entries, &problems)
        guard problems.isEmpty else {
            throw AegisError(.usage, "invalid-config", problems.joined(separator: "\n"))
        }
    }

    /// The models that are asked for a name, one after the other, each once.
    ///
    /// - Parameter name: an alias, `provider/model`, or a provider's id that only one provider has.
    /// - Returns: at least one.
    /// - Throws: `model-unknown` with the nearest name.
    package func resolve(_ name: String) throws(AegisError) -> [ModelEntry] {
        guard let first = byName[name] else {
            if let several = ambiguous[name] {
                throw AegisError(
                    .usage, "model-unknown", "several providers have a model '\(name)'",
                    hint: "name one: \(several.joined(separator: ", "))")
            }
            let near = nearest(name, in: byName.keys.sorted()).map { "did you mean '\($0)'?" }
            throw AegisError(
                .notFound, "model-unknown", "no model is called '\(name)'",
                hint: near
                    ?? (entries.isEmpty
                        ? "the configuration has no llm_providers"
                        : "known: \(aliases.isEmpty ? entries.map(\.id).joined(separator: ", ") : aliases.joined(separator: ", "))")
            )
        }
        return ([first] + (chains[first] ?? [])).map { entries[$0] }
    }

    /// The aliases that manifests may use, in the order of the file.
    package var aliases: [String] { entries.compactMap(\.section.alias) }

    /// What follows each model, with the fallbacks of its fallbacks, nearest first.
    private static func chains(
        _ fallback: [(key: String, value: [String])], _ byName: [String: Int], _ entries: [ModelEntry],
        _ problems: inout [String]
    ) -> [Int: [Int]] {
        var direct: [Int: [Int]] = [:]
        for (key, value) in fallback {
            let found = ([key] + value).map { name -> Int? in
                if let index = byName[name] { return index }
                let near = nearest(name, in: byName.keys.sorted()).map { "; did you mean '\($0)'?" } ?? ""
                problems.append("spec.llm_selection.fallback.\(key): no model is called '\(name)'\(near)")
                return nil
            }
            guard let first = found[0] else { continue }
            if direct[first] != nil {
                problems.append("spec.llm_selection.fallback.\(key): \(entries[first].id) has fallbacks already")
            }
            direct[first] = found.dropFirst().compactMap(\.self)
        }
        var chains: [Int: [Int]] = [:]
        for start in direct.keys.sorted() {
            var chain: [Int] = []
            if let circle = walk(start, [start], direct, &chain) {
                let words = circle.map { entries[$0].section.alias ?? entries[$0].id }
                problems.append("spec.llm_selection.fallback leads in a circle: \(words.joined(separator: " -> "))")
                return chains
            }
            chains[start] = chain
        }
        return chains
    }

    /// Appends what follows a model; returns the path when it comes back to where it has been.
    private static func walk(_ at: Int, _ path: [Int], _ direct: [Int: [Int]], _ chain: inout [Int]) -> [Int]? {
        for next in direct[at] ?? [] {
            if path.contains(next) { return path + [next] }
            guard !chain.contains(next) else { continue }
            chain.append(next)
            if let circle = walk(next, path + [next], direct, &chain) { return circle }
        }
        return nil
    }
}
