import AegisCapabilities
import AegisConfig
import AegisCore
import AegisJSON
import AegisSandboxTypes
import AegisTools
import Testing

@testable import AegisAgents

@Suite struct ManifestTests {
    private func read(_ text: String) throws(AegisError) -> AgentManifest {
        try AgentManifest(ConfigFile(name: "agent.yaml", bytes: Array(text.utf8))) { path throws(AegisError) in
            guard path == "prompt.md" else { throw .notFound("no-such-file", "there is no \(path)") }
            return "from a file"
        }
    }

    /// Who mistypes a tool of an MCP server that is there is told: else the real one would be called unasked.
    @Test func aToolToBeApprovedThatItsServerDoesNotHaveIsSaid() async throws {
        let world = try World(ClosureDesk.silent(), tools: [CountingTool("mcp.calc.add") { ToolReply($0) }])
        let services = world.directory.services
        let manifest = try read("name: a\nmodel: m\napproval_required: [mcp.calc.ad, mcp.calc.add, mcp.later.go]\n")
        try manifest.checkApprovals(services.registry)
        #expect(
            manifest.unknownNames(services) == [
                "approval_required names 'mcp.calc.ad', which its server does not have; did you mean 'mcp.calc.add'?"
            ])
        await world.end()
    }

    /// The manifest of the seed, word for word in its keys.
    @Test func theManifestOfTheSeedIsRead() throws {
        let manifest = try read(
            """
            name: research-agent
            model: deepseek-chat
            system_prompt: "You are a helpful research assistant with persistent memory."
            lifecycle: persistent
            capabilities:
              - web_search
              - "file_read: /data/project/*"
              - "file_write: /data/output/*"
              - "tool: web_fetch"
              - "tool: file_write"
              - "tool: memory_store"
              - "tool: memory_query"
            approval_required:
              - file_write
            memory:
              context_window: "128k"
              max_history_messages: 200
              episodic_enabled: true
            budget_config:
              max_tokens: 1000000       # 1M tokens
              reset_period_seconds: 86400  # daily reset
            """)
        #expect(manifest.lifecycle == .persistent)
        #expect(manifest.memory.contextWindow == 131_072)
        #expect(manifest.memory.maxHistoryMessages == 200)
        #expect(manifest.budget?.maxTokens == 1_000_000)
        #expect(manifest.budget?.resetPeriodSeconds == 86_400)
        #expect(manifest.approvalRequired == ["file_write"])
        let grants = manifest.capabilities.map(\.description)
        #expect(grants.contains("file_read: /data/project/**"))
        // What a manifest implies: its model, and its own memory where it has a memory tool.
        #expect(grants.contains("model: deepseek-chat"))
        #expect(grants.contains("memory: self"))
    }

    @Test func everyOtherKeyIsAlive() throws {
        let manifest = try read(
            """
            name: worker
            model: default
            system_prompt: {file: prompt.md}
            lifecycle: scheduled
            schedule: "*/15 9-17 * * mon-fri"
            capabilities:
              - tool: file_read
              - {grant: "tool: web_fetch", max_calls: 20, expires: 1h}
              - spawn_child: [reader, writer]
              - model: fast
            memory: {summarization_model: fast, summarization_threshold: 0.5, archive_ttl_days: 7, episodic_max_records: 10,
                     episodic_max_content_bytes: 100}
            budget_config: {max_tokens: 10k, max_usd: 1.5, reset_period_seconds: 0}
            metadata: {team: core, tags: [a, 1, true, null]}
            sandbox: {image: base, min_isolation: namespaces, limits: {memory: 256Mi, pids: 64}, idle: 60s}
            accepts: {type: object, properties: {n: {type: integer}}}
            restart: {attempts: 0, pause: 2s}
            max_iterations: 7
            max_turn_tokens: 200k
            max_output_tokens: 100
            """)
        #expect(manifest.systemPrompt == "from a file")
        guard case .scheduled(let schedule) = manifest.lifecycle else {
            Issue.record("it is not scheduled")
            return
        }
        #expect(schedule.description == "*/15 9-17 * * mon-fri")
        #expect(manifest.capabilities.contains { $0.limits.maxCalls == 20 && $0.lifetime == .seconds(3600) })
        #expect(manifest.memory.summarizationModel == "fast")
        #expect(manifest.memory.summarizationThreshold == 0.5)
        #expect(manifest.budget?.maxTokens == 10_000)
        #expect(manifest.budget?.maxMicroUSD == 1_500_000)
        #expect(manifest.metadata.map(\.name) == ["team", "tags"])
        #expect(manifest.metadata.last?.value == ["a", 1, true, .null])
        #expect(manifest.sandbox?.limits.pids == 64)
        #expect(manifest.sandbox?.idle == .seconds(60))
        #expect(manifest.accepts?["type"]?.text == "object")
        #expect(manifest.restart.attempts == 0 && manifest.restart.policy == .onFailure)
        #expect(manifest.restart.pause == .seconds(2))
        #expect(manifest.maxIterations == 7)
        #expect(manifest.turnTokens == 200_000)
        #expect(manifest.maxOutputTokens == 100)
    }

    /// What a turn may take is said by the key, or by a budget that is larger than usual.
    @Test(arguments: [
        ("", 5_000_000), ("budget_config: {max_tokens: 1M}", 5_000_000), ("budget_config: {max_usd: 9}", 5_000_000),
        ("budget_config: {max_tokens: 20M}", 20_000_000), ("max_turn_tokens: 30M", 30_000_000),
        ("max_turn_tokens: 1k\nbudget_config: {max_tokens: 20M}", 1000),
    ])
    func aLargerBudgetIsForATurnAsWell(_ text: String, _ tokens: Int) throws {
        var manifest = try read("name: a\nmodel: m\n\(text)")
        #expect(manifest.turnTokens == tokens)
        var options = SpawnOptions()
        options.maxTokens = 40_000_000
        try options.apply(to: &manifest)
        #expect(manifest.turnTokens == (manifest.maxTurnTokens ?? 40_000_000))
    }

    @Test func aBudgetMayBeOfMoneyAlone() throws {
        let budget = try read("name: a\nmodel: m\nbudget_config: {max_usd: 2}").budget
        #expect(budget?.maxTokens == nil && budget?.maxMicroUSD == 2_000_000 && budget?.resetPeriodSeconds == 3600)
    }

    /// Each field with something wrong, and what is said of it.
    @Test(arguments: [
        ("model: m", "name is missing"), ("name: a", "model is missing"),
        ("name: a b\nmodel: m", "did you mean 'ab'?"), ("name: '*'\nmodel: m", "must be one name"),
        ("name: a\nmodel: m\ncapabilties: []", "did you mean 'capabilities'?"),
        ("name: a\nmodel: m\ncapabilities: ['file_reed: /x']", "file_read"),
        ("name: a\nmodel: m\ncapabilities: tool", "expected a list"),
        ("name: a\nmodel: m\ncapabilities: [[x]]", "is a text"),
        ("name: a\nmodel: m\ncapabilities: [{grant: 'tool: x', max_cals: 1}]", "max_calls"),
        ("name: a\nmodel: m\nlifecycle: persistant", "did you mean 'persistent'?"),
        ("name: a\nmodel: m\nlifecycle: scheduled", "needs a schedule"),
        ("name: a\nmodel: m\nschedule: '* * * * *'", "needs lifecycle: scheduled"),
        ("name: a\nmodel: m\nlifecycle: scheduled\nschedule: '61 * * * *'", "'61' is no minute"),
        ("name: a\nmodel: m\nmemory: {context_window: lots}", "a number of tokens"),
        ("name: a\nmodel: m\nmemory: {episodic_store: 256MB}", "unknown key 'episodic_store'"),
        ("name: a-0123456789abcdef\nmodel: m", "form of an agent's id"),
        ("name: i-0123456789abcdef\nmodel: m", "form of an instance's id"),
        ("name: a\nmodel: m\nmemory: {summarization_threshold: 2}", "0.1 to 0.95"),
        ("name: a\nmodel: m\nbudget_config: {reset_period_seconds: 1}", "max_tokens is missing"),
        ("name: a\nmodel: m\nbudget_config: {max_usd: 0}", "must be 0.000001 to"),
        ("name: a\nmodel: m\nbudget_config: {max_usd: 0.0000001}", "must be 0.000001 to"),
        ("name: a\nmodel: m\nbudget_config: {max_tokens: -5}", "a number of tokens"),
        ("name: a\nmodel: m\nsystem_prompt: [x]", "expected a text"),
        ("name: a\nmodel: m\nsystem_prompt: {file: other.md}", "there is no other.md"),
        ("name: a\nmodel: m\nmemory: {summarization_model: n}", "which no capability grants"),
        ("name: a\nmodel: m\napproval_required: ['x y']", "did you mean 'xy'?"),
        ("name: a\nmodel: m\nmetadata: 3", "expected a map"),
        ("name: a\nmodel: m\naccepts: text", "expected a JSON Schema"),
        ("name: a\nmodel: m\nmemory: {max_history_messages: 3}", "4 to 100000"),
        ("name: a\nmodel: m\nmemory: {archive_ttl_days: 0}", "1 to 36500"),
        ("name: a\nmodel: m\nmemory: {episodic_enabled: perhaps}", "true or false"),
        ("name: a\nmodel: m\nmemory: {persistent: 3}", "true or false"),
        ("name: a\nmodel: m\nmemory: {episodic_max_records: -1}", "1 to 1000000"),
        ("name: a\nmodel: m\nmemory: {episodic_max_content_bytes: 65537}", "1 to 65536"),
        ("name: a\nmodel: m\nmemory: {summarization_threshold: 1.5}", "0.1 to 0.95"),
        ("name: a\nmodel: m\nmemory: {context_window: many}", "memory.context_window"),
        ("name: a\nmodel: m\nmax_output_tokens: 0", "1 to 1000000"),
        ("name: a\nmodel: m\nbudget_config: {max_tokens: 5, reset_period_seconds: -1}", "0 to 315360000"),
        ("name: a\nmodel: m\nlifecycle: persistent\nrestart: {pause: 25h}", "at most 24h"),
        ("name: a\nmodel: m\nsandbox: {min_isolation: strong}", "min_isolation"),
        ("name: a\nmodel: m\nsandbox: {image: a, kit: b}", "image and kit"),
        ("name: a\nmodel: m\nsandbox: {limits: {pids: 1}}", "limits"),
        ("name: a\nmodel: m\nsandbox: {isolation: runcs}", "did you mean 'runsc'?"),
        ("name: a\nmodel: m\nsandbox: {idle: 1ms}", "100ms"),
        ("name: a\nmodel: m\nsandbox: {mounts: ['/data:/in']}", "add 'file_read: /data/**'"),
        (
            "name: a\nmodel: m\ncapabilities: ['file_read: /data/*']\nsandbox: {mounts: ['/data:/in:rw']}",
            "add 'file_write"
        ),
        ("name: a\nmodel: m\nsandbox: {mounts: ['data:/in']}", "absolute path"),
        ("name: a\nmodel: m\nsandbox: {mounts: ['/data:/proc']}", "belongs to the sandbox"),
        ("name: a\nmodel: m\nmax_iterations: 0", "1 to 10000"),
        ("name: a\nmodel: m\nmax_turn_tokens: 0", "1 to 1000000000000"),
        ("name: a\nmodel: m\nmax_turn_tokens: 2000000M", "1 to 1000000000000"),
        ("name: a\nmodel: m\nmax_turn_tokens: many", "a number of tokens"),
        ("name: a\nmodel: m\nrestart: {attempts: -1}", "0 to 100"),
        ("name: a\nmodel: m\nrestart: allways", "did you mean 'always'?"),
        ("name: a\nmodel: m\nrestart: {policy: onfailure}", "did you mean 'on-failure'?"),
        ("name: a\nmodel: m\nrestart: {tries: 2}", "unknown key"),
        ("name: a\nmodel: m\nrestart: on-failure", "needs lifecycle: persistent"),
        ("name: a\nmodel: m\naccepts: {type: objct}", "no JSON Schema that can be checked"),
    ])
    func whatIsWrongIsSaidWithItsPlace(_ text: String, _ words: String) {
        let error = #expect(throws: AegisError.self) { try read(text) }
        #expect(error?.code == "invalid-config")
        #expect(
            error?.message.contains(words) == true || error?.hint?.contains(words) == true,
            "\(String(describing: error))")
        #expect(error?.message.contains("agent.yaml:") == true)
    }

    @Test func aManifestThatIsTooLongIsRefused() {
        let error = #expect(throws: AegisError.self) { try read(String(repeating: "#", count: 300_000)) }
        #expect(error?.code == "manifest-too-large")
    }
}

