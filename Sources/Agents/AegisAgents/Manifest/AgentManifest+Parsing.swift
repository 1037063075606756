internal import AegisCapabilities
package import AegisConfig
package import AegisCore
internal import AegisJSON
internal import AegisSandboxTypes
internal import AegisTools

/// Reads the file of a system prompt, with the rights of whoever gave the manifest.
package typealias PromptReader = @Sendable (String) throws(AegisError) -> String

extension AgentManifest {
    /// The longest manifest, in bytes.
    package static let limit = 256 << 10
    /// The longest system prompt, in bytes.
    package static let promptLimit = 128 << 10

    /// Reads a manifest, strictly.
    ///
    /// - Parameters:
    ///   - file: its name and content.
    ///   - quotesValues: whether messages may show what it says.
    ///   - prompt: reads the file that `system_prompt: {file: PATH}` names, as whoever gave the manifest may.
    /// - Throws: `invalid-config` with everything that is wrong, each with line and column.
    package init(
        _ file: ConfigFile, quotesValues: Bool = true, prompt: @escaping PromptReader
    ) throws(AegisError) {
        guard file.bytes.count <= Self.limit else {
            throw AegisError(
                .tooLarge, "manifest-too-large", "\(file.name) has \(file.bytes.count) bytes; \(Self.limit) are read",
                hint: "put long texts into files: system_prompt: {file: PATH}")
        }
        let manifest = try ConfigDocument.read(
            file, quotesValues: quotesValues, substitutes: false
        ) { ManifestReader(prompt: prompt).manifest($0) }
        self = manifest
        do { capabilities = try GrantSpec.completed(manifest.capabilities, model: manifest.model) } catch {
            throw .usage("model: \(error)")
        }
        // The grant of its own model is implied; that of another one is not (decision D31).
        if let other = memory.summarizationModel, !capabilities.contains(where: { $0.capability.allows(.model(other)) })
        {
            throw AegisError(
                .usage, "invalid-config",
                "\(file.name): memory.summarization_model names '\(quotesValues ? other : "a model")', which no capability grants",
                hint:
                    "add \"model: \(quotesValues ? other : "NAME")\" to capabilities, or leave it out: then its own model summarises"
            )
        }
    }
}

/// Reads the keys of an agent's manifest.
struct ManifestReader {
    let prompt: PromptReader

    func manifest(_ reader: ConfigReader) -> AgentManifest {
        let name = reader.require("name", placeholder: "agent") { name in
            // Where an agent or instance is gone its id must not find another one, of somebody else perhaps.
            if AgentRecord.isID(name) { return "has the form of an agent's id" }
            return Names.isInstanceID(name) ? "has the form of an instance's id" : Self.problem(kind: "spawn", name)
        }
        let model = reader.require("model", placeholder: "default") { Self.problem(kind: "model", $0) }
        var manifest = AgentManifest(name: name, model: model)
        manifest.systemPrompt = systemPrompt(reader)
        manifest.capabilities = reader.readRaw("capabilities") { Grants.read($0, problem: $1) } ?? []
        manifest.approvalRequired = reader.readList("approval_required", of: String.self) {
            Self.problem(kind: "tool", $0)
        }
        manifest.lifecycle = lifecycle(reader)
        manifest.memory = reader.section("memory") { memory($0) }
        manifest.budget = reader.sectionIfPresent("budget_config") { BudgetReader.read($0) }
        manifest.metadata =
            reader.readRaw("metadata") { node, problem in
                guard case .map = node.content, let fields = node.json.fields else {
                    problem(node, "expected a map")
                    return nil
                }
                return fields
            } ?? []
        manifest.sandbox = reader.sectionIfPresent("sandbox") { SandboxReader.read($0, manifest.capabilities) }
        manifest.accepts = reader.readRaw("accepts") { node, problem in
            guard case .map = node.content else {
                problem(node, "expected a JSON Schema, which is a map")
                return nil
            }
            do { _ = try JSONSchema(node.json) } catch {
                problem(node, "it is no JSON Schema that can be checked: \(error)")
                return nil
            }
            return node.json
        }
        manifest.restart = restart(reader)
        if manifest.restart.policy != .never, !manifest.isPersistent {
            reader.report("restart needs lifecycle: persistent or scheduled; an on-demand agent goes with its answer")
        }
        manifest.maxIterations = reader.readIfPresent("max_iterations", check: Self.range(1...10_000))
        manifest.maxTurnTokens = reader.readIfPresent("max_turn_tokens", check: BudgetTokens.turnProblem).map {
            Int(clamping: $0.count)
        }
        manifest.maxOutputTokens = reader.read(
            "max_output_tokens", default: manifest.maxOutputTokens, check: Self.range(1...1_000_000))
        return manifest
    }

