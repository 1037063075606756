import AegisConfig
import AegisCore
import AegisJSON
import AegisTestSupport
import Testing

@testable import AegisInference

/// A scripted provider of some rules.
func scripted(_ rules: String, name: String = "demo", clock: TestClock = TestClock()) throws -> ScriptedProvider {
    let scenario = try Scenario(ConfigFile(name: "s.yaml", bytes: Array((scenarioHead + rules).utf8)))
    return ScriptedProvider(name: name, scenario: scenario, time: InferenceTime(clock: clock))
}
let scenarioHead = "apiVersion: aegis/v1\nkind: ModelScenario\nrules:\n"

@Suite struct ScenarioTests {
    private func ask(
        _ provider: ScriptedProvider, _ messages: [ModelMessage], agent: String = "a", system: String = "",
        max: Int = 1000
    ) async -> (Result<ModelReply, ModelError>, [ModelDelta]) {
        let deltas = Kept<[ModelDelta]>([])
        let request = ModelRequest(
            model: "m", system: system, messages: messages, maxOutputTokens: max, agent: agent)
        do throws(ModelError) {
            return (
                .success(try await provider.complete(request) { delta in deltas.change { $0.append(delta) } }),
                deltas.value
            )
        } catch {
            return (.failure(error), deltas.value)
        }
    }
    private let toolTurn: [ModelMessage] = [
        .user("go"),
        ModelMessage(
            .assistant,
            [
                .toolUse(ToolUse(id: "1", name: "spawn", input: [:])),
                .toolUse(ToolUse(id: "2", name: "read", input: [:])),
            ]),
        ModelMessage(
            .user,
            [
                .toolResult(ToolOutput(id: "1", text: #"{"agent":{"id":"x-7"},"n":[1,2]}"#)),
                .toolResult(ToolOutput(id: "2", text: "no such file", isError: true)),
            ]),
    ]

    @Test func theFirstRuleThatFitsAnswers() async throws {
        let provider = try scripted(
            """
              - when: { agent: boss, turn: 2, tool: spawn, failed: false }
                reply:
                  reasoning: "thinking of {{result:spawn.agent.id}}"
                  text: "{{agent}} {{model}} {{turn}} {{message}} {{result:read}}"
                  tools:
                    - { name: ask, input: { to: "{{result:spawn.agent.id}}", list: [1, yes, "2", null], n: "{{result:spawn.n.1}}", deep: { t: "= {{result:spawn.n}}" } } }
                    - { name: bad, raw: '{"a": ' }
              - when: { message: "write * to */end" }
                reply: { text: "{{2}}<{{1}}" }
              - when: { agent: "work*", system: rules }
                reply: { text: by system, stop: refusal, usage: { input: 5, output: 6, cache_read: 7, cache_write: 8 } }
              - reply: { text: else }

            """)
        let (first, _) = await ask(provider, toolTurn, agent: "boss")
        let reply = try first.get()
        #expect(
            reply.blocks == [
                .reasoning(text: "thinking of x-7", signature: nil), .text("boss m 2 go no such file"),
                .toolUse(
                    ToolUse(
                        id: "call_2_1", name: "ask",
                        input: [
                            "to": "x-7", "list": [1, "yes", "2", .null], "n": 2, "deep": ["t": "= [1,2]"],
                        ])),
                .toolUse(ToolUse(id: "call_2_2", name: "bad", input: .null, malformed: #"{"a": "#)),
            ])
        #expect(reply.stop == .toolUse)
        #expect(try await ask(provider, [.user("please write it all to /tmp/end now")]).0.get().text == "/tmp<it all")
        let third = try await ask(provider, [.user("x")], agent: "worker", system: "the rules are").0.get()
        #expect(third.text == "by system" && third.stop == .refusal)
        #expect(third.usage == TokenUsage(input: 5, output: 6, cacheRead: 7, cacheWrite: 8))
        #expect(try await ask(provider, [.user("x")]).0.get().text == "else")
    }

    @Test func piecesMakeTheWhole() async throws {
        let provider = try scripted(
            "  - { piece: 2, reply: { reasoning: abc, text: 'héllo', tools: [{ name: f, input: { a: 1 } }] } }\n")
        let (_, deltas) = await ask(provider, [.user("x")])
        #expect(
            deltas == [
                .reasoning("ab"), .reasoning("c"), .text("hé"), .text("ll"), .text("o"),
                .toolUse(id: "call_1_1", name: "f"),
                .toolInput(id: "call_1_1", fragment: "{\""), .toolInput(id: "call_1_1", fragment: "a\""),
                .toolInput(id: "call_1_1", fragment: ":1"), .toolInput(id: "call_1_1", fragment: "}"),
            ])
    }

    @Test func failuresAreInjectedAsOftenAsSaid() async throws {
        let provider = try scripted(
            """
              - { times: 1, fail: { status: 429, retry_after: 2s } }
              - { times: 1, fail: { error: bad_answer, message: odd } }
              - { times: 1, piece: 3, fail: { cut: 4 }, reply: { text: abcdefgh } }
              - { reply: { text: at last } }

            """)
        var results: [Result<ModelReply, ModelError>] = []
        for _ in 0..<2 { results.append(await ask(provider, [.user("x")]).0) }
        #expect(
            results[0]
                == .failure(ModelError(.rateLimited, status: 429, retryAfter: .seconds(2), "the scenario says so")))
        #expect(results[1] == .failure(ModelError(.badAnswer, "odd")))
        let (cut, deltas) = await ask(provider, [.user("x")])
        #expect(cut == .failure(ModelError(.cutStream, "the stream ended after 4 characters")))
        #expect(deltas == [.text("abc"), .text("d")])
        #expect(try await ask(provider, [.user("x")]).0.get().text == "at last")
    }

    @Test func aModelWritesNoMoreThanItMay() async throws {
        let provider = try scripted(
            "  - { reply: { text: '\(String(repeating: "x", count: 500))', tools: [{ name: f }] } }\n")
        let reply = try await ask(provider, [.user("x")], max: 10).0.get()
        #expect(reply.stop == .maxTokens && reply.text.count == 40 && reply.toolUses.isEmpty)
        #expect(reply.usage.output <= 10)
    }

    @Test func whatNoRuleKnowsIsSaidWithTheNearestRule() async throws {
        let provider = try scripted(
            "  - { name: plan, when: { agent: boss, turn: 1, message: 'do' }, reply: { text: x } }\n"
                + "  - { name: other, when: { agent: b, turn: 9, tool: t }, reply: { text: x } }\n")
        let (result, _) = await ask(provider, toolTurn, agent: "boss")
        #expect(
            result
                == .failure(
                    ModelError(
                        .invalidRequest,
                        "s.yaml has no rule for turn 2 of agent 'boss' with model 'm', message 'go', results [spawn: "
                            + "'{\"agent\":{\"id\":\"x-7\"},\"n\":[1,2]}'; read (failed): 'no such file']; nearest is 'plan', "
                            + "but for message: do, turn: 1")))
        let missing = try scripted("  - { reply: { text: '{{result.a}}' } }\n")
        let (failure, _) = await ask(missing, [.user("x")])
        #expect(
            failure == .failure(ModelError(.invalidRequest, "s.yaml: rule 'rule 1': the last message has no result")))
    }

    @Test func hangingAndWaitingEndWhenTheTaskIsCancelled() async throws {
        let clock = TestClock()
        let provider = try scripted("  - { latency: 5s, fail: { hang: true } }\n", clock: clock)
        let task = Task { await ask(provider, [.user("x")]).0 }
        await clock.sleepers(1)
        #expect(clock.deadlines == [.seconds(5)])
        clock.advance(by: .seconds(5))
        await clock.sleepers(1)
        task.cancel()
        #expect(await task.value == .failure(ModelError(.cancelled, "the caller gave up")))
    }

    @Test(arguments: [
        ("  - { reply: { txt: x } }", "s.yaml:4:16: unknown key 'txt' in rules[0].reply; did you mean 'text'?"),
        ("  - { when: { trun: 1 }, reply: { text: x } }", "did you mean 'turn'?"),
        ("  - { name: n }", "n has neither 'reply' nor 'fail'"),
        ("  - { reply: { text: '{{resutl}}' } }", "has '{{resutl}}', which is none of agent, model"),
        ("  - { reply: { text: '{{a' } }", "has '{{' without '}}'"),
        ("  - { when: { message: 'a*' }, reply: { text: '{{2}}' } }", "'message' and 'result' of this rule have 1 '*'"),
        (
            "  - { reply: { tools: [{ name: f, input: { a: '{{3}}' } }] } }",
            "s.yaml:4:47: rules[0].reply.tools[0].input: the text '{{3}}' has '{{3}}'"
        ),
        ("  - { fail: { status: 418 } }", "must be one of 400, 401"),
        ("  - { fail: { status: 500, hang: true } }", "needs one of status, error, hang and cut"),
        ("  - { fail: { status: 400, retry_after: 1s } }", "'retry_after' belongs to the statuses 429, 500"),
        ("  - { fail: { cut: 3 } }", "'cut' needs a 'reply' that is cut"),
        ("  - { fail: { hang: true }, reply: { text: x } }", "fails before it could reply"),
        ("  - { reply: { stop: done } }", "must be one of end_turn"),
        ("  []", "the scenario has no rules"),
    ])
    func aScenarioThatIsWrongIsRefusedWithThePlace(_ rule: String, _ message: String) {
        let error = #expect(throws: AegisError.self) { try scripted(rule + "\n") }
        #expect(error?.message.contains(message) == true, "\(error?.message ?? "")")
    }

    @Test(arguments: [
        ("a", "xax", [] as [String]?), ("a", "b", nil), ("*", "xy", ["xy"]), ("a*", "xabc", ["bc"]),
        ("*b", "abc", ["a"]),
        ("a*c*", "abcd", ["b", "d"]), ("a**b", "a1b", ["", "1"]), ("a*z", "abc", nil), ("a*a", "a", nil),
    ])
    func aPatternKeepsWhatItsStarsStandFor(_ pattern: String, _ text: String, _ captures: [String]?) {
        #expect(TextPattern(pattern).match(text) == captures)
    }
}