@Suite struct CronScheduleTests {
    private func time(_ text: String) throws -> Timestamp { try #require(Timestamp(parsing: text)) }

    @Test(arguments: [
        ("* * * * *", "2026-11-21T02:22:57.000Z", "2026-11-21T02:23:00.000Z"),
        ("*/15 * * * *", "2026-11-21T02:45:00.000Z", "2026-11-21T03:00:00.000Z"),
        ("0 9 * * mon-fri", "2026-11-21T02:00:00.000Z", "2026-11-23T09:00:00.000Z"),
        ("30 4 1,15 * 5", "2026-11-21T00:00:00.000Z", "2026-11-27T04:30:00.000Z"),
        ("0 0 29 2 *", "2026-03-01T00:00:00.000Z", "2028-02-29T00:00:00.000Z"),
        ("5-10/5 0 * jan *", "2026-11-21T00:00:00.000Z", "2027-01-01T00:05:00.000Z"),
        ("@daily", "2026-12-31T23:59:59.999Z", "2027-01-01T00:00:00.000Z"),
        ("0 12 * * 7", "2026-11-21T00:00:00.000Z", "2026-11-22T12:00:00.000Z"),
        ("@every 1s", "2026-11-21T00:00:59.250Z", "2026-11-21T00:01:00.250Z"),
        ("@Every  1h30m", "2026-11-21T23:00:00.000Z", "2026-11-22T00:30:00.000Z"),
    ])
    func theNextMomentIsFound(_ schedule: String, _ from: String, _ expected: String) throws {
        #expect(try CronSchedule(parsing: schedule).next(after: time(from)) == time(expected))
    }

    @Test(arguments: [
        "", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "5-1 * * * *",
        "*/0 * * * *", "a * * * *", "1, * * * *", "0 0 31 2 *", "@sometimes", "1-2-3 * * * *", "@every", "@every 999ms",
        "@every 1s 1s", "@every x", "@every 367d", "@every -1s",
    ])
    func whatIsNoScheduleIsRefused(_ text: String) {
        #expect(throws: AegisError.self) { try CronSchedule(parsing: text) }
    }
}
