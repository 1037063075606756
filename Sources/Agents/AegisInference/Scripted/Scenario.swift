package import AegisConfig
package import AegisCore
internal import AegisJSON

/// What a scripted model answers, read from a YAML file; the format is described in `docs/models.md`.
package struct Scenario: Sendable {
    /// The `apiVersion` of the format.
    package static let apiVersion = "aegis/v1"

    /// How an answer that is none is made.
    enum Failure: Sendable, Hashable {
        case error(ModelError)
        /// Nothing ever comes.
        case hang
        /// The answer breaks off after so many characters of its text.
        case cut(after: Int)
    }
    /// What is asked for.
    struct Call: Sendable, Hashable {
        var name: String
        var input: ScenarioTree
        /// Arguments that are sent as they stand, JSON or not.
        var raw: ScenarioTemplate?
    }
    struct Reply: Sendable, Hashable {
        var text: ScenarioTemplate?
        var reasoning: ScenarioTemplate?
        var calls: [Call] = []
        var stop: StopReason?
        var usage: TokenUsage?
    }
    struct Rule: Sendable, Hashable {
        var name: String
        var agent: TextPattern?
        var model: TextPattern?
        var system: TextPattern?
        var message: TextPattern?
        var turn: Int?
        var tool: String?
        var result: TextPattern?
        var failed: Bool?
        /// How often the rule holds; nil is for ever.
        var times: Int?
        var reply = Reply()
        var failure: Failure?
        var latency: Duration
        /// How many characters a piece of the stream has.
        var piece: Int
        /// The pause before each piece.
        var pause: Duration
    }

    /// The file's name, for messages.
    let file: String
    let rules: [Rule]

    /// Reads a scenario.
    ///
    /// - Throws: `invalid-config` with everything that is wrong and where it stands.
    package init(_ file: ConfigFile) throws(AegisError) {
        self.file = file.name
        rules = try ConfigDocument.read(file, substitutes: false) { reader in
            _ = reader.require("apiVersion", placeholder: "") {
                $0 == Self.apiVersion ? nil : "must be \(Self.apiVersion)"
            }
            _ = reader.require("kind", placeholder: "") { $0 == "ModelScenario" ? nil : "must be ModelScenario" }
            let (latency, piece, pause) = ScenarioReader.pace(reader, latency: .zero, piece: 24, pause: .zero)
            var number = 0
            let rules = reader.sections("rules") { rule in
                number += 1
                return ScenarioReader.rule(rule, number, latency, piece, pause)
            }
            if rules.isEmpty { reader.report("the scenario has no rules") }
            return rules
        }
    }
}

/// Reads the parts of a scenario.
private enum ScenarioReader {
    static func pace(
        _ reader: ConfigReader, latency: Duration, piece: Int, pause: Duration
    ) -> (latency: Duration, piece: Int, pause: Duration) {
        func span(_ key: String, _ standard: Duration) -> Duration {
            reader.read(key, default: TimeSpan(milliseconds: standard.milliseconds)) {
                (0...3_600_000).contains($0.milliseconds) ? nil : "must be from 0s to 1h"
            }.duration
        }
        let piece = reader.read("piece", default: piece) {
            (1...1_000_000).contains($0) ? nil : "must be from 1 to 1000000 characters"
        }
        return (span("latency", latency), piece, span("pause", pause))
    }

    static func rule(
        _ reader: ConfigReader, _ number: Int, _ latency: Duration, _ piece: Int, _ pause: Duration
    ) -> Scenario.Rule {
        let name = reader.read("name", default: "rule \(number)")
        let pace = pace(reader, latency: latency, piece: piece, pause: pause)
        var rule = Scenario.Rule(name: name, latency: pace.latency, piece: pace.piece, pause: pace.pause)
        rule.times = reader.readIfPresent("times") { $0 >= 1 ? nil : "must be at least 1" }
        reader.section("when") { when in
            rule.agent = pattern(when, "agent")
            rule.model = pattern(when, "model")
            rule.system = pattern(when, "system")
            rule.message = pattern(when, "message")
            rule.turn = when.readIfPresent("turn") { $0 >= 1 ? nil : "must be at least 1" }
            rule.tool = when.readIfPresent("tool")
            rule.result = pattern(when, "result")
            rule.failed = when.readIfPresent("failed")
        }
        let captures = (rule.message?.wildcards ?? 0) + (rule.result?.wildcards ?? 0)
        let reply = reader.sectionIfPresent("reply") { Self.reply($0, captures) }
        rule.reply = reply ?? Scenario.Reply()
        rule.failure = reader.sectionIfPresent("fail") { fail($0, hasReply: reply != nil) } ?? nil
        switch (reply, rule.failure) {
        case (nil, nil): reader.report("\(name) has neither 'reply' nor 'fail'")
        case (.some, .error?), (.some, .hang?): reader.report("\(name) fails before it could reply; leave out 'reply'")
        default: break
        }
        return rule
    }

    private static func pattern(_ reader: ConfigReader, _ key: String) -> TextPattern? {
        reader.readIfPresent(key, as: String.self) { $0.isEmpty ? "must not be empty" : nil }.map { TextPattern($0) }
    }

