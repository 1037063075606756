import Foundation
import Testing

/// A daemon that can be killed, an agent to talk to, and a server whose calls are counted.
struct CrashStage: Sendable {
    /// An MCP server whose tool writes down each of its calls.
    private static let server = LocalServer.ofTool(
        #"""
        TOOL = {"name": "note", "inputSchema": {"type": "object",
            "properties": {"text": {"type": "string"}}, "required": ["text"]}}
        def call(handler, given):
            with open(sys.argv[1] + ".calls", "a") as f: f.write(given["text"] + "\n")
            return "noted"
        """#)

    private static let rules = """
          - when: { agent: peer, tool: file_write }
            reply: { text: heard }
          - when: { agent: peer, message: "tides of *." }
            reply: { tools: [{ name: file_write, input: { path: /workspace/log, content: "{{1}}\\n", append: true } }] }
          - when: { agent: child, tool: file_write }
            reply: { text: child done }
          - when: { agent: child }
            reply: { tools: [{ name: file_write, input: { path: /workspace/child, content: "x\\n", append: true } }] }
          - when: { agent: "boss-*", tool: file_write }
            reply: { tools: [{ name: mcp__calls__note, input: { text: "{{agent}}" } }] }
          - when: { agent: "boss-*", tool: mcp__calls__note }
            reply: { tools: [{ name: memory_store, input: { content: "the tide of {{agent}}", category: fact } }] }
          - when: { agent: "boss-*", tool: memory_store }
            reply: { tools: [{ name: agent_send, input: { to: peer, message: "tides of {{agent}}." } }] }
          - when: { agent: "boss-*", tool: agent_send }
            reply:
              tools:
                - name: spawn_agent
                  input:
                    manifest: "name: child\\nmodel: default\\ncapabilities: ['tool: file_write', 'file_write: /workspace/**']"
                    message: write
          - when: { agent: "boss-*", tool: spawn_agent }
            reply: { text: all done }
          - when: { agent: "boss-*" }
            reply: { tools: [{ name: file_write, input: { path: /workspace/log, content: "x\\n", append: true } }] }

        """

    private static let manifest = """
        model: default
        lifecycle: persistent
        capabilities:
          - "tool: file_write"
          - "file_write: /workspace/**"
          - "tool: mcp.calls.note"
          - "tool: memory_store"
          - "tool: agent_send"
          - "message: [peer]"
          - "tool: spawn_agent"
          - "spawn: child"
        approval_required: [mcp.calls.note]
        """

    /// A client that brings the whole life of such an agent about: spawned, sent to work, agreed with, looked at, stopped. What it
    /// was told is in a file, from which it goes on when the daemon has died under it.
    private static let client = #"""
        import json, os, socket, sys, time
        path, name, manifest, agents, calls = sys.argv[2:]
        state = json.load(open(path)) if os.path.exists(path) else {}
        def keep(**told):
            state.update(told)
            with open(path + "~", "w") as f: json.dump(state, f)
            os.rename(path + "~", path)
        s = socket.socket(socket.AF_UNIX); s.settimeout(20)
        end = time.monotonic() + 60
        def ask(method, **params):
            assert time.monotonic() < end, (method, state)
            f.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode() + b"\n"); f.flush()
            line = f.readline()
            if not line: raise ConnectionResetError
            return json.loads(line)
        def call(method, **params):
            answer = ask(method, **params)
            assert "result" in answer, (method, params, answer)
            return answer["result"]
        def live(name): return next((a for a in call("agent.list")["agents"] if a["name"] == name), None)
        def work():
            if "agent" not in state:
                known = live(name)
                keep(agent=known["id"] if known else call("agent.spawn", manifest="name: %s\n%s" % (name, manifest))["agent_id"])
            agent = state["agent"]
            if "reply" not in state:
                if "trace" not in state:
                    # Whether the message was taken by a daemon that could not say so any more: it cannot be over, as nobody agreed.
                    for _ in range(2):
                        while True:
                            status = call("agent.status", agent_id=agent)
                            if status.get("trace") or not status.get("mail"): break
                    keep(trace=status.get("trace") or call("agent.run", agent_id=agent, message="go", wait=False)["trace_id"])
                while True:
                    reply = call("agent.reply", agent_id=agent, trace_id=state["trace"])
                    if reply["status"] != "working": break
                    for one in call("approval.list")["pending"]: ask("approval.respond", id=one["id"], decision="approve")
                    time.sleep(0.003)
                while (peer := live("peer"))["state"] != "idle" or peer["mail"]: time.sleep(0.003)
                invoked = call("audit.tail", kinds=["tool_invoked"], agent=agent, count=1000)["records"]
                def count(file, line):
                    try: return open(os.path.join(agents, file)).read().split("\n").count(line)
                    except FileNotFoundError: return 0
                effects = {"file_write": count(agent + "/workspace/log", "x"), "mcp.calls.note": count(calls, name),
                    "memory_store": len(call("memory.list", agent_id=agent)["memories"]),
                    "agent_send": count(peer["id"] + "/workspace/log", name), "spawn_agent": count(agent + "/workspace/child", "x")}
                keep(reply=reply, effects=effects,
                    budget=call("agent.budget", agent_id=agent),
                    invoked=[r["fields"]["tool"] for r in invoked])
            if live(name): call("agent.stop", agent_id=agent)
            others = [a["name"] for a in call("agent.list")["agents"] if a["name"] != "peer"]
            keep(over=True, others=others, pending=len(call("approval.list")["pending"]))
        try:
            s.connect(sys.argv[1]); f = s.makefile("rwb")
            work()
        except (ConnectionError, BrokenPipeError): sys.exit(3)
        """#

    static let tools = ["file_write", "mcp.calls.note", "memory_store", "agent_send", "spawn_agent"]

    let door: AgentDoor
    let points: CrashPoints
    let server: LocalServer
    var fixture: DaemonFixture { door.fixture }

    static func with(_ body: @escaping @Sendable (CrashStage) async throws -> Void) async throws {
        let points = try await CrashPoints()
        try await DaemonFixture.with(config: nil, launcher: points.launcher) { f in
            try await LocalServer.with(f, Self.server) { server in
                try await f.succeed("down")
                let more = "  mcp_servers: [{ name: calls, url: 'http://127.0.0.1:\(server.port)/mcp' }]\n"
                try AgentDoor.configuration(f, more, rules: Self.rules)
                try await f.up()
                let door = AgentDoor(fixture: f)
                try await f.eventually("the server's tool is listed") {
                    try await f.aegis("tool", "list").out.contains("mcp.calls.note")
                }
                _ = try await door.spawn(
                    """
                    name: peer
                    model: default
                    lifecycle: persistent
                    capabilities: ["tool: file_write", "file_write: /workspace/**"]
                    """)
                try await body(CrashStage(door: door, points: points, server: server))
            }
        }
    }

    /// Lets an agent live, with a daemon that dies in the middle of it; what the client was told in the end.
    ///
    /// - Returns: nil when the daemon did not die.
    func live(_ name: String) async throws -> [String: Any]? {
        let state = fixture.path("\(name).json")
        func client() async throws -> CommandResult {
            try await fixture.run(
                "/usr/bin/python3",
                [
                    "-c", Self.client, "\(fixture.home)/agentd.sock", state, name, Self.manifest,
                    "\(fixture.home)/agents", "\(server.file).calls",
                ])
        }
        let first = try await client()
        guard first.code == 3 else {
            try #require(first.code == 0, "\(first)")
            return nil
        }
        try await fixture.up()
        let second = try await client()
        try #require(second.code == 0, "\(name): \(second)")
        let told = try Data(contentsOf: URL(fileURLWithPath: state))
        return try #require(try JSONSerialization.jsonObject(with: told) as? [String: Any])
    }

    /// What the agent was told of each of its calls.
    func outcomes(_ agent: String) async throws -> [String: [String]] {
        let rows = try await fixture.sql(
            "SELECT step FROM agent_steps JOIN agent_sessions ON number = place >> 32 WHERE agent = '\(agent)' ORDER BY place"
        )
        var names: [String: String] = [:]
        var outcomes: [String: [String]] = [:]
        for row in rows.split(separator: "\n") {
            let step = try #require(try JSONSerialization.jsonObject(with: Data(row.utf8)) as? [String: Any])
            for block in step["blocks"] as? [[String: Any]] ?? [] {
                guard let id = block["id"] as? String, let name = block["name"] as? String else { continue }
                names[id] = name.replacing("mcp__calls__", with: "mcp.calls.")
            }
            guard let output = step["output"] as? [String: Any], let id = output["id"] as? String else { continue }
            let isError = output["is_error"] as? Bool == true
            outcomes[names[id] ?? id, default: []].append(isError ? output["text"] as? String ?? "?" : "done")
        }
        return outcomes
    }

    /// Tokens that the agent's budget has in one of its columns.
    static func tokens(_ column: String, _ told: [String: Any]) -> Int? {
        ((told["budget"] as? [String: Any])?[column] as? [String: Any])?["tokens"] as? Int
    }

    /// Checks what must hold of an agent whose daemon was killed, wherever that was.
    ///
    /// - Returns: the tool whose outcome nobody knows, and how often it has had its effect.
    func check(_ name: String, _ told: [String: Any], _ place: String) async throws -> String {
        let reply = told["reply"] as? [String: Any]
        #expect(
            reply?["stop_reason"] as? String == "complete" && reply?["response"] as? String == "all done",
            "\(place): \(told)")
        #expect(Self.tokens("reserved", told) == 0, "\(place): tokens are held for nobody: \(told)")
        #expect((told["others"] as? [String])?.isEmpty == true && told["pending"] as? Int == 0, "\(place): \(told)")
        let effects = told["effects"] as? [String: Int] ?? [:]
        let outcomes = try await outcomes(try #require(told["agent"] as? String))
        let invoked = told["invoked"] as? [String] ?? []
        var unclear: [String] = []
        for tool in Self.tools {
            let count = effects[tool] ?? -1
            let outcome = try #require(outcomes[tool], "\(place): \(tool): \(outcomes)")
            #expect(outcome.count == 1, "\(place): \(tool): \(outcome)")
            #expect(invoked.contains(tool), "\(place): \(tool) is not in the ledger")
            if outcome == ["done"] {
                #expect(count == 1, "\(place): \(tool) has happened \(count) times")
            } else {
                #expect(outcome[0].contains("may or may not have happened"), "\(place): \(tool): \(outcome)")
                #expect((0...1).contains(count), "\(place): \(tool) has happened \(count) times")
                unclear.append("\(tool) \(count)")
            }
        }
        #expect(unclear.count <= 1, "\(place): \(unclear)")
        let verified = try await fixture.aegis("audit", "verify")
        #expect(verified.code == 0, "\(place): \(verified)")
        return unclear.first ?? "-"
    }
}
