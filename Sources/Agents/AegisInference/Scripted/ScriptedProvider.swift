internal import AegisJSON
internal import Synchronization

/// Answers by a scenario: for demos and tests, without a network and the same every time.
package final class ScriptedProvider: ModelProvider {
    package let name: String
    private let scenario: Scenario
    private let time: InferenceTime
    /// How often each rule has answered.
    private let used: Mutex<[Int]>

    /// Joins a scenario and a time for its pauses.
    package init(name: String, scenario: Scenario, time: InferenceTime) {
        self.name = name
        self.scenario = scenario
        self.time = time
        used = Mutex(Array(repeating: 0, count: scenario.rules.count))
    }

    package func complete(
        _ request: ModelRequest, onDelta: @Sendable (ModelDelta) -> Void
    ) async throws(ModelError) -> ModelReply {
        var turn = ScenarioTurn(request)
        let rule = try choose(&turn)
        let reply: ModelReply
        do throws(ScenarioFailure) { reply = try answer(rule, turn, request) } catch {
            throw ModelError(.invalidRequest, "\(scenario.file): rule '\(rule.name)': \(error.message)")
        }
        try await wait(rule.latency)
        switch rule.failure {
        case .error(let error)?: throw error
        case .hang?:
            while true { try await wait(.seconds(3600)) }
        case .cut(let after)?:
            try await stream(reply, rule, atMost: after, onDelta)
            throw ModelError(.cutStream, "the stream ended after \(after) characters")
        case nil:
            try await stream(reply, rule, atMost: .max, onDelta)
            return reply
        }
    }

    private func wait(_ duration: Duration) async throws(ModelError) {
        do {
            try Task.checkCancellation()
            if duration > .zero { try await time.sleep(for: duration) }
        } catch {
            throw ModelError(.cancelled, "the caller gave up")
        }
    }

    // MARK: Which rule

    /// The first rule that fits and has turns left.
    private func choose(_ turn: inout ScenarioTurn) throws(ModelError) -> Scenario.Rule {
        var nearest: (rule: Scenario.Rule, misses: [String])?
        for (index, rule) in scenario.rules.enumerated() {
            var (captures, misses) = Self.compare(rule, turn)
            if misses.isEmpty {
                let isLeft = used.withLock { used in
                    guard used[index] < rule.times ?? .max else { return false }
                    used[index] += 1
                    return true
                }
                if isLeft {
                    turn.captures = captures
                    return rule
                }
                captures = []
                misses = ["times: \(rule.times ?? 0) (all had)"]
            }
            if nearest.map({ misses.count < $0.misses.count }) ?? true { nearest = (rule, misses) }
        }
        let results = turn.results.map { "\($0.tool)\($0.isError ? " (failed)" : ""): \(short($0.text))" }
        let asked =
            "turn \(turn.number) of agent '\(turn.agent)' with model '\(turn.model)', message \(short(turn.message))"
            + (results.isEmpty ? "" : ", results [\(results.joined(separator: "; "))]")
        let near = nearest.map { "; nearest is '\($0.rule.name)', but for \($0.misses.joined(separator: ", "))" } ?? ""
        throw ModelError(.invalidRequest, "\(scenario.file) has no rule for \(asked)\(near)")
    }

    /// What the `*` of a rule stand for, and which of its conditions the turn does not meet.
    private static func compare(_ rule: Scenario.Rule, _ turn: ScenarioTurn) -> ([String], [String]) {
        var captures: [String] = []
        var misses: [String] = []
        func check(_ pattern: TextPattern?, _ word: String, _ texts: [String], keeps: Bool = false) {
            guard let pattern else { return }
            guard let found = texts.lazy.compactMap({ pattern.match($0) }).first else {
                misses.append("\(word): \(pattern.source)")
                return
            }
            if keeps { captures += found }
        }
        // An agent and a model are meant by their whole names.
        for (pattern, word, name) in [(rule.agent, "agent", turn.agent), (rule.model, "model", turn.model)] {
            guard let pattern else { continue }
            let isMet = pattern.wildcards == 0 ? pattern.source == name : pattern.match(name) != nil
            if !isMet { misses.append("\(word): \(pattern.source)") }
        }
        check(rule.system, "system", [turn.system])
        check(rule.message, "message", [turn.message], keeps: true)
        if let number = rule.turn, number != turn.number { misses.append("turn: \(number)") }
        let results = turn.results.filter { rule.tool == nil || $0.tool == rule.tool }
        if let tool = rule.tool, results.isEmpty { misses.append("tool: \(tool)") }
        check(rule.result, "result", results.map(\.text), keeps: true)
        if let failed = rule.failed, !results.contains(where: { $0.isError == failed }) {
            misses.append("failed: \(failed)")
        }
        return (captures, misses)
    }

    private func short(_ text: String) -> String {
        let line = text.unicodeScalars.prefix(60).map { $0.value < 0x20 ? " " : String($0) }.joined()
        return "'\(line)\(text.unicodeScalars.count > 60 ? "…" : "")'"
    }

    // MARK: Its answer

    private func answer(
        _ rule: Scenario.Rule, _ turn: ScenarioTurn, _ request: ModelRequest
    ) throws(ScenarioFailure) -> ModelReply {
        var blocks: [ModelMessage.Block] = []
        if let reasoning = try rule.reply.reasoning?.fill(turn) {
            blocks.append(.reasoning(text: reasoning, signature: nil))
        }
        if let text = try rule.reply.text?.fill(turn), !text.isEmpty { blocks.append(.text(text)) }
        for (index, call) in rule.reply.calls.enumerated() {
            let id = "call_\(turn.number)_\(index + 1)"
            if let raw = try call.raw?.fill(turn) {
                blocks.append(.toolUse(ToolUse(id: id, name: call.name, arguments: raw)))
            } else {
                blocks.append(.toolUse(ToolUse(id: id, name: call.name, input: try call.input.fill(turn))))
            }
        }
        var stop = rule.reply.stop ?? (rule.reply.calls.isEmpty ? .endTurn : .toolUse)
        // A model does not write more than it may.
        var left = request.maxOutputTokens
        for (index, block) in blocks.enumerated() {
            let tokens = TokenEstimator.raw(ModelMessage(.assistant, [block]))
            if tokens > left {
                let text = block.text.map { String($0.prefix(max(0, left) * 4)) } ?? ""
                blocks = Array(blocks.prefix(index)) + (text.isEmpty ? [] : [.text(text)])
                stop = .maxTokens
                break
            }
            left -= tokens
        }
        let usage =
            rule.reply.usage
            ?? TokenUsage(
                input: TokenEstimator.raw(request),
                output: min(request.maxOutputTokens, TokenEstimator.raw(ModelMessage(.assistant, blocks))))
        return ModelReply(blocks: blocks, stop: stop, usage: usage, model: request.model)
    }

    /// Hands an answer out in pieces, as far as it goes.
    private func stream(
        _ reply: ModelReply, _ rule: Scenario.Rule, atMost: Int, _ onDelta: @Sendable (ModelDelta) -> Void
    ) async throws(ModelError) {
        var left = atMost
        for block in reply.blocks where left > 0 {
            let (text, delta): (String, @Sendable (String) -> ModelDelta)
            switch block {
            case .text(let whole): (text, delta) = (whole, { .text($0) })
            case .reasoning(let whole, _, _): (text, delta) = (whole, { .reasoning($0) })
            case .toolUse(let use):
                onDelta(.toolUse(id: use.id, name: use.name))
                text = use.malformed ?? String(decoding: use.input.compact, as: UTF8.self)
                delta = { .toolInput(id: use.id, fragment: $0) }
            case .toolResult: continue
            }
            var rest = Substring(text)
            while !rest.isEmpty, left > 0 {
                let piece = rest.prefix(min(rule.piece, left))
                try await wait(rule.pause)
                onDelta(delta(String(piece)))
                rest = rest.dropFirst(piece.count)
                left -= piece.count
            }
        }
    }
}
