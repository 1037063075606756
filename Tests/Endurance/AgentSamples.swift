import AegisAgents
import AegisCore
import AegisHTML
import AegisInference
import AegisJSON
import AegisTestSupport

@testable import AegisConfig
@testable import AegisSkills
@testable import AegisTools

/// What agents are given: by those who run them, by models and by the web.
extension FuzzTests {
    static let agentTargets: [FuzzTarget] = [
        agentManifest, sessionSteps, skill, page, schema, .stream("JSON-RPC lines", rpcLines, Transcript.rpc),
        .stream("MCP lines", mcpLines, Transcript.mcpLines), .stream("MCP events", mcpEvents, Transcript.mcpEvents),
        .reply("Messages streams", messages, Transcript.messages),
        .reply("chat completions", completions, Transcript.completions),
        ledger, ledgerStart, sessionLog,
    ]

    private static let agentManifest: FuzzTarget = {
        let samples = [
            """
            name: researcher
            model: default
            system_prompt: Find out.
            lifecycle: persistent
            capabilities:
              - "tool: file_*"
              - file_read: /workspace/**
              - {grant: "network: *.example:443", max_bytes: 10Mi, expires: 1h}
              - "model: fast"
            budget_config: { max_tokens: 100000, reset_period_seconds: 3600 }
            memory: { context_window: 4000, max_history_messages: 50, summarization_model: fast, persistent: true }
            approval_required: [file_write]
            """,
            "name: clock\nmodel: default\nlifecycle: scheduled\nschedule: \"0 9 * * 1-5\"\nsystem_prompt: {file: p.md}\n",
            """
            name: builder
            model: default
            capabilities: ["exec: make", "spawn: *", "secret: KEY@api.example/v1"]
            sandbox: { image: base, limits: { memory: 512Mi, cpus: 1 } }
            """,
        ]
        @Sendable func read(_ input: [UInt8]) -> Result<AgentManifest, AegisError> {
            Result { () throws(AegisError) in
                try AgentManifest(ConfigFile(name: "f", bytes: input)) { _ throws(AegisError) in "a prompt" }
            }
        }
        return FuzzTarget(name: "agent manifests", samples: samples.map { Array($0.utf8) }) { input, _ in
            let first = read(input), second = read(input)
            if case .failure(let error) = first, error.message.isEmpty { return "refused without a word" }
            return "\(first)" == "\(second)" ? nil : "\(first), and then \(second)"
        } accepts: {
            (try? read($0).get()) != nil
        }
    }()

    /// Steps that were kept by a release with a fault are read, whatever they say: one JSON value a line.
    private static let sessionSteps = FuzzTarget(
        name: "session steps",
        samples: [
            """
            {"kind":"began","trace":"t-1","text":"go"}
            {"kind":"replied","blocks":[{"text":{"_0":"I look"}}],"stop":"end_turn","usage":{"input":1,"output":2}}
            {"kind":"ended","stop":"complete"}
            {"kind":"summarized","messages":2,"text":"short"}
            {"kind":"began","trace":"t-2","text":"on"}
            {"kind":"intent","call":"c1"}
            {"kind":"outcome","output":{"id":"c1","text":"x","is_error":false}}
            {"kind":"stopped"}
            {"kind":"dropped","messages":9223372036854775807}
            {"kind":"ended","stop":"error","error":{"code":"c","message":"m"}}
            {"kind":"restarted"}
            {"kind":"dropped","messages":-9223372036854775808}
            """
        ].map { Array($0.utf8) } + [repliedSteps]
    ) { input, _ in
        let steps = steps(in: input)
        var session = Session()
        for step in steps {
            session.apply(step)
            _ = session.next(TurnLimits())
            if session.messages.count != session.sizes.count { return "sizes and messages differ" }
            // A call without its answer is refused by every provider.
            if session.turn == nil, case .some(let problem) = unpaired(session) { return problem }
            guard let again = try? JSONValue(encoding: step).decode(SessionStep.self), again == step else {
                return "\(step) is not read as it was written"
            }
        }
        return nil
    } accepts: {
        steps(in: $0).count > 2
    }

    private static func steps(in input: [UInt8]) -> [SessionStep] {
        input.split(separator: 10).compactMap { try? JSONValue(parsing: $0).decode(SessionStep.self) }
    }

    /// Steps as they are kept, of a turn with two tools.
    private static let repliedSteps: [UInt8] = {
        let uses = [1, 2].map { ToolUseText.use("c\($0)", "echo") }
        let steps: [SessionStep] = [
            .began(trace: "t", text: "go", from: "operator"), ToolUseText.replied(uses), .intent(call: "c1"),
            ToolUseText.outcome("c1"), .intent(call: "c2"), ToolUseText.outcome("c2"), ToolUseText.replied([]),
            .ended(.complete, nil), .summarized(messages: 3, text: "s"), .dropped(messages: 1),
            .spent(TokenUsage(output: 1)),
        ]
        return steps.flatMap { $0.json.compact + [10] }
    }()

    private static func unpaired(_ session: Session) -> String? {
        var open: Set<String> = []
        for message in session.messages {
            let (uses, results) = ToolUseText.pairs(message)
            if !results.isEmpty { open.subtract(results) }
            open.formUnion(uses)
        }
        return open.isEmpty ? nil : "calls without an answer: \(open)"
    }

