import Foundation
import Testing

/// Agents through the CLI and through `agentd.sock`, with models that follow a scenario.
@Suite struct AgentTests {
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    private static func config(_ scenario: String, permits: Int = 3) -> String {
        """
        apiVersion: 100monkeys.ai/v1
        kind: NodeConfig
        metadata: { name: agents }
        spec:
          llm_providers:
            - name: demo
              type: scripted
              scenario: \(scenario)
              max_concurrent: \(permits)
              models: [{ alias: default, model: demo }]
        """
    }

    /// Runs a test with a scenario of its own.
    static func with(
        _ rules: String, permits: Int = 3, _ body: @escaping @Sendable (DaemonFixture) async throws -> Void
    ) async throws {
        let file = "/tmp/aegis-test-scenario-\(UUID().uuidString).yaml"
        let text = "apiVersion: aegis/v1\nkind: ModelScenario\nrules:\n" + rules
        try text.write(toFile: file, atomically: true, encoding: .utf8)
        defer { try? FileManager.default.removeItem(atPath: file) }
        try await DaemonFixture.with(config: config(file, permits: permits), body)
    }

    /// Sends lines to `agentd.sock` with a client of its own, and reads as many answers as are asked for.
    private static func rpc(_ f: DaemonFixture, _ lines: [String], answers: Int) async throws -> [[String: Any]] {
        let client = """
            import socket, sys
            s = socket.socket(socket.AF_UNIX); s.settimeout(100); s.connect(sys.argv[1])
            s.sendall(sys.stdin.buffer.read())
            f = s.makefile('rb')
            for _ in range(int(sys.argv[2])): sys.stdout.buffer.write(f.readline())
            """
        let result = try await f.run(
            "/usr/bin/python3", ["-c", client, "\(f.home)/agentd.sock", "\(answers)"],
            input: Array((lines.joined(separator: "\n") + "\n").utf8))
        try #require(result.code == 0, "\(result)")
        return try result.out.split(separator: "\n").map { line in
            try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any], "\(line)")
        }
    }

    private static func call(
        _ f: DaemonFixture, _ method: String, _ params: [String: Any]
    ) async throws -> [String: Any] {
        let request: [String: Any] = ["jsonrpc": "2.0", "id": 1, "method": method, "params": params]
        let text = String(decoding: try JSONSerialization.data(withJSONObject: request), as: UTF8.self)
        return try #require(try await rpc(f, [text], answers: 1).first)
    }

    static func result(
        _ f: DaemonFixture, _ method: String, _ params: [String: Any] = [:]
    ) async throws -> [String: Any] {
        let answer = try await call(f, method, params)
        return try #require(answer["result"] as? [String: Any], "\(method): \(answer)")
    }

    private static func code(_ answer: [String: Any]) -> String? {
        ((answer["error"] as? [String: Any])?["data"] as? [String: Any])?["code"] as? String
    }

    /// The demo: a goal, children with a part of the grants, real files, a refusal, and all of it in the ledger.
    @Test func aGoalIsReachedByASwarm() async throws {
        let scenario = Self.root.appendingPathComponent("examples/swarm/scenario.yaml").path
        try await DaemonFixture.with(config: Self.config(scenario)) { f in
            let goal = try await f.aegis("goal", "Write a report on my notes", "--artifacts", f.path("home/report"))
            #expect(goal.code == 0 && goal.out == "The report is in /workspace/output/report.md.\n", "\(goal)")
            let listed = try await f.aegis("goal", "list", "--output", "json")
            #expect(listed.out.contains(#""stop_reason": "complete""#), "\(listed)")
            try await Self.goalCountsItsChildren(f)
            // A program in the agent's sandbox has written it, from what the children found and from their notes.
            let report = try String(contentsOfFile: f.path("home/report/report.md"), encoding: .utf8)
            #expect(report.contains("- tides: two lines about the sea"), "\(report)")
            #expect(report.contains("changing it was refused") && report.contains("tides.txt: 10 words"), "\(report)")
            #expect(try await f.aegis("agent", "ps", "--quiet").out.isEmpty)
            #expect(try await f.aegis("instance", "list", "--quiet").out.isEmpty)
            let audit = try await f.aegis("audit", "tail", "--tail", "1000", "--output", "json")
            for kind in ["agent_spawned", "tool_invoked", "tool_refused", "capability_denied", "model_call_answered"] {
                #expect(audit.out.contains("\"\(kind)\""), "\(kind)")
            }
            #expect(try await f.aegis("audit", "verify").code == 0)
            let steps = try await f.aegis("goal", "logs", "goal-")
            #expect(steps.out.contains("calls spawn_agents"), "\(steps)")
            // A child's program sees what was handed to it, and no more.
            #expect(
                steps.out.contains(
                    #"checked: 2 notes are counted; in /workspace: ['output']\nchanging it: Read-only file system"#),
                "\(steps)")
        }
    }

    /// What a goal has used is what all of its agents' calls of models took.
    private static func goalCountsItsChildren(_ f: DaemonFixture) async throws {
        let told = try await result(f, "audit.tail", ["kinds": ["model_call_answered"], "count": 1000])
        let calls = try #require(told["records"] as? [[String: Any]]).compactMap { $0["fields"] as? [String: Any] }
        #expect(Set(calls.compactMap { $0["name"] as? String }) == ["bootstrap", "reader", "checker"])
        let goals = try #require(try await result(f, "goal.list")["goals"] as? [[String: Any]])
        for (field, used) in [("input_tokens", "input"), ("output_tokens", "output")] {
            let sum = calls.reduce(0) { $0 + (($1["usage"] as? [String: Any])?[used] as? Int ?? 0) }
            #expect(sum > 0 && goals.first?[field] as? Int == sum, "\(field): \(goals)")
        }
    }

    /// The methods of the seed, each through the socket, by a client that knows nothing of ours.
    @Test func theMethodsOfTheSeedWork() async throws {
        let rules = """
              - name: answer
                when: { agent: helper, message: "say *" }
                reply: { text: "you said {{1}}" }
            """
        try await Self.with(rules) { f in
            let manifest = """
                name: helper
                model: default
                lifecycle: persistent
                capabilities: ["tool: echo", "tool: file_write", "tool: file_read", "file_write: /workspace/out/*"]
                """
            let id = try #require(
                try await Self.result(f, "agent.spawn", ["manifest": manifest])["agent_id"] as? String)
            let listed = try await Self.result(f, "agent.list")["agents"] as? [[String: Any]]
            #expect(listed?.map { $0["id"] as? String } == [id])
            #expect(try await Self.result(f, "agent.status", ["agent_id": id])["state"] as? String == "idle")
            let run = try await Self.result(f, "agent.run", ["agent_id": id, "message": "say hello"])
            #expect(run["response"] as? String == "you said hello")
            #expect(run["stop_reason"] as? String == "complete")
            #expect((run["usage"] as? [String: Any])?["input_tokens"] as? Int ?? 0 > 0)
            // A reply can be fetched later.
            let sent = try await Self.result(
                f, "agent.run", ["agent_id": id, "message": "say more", "wait": false])
            let later = try await Self.result(
                f, "agent.reply", ["agent_id": id, "trace_id": sent["trace_id"] ?? "", "wait": true])
            #expect(later["response"] as? String == "you said more")
            // Tools through the same gate: what is granted, what is not, and after it was taken back.
            let write: [String: Any] = ["path": "/workspace/out/a.txt", "content": "x"]
            func invoke(_ tool: String, _ input: [String: Any]) async throws -> [String: Any] {
                try await Self.call(f, "tool.invoke", ["agent_id": id, "tool": tool, "input": input])
            }
            #expect(try await invoke("file_write", write)["result"] != nil)
            #expect(
                Self.code(try await invoke("file_write", ["path": "/workspace/b.txt", "content": "x"]))
                    == "capability-denied")
            #expect(Self.code(try await invoke("file_read", ["path": "/etc/passwd"])) == "capability-denied")
            #expect(Self.code(try await invoke("file_write", ["path": 7])) == "arguments-invalid")
            #expect(Self.code(try await invoke("file_wrte", write)) == "tool-unknown")
            _ = try await Self.result(f, "agent.revoke", ["agent_id": id, "capability": "tool: file_write"])
            #expect(Self.code(try await invoke("file_write", write)) == "grant-revoked")
            // What was taken back does not come back with the daemon.
            kill(try #require(f.daemonPid), SIGKILL)
            try await f.up()
            #expect(try await Self.result(f, "agent.status", ["agent_id": id])["name"] as? String == "helper")
            #expect(Self.code(try await invoke("file_write", write)) == "grant-revoked")
            #expect(
                try await Self.result(f, "agent.run", ["agent_id": id, "message": "say again"])["response"] as? String
                    == "you said again")
            _ = try await Self.result(f, "agent.stop", ["agent_id": id])
            #expect(Self.code(try await Self.call(f, "agent.status", ["agent_id": id])) == "agent-not-found")
        }
    }

    @Test func theSocketSpeaksTheStandard() async throws {
        try await Self.with("  - reply: { text: x }") { f in
            let answers = try await Self.rpc(
                f,
                [
                    "{nonsense", #"{"jsonrpc":"2.0","id":2,"method":"agent.lst"}"#,
                    #"{"jsonrpc":"2.0","id":3,"method":"agent.status","params":{"agent":"x"}}"#,
                    #"{"jsonrpc":"2.0","method":"agent.list"}"#, #"{"id":4,"method":7}"#,
                    #"{"jsonrpc":"2.0","id":5,"method":"agent.list"}"#,
                ], answers: 5)
            func code(_ id: Int?) -> Int? {
                let answer = answers.first { $0["id"] as? Int == id && (id != nil || $0["id"] is NSNull) }
                return (answer?["error"] as? [String: Any])?["code"] as? Int
            }
            #expect(code(nil) == -32700 || code(nil) == -32600)
            #expect(code(2) == -32601)
            #expect(code(3) == -32602)
            #expect(answers.contains { $0["id"] as? Int == 5 && $0["result"] != nil })
        }
    }

    /// A daemon that is killed while a turn is under way: the next one brings it to its end.
    @Test func aTurnOutlivesItsDaemon() async throws {
        let rules = """
              - name: first a tool
                when: { agent: worker, turn: 1 }
                reply: { tools: [{ name: file_write, input: { path: /workspace/log, content: "once\\n", append: true } }] }
              - name: then slowly
                when: { agent: worker }
                latency: 3s
                reply: { text: "written" }
            """
        try await Self.with(rules) { f in
            let manifest = """
                name: worker
                model: default
                lifecycle: persistent
                capabilities: ["tool: file_write", "file_write: /workspace/**"]
                """
            let id = try #require(
                try await Self.result(f, "agent.spawn", ["manifest": manifest])["agent_id"] as? String)
            let sent = try await Self.result(f, "agent.run", ["agent_id": id, "message": "go", "wait": false])
            try await f.eventually("the tool has run") {
                FileManager.default.fileExists(atPath: "\(f.home)/agents/\(id)/workspace/log")
            }
            kill(try #require(f.daemonPid), SIGKILL)
            try await f.up()
            let later = try await Self.result(
                f, "agent.reply", ["agent_id": id, "trace_id": sent["trace_id"] ?? "", "wait": true])
            #expect(later["stop_reason"] as? String == "complete")
            #expect(later["response"] as? String == "written")
            let log = try String(contentsOfFile: "\(f.home)/agents/\(id)/workspace/log", encoding: .utf8)
            #expect(log == "once\n")
            #expect(try await f.aegis("audit", "verify").code == 0)
        }
    }

    /// Grants of the host go no further than their owner's rights, and never to Aegis itself.
    @Test func hostPathsAreUsedWithTheRightsOfTheOwner() async throws {
        try await Self.with("  - reply: { text: x }") { f in
            // Another user reaches the daemon through its socket only where that was opened for them.
            let open = try await f.run(
                "/bin/sh",
                ["-c", #"chmod 711 "$0" "$(dirname "$0")" && chmod 666 "$0/agentd.sock" "$0/aegisd.sock""#, f.home])
            try #require(open.code == 0, "\(open)")
            let client = """
                import json, socket, sys
                s = socket.socket(socket.AF_UNIX); s.settimeout(100); s.connect(sys.argv[1]); f = s.makefile('rwb')
                def call(method, **params):
                    f.write((json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}) + "\\n").encode()); f.flush()
                    return json.loads(f.readline())
                def code(answer): return answer.get("error", {}).get("data", {}).get("code")
                manifest = "name: mine\\nmodel: default\\ncapabilities: ['tool: *', 'exec: *', 'file_read: /etc/**', 'file_read: /var/**', 'file_read: /workspace/**', 'file_write: /workspace/**']"
                agent = call("agent.spawn", manifest=manifest)["result"]["agent_id"]
                def read(path): return call("tool.invoke", agent_id=agent, tool="file_read", input={"path": path})
                print(len(call("agent.list")["result"]["agents"]), "result" in read("/etc/passwd"), code(read("/etc/shadow")))
                print(code(call("agent.status", agent_id="theirs")))
                def run(*argv): return call("tool.invoke", agent_id=agent, tool="exec", input={"argv": list(argv)})["result"]["result"]["stdout"]
                print(run("sh", "-c", "id -u; echo made >/workspace/y"), "made" in str(read("/workspace/y")))
                """
            let theirs = try await Self.result(f, "agent.spawn", ["manifest": "name: theirs\nmodel: default"])
            #expect(theirs["agent_id"] is String)
            let result = try await f.run(
                "/usr/bin/setpriv",
                [
                    "--reuid", "65534", "--regid", "65534", "--clear-groups", "/usr/bin/python3", "-c", client,
                    "\(f.home)/agentd.sock",
                ])
            #expect(result.out == "1 True path-denied\nagent-not-found\n0\n True\n", "\(result)")
            // The owner of all may read what root may, and even so not what is Aegis's.
            let root = try await Self.result(
                f, "agent.spawn",
                ["manifest": "name: reader\nmodel: default\ncapabilities: ['tool: file_read', 'file_read: /**']"])
            for path in ["\(f.home)/secrets.key", "\(f.home)/aegis.db", "/proc/self/environ"] {
                let refused = try await Self.call(
                    f, "tool.invoke",
                    ["agent_id": root["agent_id"] ?? "", "tool": "file_read", "input": ["path": path]])
                #expect(refused["error"] != nil, "\(path): \(refused)")
            }
        }
    }

    @Test func manifestsAreDeployedAndChecked() async throws {
        try await Self.with("  - reply: { text: \"I am {{agent}}\" }") { f in
            let file = f.path("agent.yaml")
            try "name: scribe\nmodel: default\ncapabilites: []\n".write(
                toFile: file, atomically: true, encoding: .utf8)
            let wrong = try await f.aegis("agent", "validate", file)
            #expect(wrong.code == 2 && wrong.err.contains("did you mean 'capabilities'?"), "\(wrong)")
            try "name: scribe\nmodel: default\nsystem_prompt: {file: prompt.md}\n".write(
                toFile: file, atomically: true, encoding: .utf8)
            try "You write.".write(toFile: f.path("prompt.md"), atomically: true, encoding: .utf8)
            #expect(try await f.aegis("agent", "deploy", file).code == 0)
            #expect(try await f.aegis("agent", "list", "--quiet").out == "scribe\n")
            let answer = try await f.aegis("agent", "spawn", "scribe", "-m", "who are you?")
            #expect(answer.code == 0 && answer.out == "I am scribe\n", "\(answer)")
            let unknown = try await f.aegis("agent", "spawn", "scrib")
            #expect(unknown.code == 4 && unknown.err.contains("did you mean 'scribe'?"), "\(unknown)")
            #expect(try await f.aegis("agent", "delete", "scribe").code == 0)
        }
    }

    /// Whoever runs the command can read the file: what is wrong is said with its words, its place, and what would be right.
    @Test func whatIsWrongInAManifestIsSaid() async throws {
        try await Self.with("  - reply: { text: hello }") { f in
            let file = f.path("agent.yaml")
            func manifest(_ text: String) throws {
                try text.write(toFile: file, atomically: true, encoding: .utf8)
            }
            for (text, words) in [
                ("capabilities: ['file_reed: /data/*']", "'file_reed: /data/*', column 1: "),
                ("capabilities: ['file_reed: /data/*']", "file_read: /data/**"),
                ("capabilities: [{grant: 'tool: echo', max_cals: 1}]", "max_calls"),
                ("lifecycle: persistant", "did you mean 'persistent'?, found 'persistant'"),
                ("lifecycle: scheduled\nschedule: '61 * * * *'", "'61' is no minute"),
                ("max_iterations: many", "found 'many'"),
                ("approval_required: [file_wirte]", "did you mean 'file_write'?"),
                ("capabilities: ['secret: KEY@api.example.com']", "secret: KEY@api.example.com' would have no effect"),
                ("capabilities: ['secret: KEY@api.example.com']", "give the secret to what needs it"),
                ("system_prompt: {file: none.md}", f.path("none.md")),
            ] {
                try manifest("name: scribe\nmodel: default\n\(text)\n")
                for command in [["validate"], ["deploy"], ["spawn"]] {
                    let wrong = try await f.run(DaemonFixture.cli, ["agent"] + command + [file])
                    #expect([2, 4].contains(wrong.code) && wrong.err.contains(words), "\(text): \(wrong)")
                    #expect(!wrong.err.contains("is not shown") && !wrong.err.contains("needs a schedule"), "\(wrong)")
                }
            }
            #expect(try await f.aegis("agent", "ps", "--quiet").out.isEmpty)
            // What may come yet is no mistake, and said.
            try manifest(
                "name: scribe\nmodel: defualt\ncapabilities: ['tool: ecko', 'tool: mcp.x.y', 'tool: web_search']\n")
            let typos = try await f.aegis("agent", "validate", file)
            #expect(typos.code == 0 && typos.out.contains("'echo'?") && typos.out.contains("'default'?"), "\(typos)")
            #expect(!typos.out.contains("mcp.x.y' is") && !typos.out.contains("web_search' is"), "\(typos)")
            let asked = try await f.aegis("agent", "spawn", file, "-m", "hello")
            #expect(asked.code == 1 && asked.err.contains("hint: did you mean 'default'?"), "\(asked)")
            let goal = try await f.aegis("goal", "--model", "defualt", "report")
            #expect(goal.code == 1 && goal.err.contains("hint: did you mean 'default'?"), "\(goal)")
        }
    }
}