    private func systemPrompt(_ reader: ConfigReader) -> String {
        reader.readRaw("system_prompt") { node, problem -> String? in
            let text: String
            switch node.content {
            case .scalar(let inline, _): text = inline
            case .map(let entries) where entries.count == 1 && entries[0].key == "file":
                guard case .scalar(let path, _) = entries[0].value.content else {
                    problem(entries[0].value, "the file is named by its path")
                    return nil
                }
                do throws(AegisError) { text = try prompt(path) } catch {
                    problem(entries[0].value, error.message)
                    return nil
                }
            default:
                problem(node, "expected a text, or {file: PATH}")
                return nil
            }
            guard text.utf8.count <= AgentManifest.promptLimit else {
                problem(node, "it has \(text.utf8.count) bytes; at most \(AgentManifest.promptLimit) are sent")
                return nil
            }
            return text
        } ?? ""
    }

    private func lifecycle(_ reader: ConfigReader) -> AgentManifest.Lifecycle {
        let words = ["on-demand", "persistent", "scheduled"]
        var schedule: CronSchedule?
        var isGiven = false
        _ = reader.readIfPresent("schedule", as: String.self) { text in
            isGiven = true
            do throws(AegisError) {
                schedule = try CronSchedule(parsing: text)
                return nil
            } catch { return "is wrong: \(error.message)" + (error.hint.map { "; \($0)" } ?? "") }
        }
        let word = reader.read("lifecycle", default: "on-demand") { word in
            let word = word == "on_demand" ? "on-demand" : word
            guard !words.contains(word) else { return nil }
            let near = nearest(word, in: words).map { "; did you mean '\($0)'?" } ?? ""
            return "must be one of \(words.joined(separator: ", "))\(near)"
        }
        switch (word, schedule) {
        case ("scheduled", let schedule?): return .scheduled(schedule)
        case ("scheduled", nil):
            if !isGiven { reader.report("lifecycle: scheduled needs a schedule, as in schedule: '*/15 * * * *'") }
            return .persistent
        case (_, .some):
            reader.report("a schedule needs lifecycle: scheduled")
            return .persistent
        case ("persistent", nil): return .persistent
        default: return .onDemand
        }
    }

    /// A word, or a map with one.
    private func restart(_ reader: ConfigReader) -> AgentManifest.Restart {
        var value = AgentManifest.Restart()
        let words = AgentManifest.Restart.Policy.allCases.map(\.rawValue)
        func wrong(_ word: String) -> String? {
            guard !words.contains(word) else { return nil }
            let near = nearest(word, in: words).map { "; did you mean '\($0)'?" } ?? ""
            return "must be one of \(words.joined(separator: ", "))\(near)"
        }
        let word = reader.readRaw("restart") { node, problem -> String? in
            guard case .scalar(let text, _) = node.content else { return nil }
            if let wrong = wrong(text) { problem(node, wrong) }
            return text
        }
        if let word {
            value.policy = AgentManifest.Restart.Policy(rawValue: word) ?? .never
            return value
        }
        return reader.sectionIfPresent("restart") { restart in
            let word = restart.read("policy", default: "on-failure", check: wrong)
            value.policy = AgentManifest.Restart.Policy(rawValue: word) ?? .never
            value.attempts = restart.read("attempts", default: value.attempts, check: Self.range(0...100))
            value.pause = restart.read("pause", default: value.pause) {
                $0.milliseconds <= 86_400_000 ? nil : "must be at most 24h"
            }
            return value
        } ?? value
    }

    private func memory(_ reader: ConfigReader) -> AgentManifest.Memory {
        var memory = AgentManifest.Memory()
        memory.contextWindow = reader.readIfPresent("context_window", as: TokenCount.self)?.tokens
        memory.maxHistoryMessages = reader.read(
            "max_history_messages", default: memory.maxHistoryMessages, check: Self.range(4...100_000))
        memory.summarizationModel = reader.readIfPresent("summarization_model") { Self.problem(kind: "model", $0) }
        memory.summarizationThreshold = reader.read(
            "summarization_threshold", default: memory.summarizationThreshold
        ) { (0.1...0.95).contains($0) ? nil : "must be 0.1 to 0.95, a part of the window" }
        memory.archiveTTLDays = reader.readIfPresent("archive_ttl_days", check: Self.range(1...36_500))
        memory.episodicEnabled = reader.read("episodic_enabled", default: memory.episodicEnabled)
        memory.isPersistent = reader.read("persistent", default: memory.isPersistent)
        memory.episodicMaxRecords = reader.read(
            "episodic_max_records", default: memory.episodicMaxRecords, check: Self.range(1...1_000_000))
        memory.episodicMaxContentBytes = reader.read(
            "episodic_max_content_bytes", default: memory.episodicMaxContentBytes, check: Self.range(1...65_536))
        return memory
    }