    private static let skill = FuzzTarget(
        name: "SKILL.md",
        samples: [
            "---\nname: notes\ndescription: Takes notes.\nlicense: MIT\nmetadata:\n  author: \"x\"\nallowed-tools: file_read grep\n---\n\n# How\n\nWrite.\n",
            "---\r\nname: notes\r\ndescription: >-\r\n  Takes\r\n  notes.\r\ncompatibility: any\r\n---\r\nWrite.\r\n",
        ].map { Array($0.utf8) }
    ) { input, _ in
        do throws(AegisError) {
            let document = try SkillDocument(input, folder: "notes")
            guard document.name == "notes" else { return "it is called '\(document.name)'" }
            return (1...1024).contains(document.description.unicodeScalars.count) ? nil : "its description is too long"
        } catch { return error.message.isEmpty ? "refused without a word" : nil }
    } accepts: {
        (try? SkillDocument($0, folder: "notes")) != nil
    }

    private static let page = FuzzTarget(
        name: "HTML pages",
        samples: [
            "<!doctype html><title>T &amp; U</title><h1>H</h1><p>One <b>two</b> <a href='/x?y=1#z'>three</a></p><ul><li>a<li>b</ul>",
            "<table><tr><th>k<th>v<tr><td>1<td>2</table><pre><code>if (a) {\n  b\n}</code></pre><ol start=3><li>x<ol><li>y</ol></ol>",
            "<div hidden>no</div><div style='display:none'>no</div><blockquote><blockquote>q</blockquote></blockquote><svg><text>s</text></svg><base href='http://b.example/c/'><a href='d'>e</a><script>f()</script>&#x202e;&#0;&#xd800;&nbsp;&zwj;a&#xe0101;&#13;b<pre>c\rd</pre><a href='/&#x202e;&#9;x&#xe0041;'>e</a>",
        ].map { Array($0.utf8) }
    ) { input, mutator in
        let limit = mutator.pick([0, 1, 7, 100, 10_000])
        let html = String(decoding: input, as: UTF8.self)
        func text() -> PageText { PageText(html: html, address: "http://a.example/b", limit: limit) }
        let page = text()
        if page != text() { return "it is read in two ways" }
        // A line's end and the gap before a block come on top.
        if page.text.utf8.count > limit + 3 { return "\(page.text.utf8.count) bytes, \(limit) wanted" }
        let bad = (page.title + page.text).unicodeScalars.first { scalar in
            (scalar.value < 32 && scalar != "\n" && scalar != "\t") || (127..<160).contains(scalar.value)
                || (scalar.properties.isDefaultIgnorableCodePoint
                    && ![0x200c, 0x200d, 0xfe0e, 0xfe0f].contains(scalar.value))
        }
        return bad.map { "it has U+\(String($0.value, radix: 16))" }
    } accepts: {
        !PageText(html: String(decoding: $0, as: UTF8.self), address: "http://a.example/", limit: 100).text.isEmpty
    }

    /// A schema and a value in one text. Whatever fits does not fit the opposite.
    private static let schema = FuzzTarget(
        name: "JSON schemas",
        samples: [
            #"{"schema":{"type":"object","properties":{"a":{"type":"string","minLength":1,"pattern":"^x+$"},"b":{"type":["integer","null"],"minimum":0,"multipleOf":2}},"required":["a"],"additionalProperties":false},"value":{"a":"xx","b":4}}"#,
            ##"{"schema":{"$defs":{"n":{"type":"object","properties":{"next":{"$ref":"#/$defs/n"}}}},"$ref":"#/$defs/n"},"value":{"next":{"next":{}}}}"##,
            #"{"schema":{"anyOf":[{"type":"array","prefixItems":[{"const":1}],"items":{"enum":[2,"3"]},"uniqueItems":true,"maxItems":4},{"oneOf":[{"type":"number","exclusiveMaximum":1e3},{"type":"number","minimum":-0.5}]}]},"value":[1,2,"3"]}"#,
            #"{"schema":{"not":{"allOf":[{"minProperties":1},{"maxProperties":3}]}},"value":{}}"#,
        ].map { Array($0.utf8) }
    ) { input, _ in
        guard let (schema, value) = schemaAndValue(input) else { return nil }
        do throws(SchemaError) {
            let found = try JSONSchema(schema).problems(value)
            let again = try JSONSchema(["allOf": [schema]], keywords: .anything).problems(value)
            let opposite = try JSONSchema(["not": schema], keywords: .anything).problems(value)
            if let found, found.isEmpty || found.count > 8 { return "\(found.count) problems" }
            // References are from the document's root, which is another one then; and what is too much to check fits nothing.
            let isMoved = "\(schema)".contains("$ref")
            let isTooMuch = [found, again, opposite].contains {
                $0?.contains { $0.what == "too much to check" } ?? false
            }
            if isMoved || isTooMuch { return nil }
            if (found == nil) != (again == nil) { return "alone \(found ?? []), in allOf \(again ?? [])" }
            return (found == nil) != (opposite == nil) ? nil : "it both fits and does not: \(found ?? [])"
        } catch { return error.what.isEmpty ? "refused without a word" : nil }
    } accepts: {
        guard let (schema, _) = schemaAndValue($0) else { return false }
        return (try? JSONSchema(schema)) != nil
    }

    private static func schemaAndValue(_ input: [UInt8]) -> (JSONValue, JSONValue)? {
        guard let both = try? JSONValue(parsing: input), let schema = both["schema"], let value = both["value"] else {
            return nil
        }
        return (schema, value)
    }
}