    private static func reply(_ reader: ConfigReader, _ captures: Int) -> Scenario.Reply {
        var reply = Scenario.Reply()
        reply.text = template(reader, "text", captures)
        reply.reasoning = template(reader, "reasoning", captures)
        reply.calls = reader.sections("tools") { call in
            let name = call.require("name", placeholder: "") { $0.isEmpty ? "must not be empty" : nil }
            let raw = template(call, "raw", captures)
            let input = call.readRaw("input", isNullAValue: true) { tree($0, captures, $1) }
            if raw != nil, input != nil { call.report("a tool call has 'input' or 'raw', not both") }
            return Scenario.Call(name: name, input: input ?? .fixed(.object([])), raw: raw)
        }
        reply.stop = reader.readIfPresent("stop", as: String.self) {
            StopReason.known.contains($0) ? nil : "must be one of \(StopReason.known.joined(separator: ", "))"
        }.map { StopReason(word: $0) }
        reply.usage = reader.sectionIfPresent("usage") { usage in
            func count(_ key: String) -> Int { usage.read(key, default: 0) { $0 >= 0 ? nil : "must be at least 0" } }
            return TokenUsage(
                input: count("input"), output: count("output"), cacheRead: count("cache_read"),
                cacheWrite: count("cache_write"))
        }
        return reply
    }

    private static func template(_ reader: ConfigReader, _ key: String, _ captures: Int) -> ScenarioTemplate? {
        reader.readIfPresent(key, as: String.self) { problem($0, captures) }.flatMap { try? ScenarioTemplate($0) }
    }

    /// What is wrong with a template, for a rule whose patterns have so many `*`.
    private static func problem(_ text: String, _ captures: Int) -> String? {
        do throws(ScenarioFailure) {
            let used = try ScenarioTemplate(text).capturesUsed
            return used <= captures
                ? nil : "has '{{\(used)}}', but 'message' and 'result' of this rule have \(captures) '*' together"
        } catch {
            return error.message
        }
    }

    private static func tree(
        _ node: ConfigNode, _ captures: Int, _ report: (ConfigNode, String) -> Void
    ) -> ScenarioTree {
        switch node.content {
        case .list(let items): return .list(items.map { tree($0, captures, report) })
        case .map(let entries): return .object(entries.map(\.key), entries.map { tree($0.value, captures, report) })
        case .scalar(let text, let plain):
            if node.isNull { return .fixed(.null) }
            // A number, true or false without quotes is what it looks like; anything else is text.
            if plain, let value = try? JSONValue(parsing: text.utf8), value.text == nil { return .fixed(value) }
            if let wrong = problem(text, captures) { report(node, "the text '\(text)' \(wrong)") }
            return (try? ScenarioTemplate(text)).map { .template($0) } ?? .fixed(.string(text))
        }
    }

    private static func fail(_ reader: ConfigReader, hasReply: Bool) -> Scenario.Failure? {
        let status: Int? = reader.readIfPresent("status") {
            ScenarioStatus.kind(of: $0) == nil ? "must be one of 400, 401, 403, 404, 413, 429, 500, 502, 503, 529" : nil
        }
        let error: String? = reader.readIfPresent("error") {
            ScenarioStatus.kinds[$0] == nil
                ? "must be one of \(ScenarioStatus.kinds.keys.sorted().joined(separator: ", "))" : nil
        }
        let hangs = reader.read("hang", default: false)
        let cut: Int? = reader.readIfPresent("cut") { $0 >= 0 ? nil : "must be at least 0" }
        let after: TimeSpan? = reader.readIfPresent("retry_after")
        let message = reader.read("message", default: "the scenario says so")
        let ways = [status != nil, error != nil, hangs, cut != nil].count { $0 }
        guard ways == 1 else {
            reader.report("'fail' needs one of status, error, hang and cut")
            return nil
        }
        if let cut {
            if !hasReply { reader.report("'cut' needs a 'reply' that is cut") }
            return .cut(after: cut)
        }
        if hangs { return .hang }
        let kind = status.flatMap { ScenarioStatus.kind(of: $0) } ?? error.flatMap { ScenarioStatus.kinds[$0] }
        if after != nil, kind != .rateLimited, kind != .overloaded {
            reader.report("'retry_after' belongs to the statuses 429, 500, 502, 503 and 529")
        }
        return kind.map { .error(ModelError($0, status: status, retryAfter: after?.duration, message)) }
    }
}

/// How failures are called in a scenario.
enum ScenarioStatus {
    static let kinds: [String: ModelError.Kind] = Dictionary(
        uniqueKeysWithValues: [
            ModelError.Kind.auth, .notFound, .rateLimited, .overloaded, .invalidRequest,
            .contextTooLong, .network, .timeout, .cutStream, .badAnswer, .tooLarge,
        ].map { ($0.word, $0) })

    static func kind(of status: Int) -> ModelError.Kind? {
        switch status {
        case 400: .invalidRequest
        case 401, 403: .auth
        case 404: .notFound
        case 413: .contextTooLong
        case 429: .rateLimited
        case 500, 502, 503, 529: .overloaded
        default: nil
        }
    }
}

extension StopReason {
    /// The words that a scenario may use.
    static let known = [StopReason.endTurn, .toolUse, .maxTokens, .stopSequence, .refusal].map(\.word)
}