    // MARK: Small checks

    static func problem(_ check: () throws(AegisError) -> Void) -> String? {
        do {
            try check()
            return nil
        } catch { return "is wrong: \(error.message)" + (error.hint.map { "; \($0)" } ?? "") }
    }

    /// A name follows the rule of the capability that names such things.
    static func problem(kind: String, _ name: String) -> String? {
        do throws(CapabilityError) {
            let capability = try Capability(parsing: "\(kind): \(name)")
            return [name, "[\(name)]"].contains(capability.resource) && name != "*" ? nil : "must be one name"
        } catch {
            let near = error.nearest.flatMap { try? Capability(parsing: $0) }.map { capability in
                "; did you mean '\(capability.resource.filter { $0 != "[" && $0 != "]" })'?"
            }
            return "is wrong: \(error.problem)" + (near ?? "")
        }
    }

    static func range(_ range: ClosedRange<Int>) -> (Int) -> String? {
        { range.contains($0) ? nil : "must be \(range.lowerBound) to \(range.upperBound)" }
    }
}

/// A number of tokens: `128000`, or `128k`, which is 128 × 1024 as in the manifests of old.
struct TokenCount: ConfigScalar, Equatable {
    var tokens: Int

    init(tokens: Int) { self.tokens = tokens }

    init?(configText text: String) {
        let isThousands = text.hasSuffix("k") || text.hasSuffix("K")
        let digits = isThousands ? String(text.dropLast()) : text.replacing("_", with: "")
        guard !digits.isEmpty, digits.utf8.allSatisfy({ (48...57).contains($0) }), let number = Int(digits),
            number <= 1_000_000_000
        else { return nil }
        tokens = isThousands ? number * 1024 : number
    }

    static var expectation: String { "a number of tokens (as 128000 or 128k)" }
    var configText: String { "\(tokens)" }
}

/// The list of capabilities: texts, and maps with limits.
private enum Grants {
    static func read(_ node: ConfigNode, problem: (ConfigNode, String) -> Void) -> [GrantSpec] {
        guard case .list(let items) = node.content else {
            problem(node, "expected a list, as in ['tool: file_read', 'file_read: /workspace/**']")
            return []
        }
        guard items.count <= 256 else {
            problem(node, "\(items.count) are too many: at most 256, and a pattern can stand for many")
            return []
        }
        return items.compactMap { item in
            do throws(CapabilityError) { return try grant(item, problem) } catch {
                problem(item, "\(error)")
                return nil
            }
        }
    }

    private static func grant(
        _ item: ConfigNode, _ problem: (ConfigNode, String) -> Void
    ) throws(CapabilityError) -> GrantSpec? {
        switch item.content {
        case .scalar(let text, _): return try GrantSpec(parsing: text)
        case .list:
            problem(item, "a capability is a text, as in 'tool: file_read'")
            return nil
        case .map(let entries):
            var fields: [GrantField] = []
            for entry in entries {
                switch entry.value.content {
                case .scalar(let text, _): fields.append(GrantField(entry.key, .text(text)))
                case .list(let names):
                    let texts = names.compactMap { name -> String? in
                        if case .scalar(let text, _) = name.content { text } else { nil }
                    }
                    fields.append(GrantField(entry.key, .list(texts)))
                case .map:
                    problem(entry.value, "'\(entry.key)' is a text or a list")
                    return nil
                }
            }
            return try GrantSpec(fields: fields)
        }
    }
}

extension ConfigNode {
    /// The value as JSON, plain scalars typed as YAML's core schema has it (YAML 1.2.2, section 10.3.2).
    var json: JSONValue {
        switch content {
        case .list(let items): .array(items.map(\.json))
        case .map(let entries): .object(entries.map { JSONValue.Field($0.key, $0.value.json) })
        case .scalar(let text, let plain):
            if !plain {
                .string(text)
            } else if isNull {
                .null
            } else if ["true", "True", "TRUE"].contains(text) {
                .bool(true)
            } else if ["false", "False", "FALSE"].contains(text) {
                .bool(false)
            } else if let number = try? JSONValue(parsing: text.utf8), case .number = number {
                number
            } else {
                .string(text)
            }
        }
    }
}
