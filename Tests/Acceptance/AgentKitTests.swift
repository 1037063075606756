import AegisCore
import AegisIO
import AegisSandboxTypes
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// A kit as the sandbox of an agent, and the MCP servers that it brings, through `agentd.sock` and the CLI.
@Suite(.serialized) struct AgentKitTests {
    /// A server in the base image's own Python. What its tools are changes when it is told so.
    private static let server = ForeignClients.server(
        #"""
        later = ", otherwise" if os.path.exists("/tmp/changed") else ""
        tools = [tool(name, {}, later) for name in ("look", "quit", "change")]
        tools += [tool("add", {"a": number, "b": number}, later), tool("fetch", {"host": {"type": "string"}}, later)]
        def call(name, given):
            if name == "add":
                return str(given["a"] + given["b"])
            if name == "change":
                open("/tmp/changed", "w").close()
            if name == "fetch":
                try:
                    return urllib.request.urlopen("http://" + given["host"] + "/", timeout=10).read().decode()
                except OSError as error:
                    return "cannot reach it: " + str(error)
            if name == "look":
                names = ["AEGIS_INSTANCE_NAME", "OF_KIT", "MODE", "KEY", "MORE"]
                return json.dumps([os.environ.get(name) for name in names] + [os.path.exists("/prepared")])
            print("going away", file=sys.stderr, flush=True)
            os._exit(7)
        """#)

    private static let calculator = """
          env: { OF_KIT: given }
          files:
            - { from: server.py, to: /opt/kit/server.py }
          secrets: [{ name: KEY }, { name: MORE, optional: true }]
          hooks: { before: [{ run: [touch, /prepared] }] }
          health: { exec: [test, -f, /prepared] }
          expose: ["8000:http"]
          network: { allow: [web.example] }
          tools:
            - { name: calc, description: sums, command: [python3, /opt/kit/server.py], env: { MODE: tested }, secrets: [KEY, MORE] }

        """

    private static func install(_ f: DaemonFixture, _ name: String, _ spec: String) async throws {
        let folder = f.path("kits/\(name)")
        try Files.makeDirectories(folder)
        let head = "apiVersion: aegis/v1\nkind: Kit\nmetadata: { name: \(name), version: 1.0.0 }\nspec:\n"
        try (head + spec).write(toFile: "\(folder)/kit.yaml", atomically: true, encoding: .utf8)
        try server.write(toFile: "\(folder)/server.py", atomically: true, encoding: .utf8)
        try await f.succeed("kit", "install", folder)
    }

    private static func manifest(_ name: String, _ capabilities: String, kit: String? = "calculator", _ backend: String)
        -> String
    {
        let sandbox = kit.map { "\nsandbox: { kit: \($0), idle: 10m, isolation: \(backend) }" } ?? ""
        return "name: \(name)\nmodel: default\nlifecycle: persistent\ncapabilities: [\(capabilities)]\(sandbox)\n"
    }

    /// What a tool of the server said.
    private static func text(_ answer: [String: Any]) throws -> String {
        try #require(AgentDoor.value(answer)?["text"] as? String, "\(answer)")
    }

    private static func instances(_ f: DaemonFixture) async throws -> [[String: Any]] {
        let listed = try await f.succeed("instance", "list", "--output", "json")
        return try #require(try JSONSerialization.jsonObject(with: Data(listed.stdout)) as? [[String: Any]])
    }

    private static let child =
        "name: child\\nmodel: default\\ncapabilities: ['tool: mcp.calc.look', 'tool: mcp.calc.add']"
    private static let rules = """
          - when: { agent: worker, turn: 1 }
            reply: { tools: [{ name: mcp__calc__add, input: { a: 40, b: 2 } }] }
          - when: { agent: worker }
            reply: { text: "it is {{result:mcp__calc__add.text}}" }
          - when: { agent: parent, turn: 1 }
            reply: { tools: [{ name: spawn_agent, input: { manifest: "\(child)", message: look } }] }
          - when: { agent: parent }
            reply: { text: "{{result:spawn_agent.response}}" }
          - when: { agent: child, turn: 1 }
            reply: { tools: [{ name: mcp__calc__look, input: {} }] }
          - when: { agent: child }
            reply: { text: "child: {{result:mcp__calc__look.text}}" }

        """

    @Test(arguments: backends) func theServersOfAKitRunInTheAgentsSandbox(_ backend: String) async throws {
        try await AgentDoor.with(rules: Self.rules) { door in
            let f = door.fixture
            try await Self.install(f, "calculator", Self.calculator)
            let info = try await f.succeed("kit", "info", "calculator")
            #expect(info.out.contains("mcp.calc.*: sums; python3 /opt/kit/server.py; with KEY, MORE"), "\(info)")
            let all =
                "'tool: mcp.calc.add', 'tool: mcp.calc.look', 'tool: mcp.calc.quit', 'tool: mcp.calc.change', 'tool: exec', 'exec: *', 'tool: spawn_agent', 'spawn: *', 'file_read: /workspace/**', 'file_write: /workspace/**'"
            let id = try await door.spawn(Self.manifest("worker", all, backend))
            let other = try await door.spawn(Self.manifest("other", "'tool: mcp.calc.look'", kit: nil, backend))
            // Nothing is started before somebody wants to know. A secret that is missing is said, with what to do.
            #expect(try await Self.instances(f).isEmpty)
            let missing = try await door.invoke(id, "mcp.calc.add", ["a": 1, "b": 2])
            #expect(AgentDoor.code(missing) == "kit-secret-missing", "\(missing)")
            try await f.succeed("secret", "set", "KEY", "-", input: Array("open sesame".utf8))
            try await f.eventually("it is tried again") {
                try await f.aegis("tool", "list", "--agent", id).out.contains("mcp.calc.add")
            }
            let listed = try await f.succeed("tool", "list", "--agent", id)
            #expect(!listed.out.contains("mcp.calc.fetch"), "\(listed)")
            #expect(!(try await f.succeed("tool", "list").out.contains("mcp.calc")))
            // The model calls it, by the name that providers take.
            let run = try await f.succeed("agent", "run", id, "go")
            #expect(run.out.contains("it is 42"), "\(run)")
            // It has what the kit says, in the agent's own instance, and what programs get is less.
            #expect(
                try Self.text(await door.invoke(id, "mcp.calc.look", [:]))
                    == #"["\#(id)", "given", "tested", "open sesame", null, true]"#)
            let program = try await door.invoke(id, "exec", ["command": "echo $OF_KIT.$MODE.$KEY; ls /prepared"])
            #expect(AgentDoor.value(program)?["stdout"] as? String == "given..\n/prepared\n", "\(program)")
            let instance = try #require(try await Self.instances(f).first)
            #expect(instance["agent"] as? String == id && instance["kit"] as? String == "calculator@1.0.0")
            #expect((instance["expose"] as? [Any])?.isEmpty ?? true, "\(instance)")
            #expect(!(try await f.succeed("logs", id).out.contains("sesame")))
            // The gate is the same for them, and who has no such sandbox has no such tools.
            #expect(AgentDoor.code(try await door.invoke(id, "mcp.calc.fetch", ["host": "x"])) == "capability-denied")
            #expect(
                AgentDoor.code(try await door.invoke(id, "mcp.calc.add", ["a": "1", "b": 2])) == "arguments-invalid")
            #expect(AgentDoor.code(try await door.invoke(other, "mcp.calc.look", [:])) == "tool-unknown")
            // A child with less to see has a server in a sandbox of its own, which goes with it.
            let parent = try await door.spawn(Self.manifest("parent", all, backend))
            let own = try Self.text(await door.invoke(parent, "mcp.calc.look", [:]))
            let spawned = try await f.succeed("agent", "run", parent, "spawn")
            #expect(own.contains(parent) && spawned.out.contains("child: [\"a-"), "\(own) \(spawned)")
            #expect(!spawned.out.contains(parent) && spawned.out.contains("open sesame"), "\(spawned)")
            #expect(Set(try await Self.instances(f).map { $0["agent"] as? String }) == [id, parent])
            #expect(try await Self.instances(f).allSatisfy { $0["backend"] as? String == backend })
            try await f.succeed("agent", "stop", parent)
            try await Self.goesAndChanges(door, id)
            // It outlives its daemon as its agent does, and goes with it.
            try await f.crash()
            try await f.up()
            #expect(try Self.text(await door.invoke(id, "mcp.calc.add", ["a": 2, "b": 2])) == "4")
            try await f.succeed("agent", "stop", id)
            #expect(try await Self.instances(f).isEmpty)
            #expect(!(try await f.succeed("mcp", "list").out.contains("calc")))
            #expect(try await f.aegis("audit", "verify").code == 0)
        }
    }

    /// A server that goes is started again; one whose tools are others than they were is asked about.
    private static func goesAndChanges(_ door: AgentDoor, _ id: String) async throws {
        let f = door.fixture
        let quit = try await door.invoke(id, "mcp.calc.quit", [:])
        #expect(AgentDoor.code(quit) == "mcp-unavailable" && !"\(quit)".contains("going away"), "\(quit)")
        let servers = try await f.succeed("mcp", "list", "--output", "yaml")
        #expect(servers.out.contains("going away") && servers.out.contains("sandbox of worker"), "\(servers)")
        #expect(try text(await door.invoke(id, "mcp.calc.add", ["a": 1, "b": 2])) == "3")
        #expect(AgentDoor.code(try await door.invoke(id, "mcp.calc.change", [:])) == "mcp-unavailable")
        let changed = try await door.invoke(id, "mcp.calc.add", ["a": 1, "b": 2])
        #expect(AgentDoor.code(changed) == "mcp-tool-changed", "\(changed)")
        async let asked = door.invoke(id, "mcp.calc.add", ["a": 20, "b": 1])
        try await f.eventually("a person is asked") {
            try await f.aegis("approval", "list", "--quiet").out.isEmpty == false
        }
        let shown = try await f.succeed("approval", "list", "--output", "json")
        #expect(shown.out.contains("Does add, otherwise."), "\(shown)")
        let number = try await f.succeed("approval", "list", "--quiet").out
            .trimmingCharacters(in: .whitespacesAndNewlines)
        try await f.succeed("approval", "approve", number)
        #expect(try text(await asked) == "21")
        // What its owner has agreed to is known from then on, for this tool and no other.
        #expect(try text(await door.invoke(id, "mcp.calc.add", ["a": 20, "b": 2])) == "22")
    }

    /// What a kit says of places, ports, secrets, groups and grants gives an agent nothing that it was not granted.
    @Test(arguments: backends) func aKitGivesAnAgentNothing(_ backend: String) async throws {
        let folder = "/tmp/aegis-test-kit-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try "apiVersion: aegis/v1\nkind: ModelScenario\nrules:\n  - reply: { text: x }\n".write(
            toFile: "\(folder)/rules.yaml", atomically: true, encoding: .utf8)
        let config = """
            apiVersion: 100monkeys.ai/v1
            kind: NodeConfig
            metadata: { name: kits }
            spec:
              llm_providers:
                - { name: demo, type: scripted, scenario: \(folder)/rules.yaml, models: [{ alias: default, model: demo }] }
            """
        try await OutsideWorld.with(config: config) { f in
            let door = AgentDoor(fixture: f)
            try await f.succeed("secret", "set", "KEY", "-", input: Array("open sesame".utf8))
            try await Self.install(f, "calculator", Self.calculator)
            let grants =
                "'tool: mcp.calc.fetch', 'tool: mcp.calc.add', 'tool: exec', 'exec: *', 'network: other.example'"
            let id = try await door.spawn(Self.manifest("worker", grants, backend))
            let reached = try await door.invoke(id, "mcp.calc.fetch", ["host": "other.example"])
            #expect(try Self.text(reached) == "web other.example /")
            // The kit's place is not the agent's, neither for its server nor for programs.
            let refused = try await door.invoke(id, "mcp.calc.fetch", ["host": "web.example"])
            #expect(try Self.text(refused).hasPrefix("cannot reach it"), "\(refused)")
            let program =
                "import urllib.request as r; r.urlopen('http://web.example/', timeout=10)"
            let exec = try await door.invoke(id, "exec", ["argv": ["python3", "-c", program]])
            #expect(AgentDoor.value(exec)?["exit_code"] as? Int == 1, "\(exec)")
            // What is taken back is gone for a server that runs, too.
            try await f.succeed("agent", "revoke", id, "network: other.example")
            let gone = try await door.invoke(id, "mcp.calc.fetch", ["host": "other.example"])
            #expect(try Self.text(gone).hasPrefix("cannot reach it"), "\(gone)")
            try await f.succeed("agent", "stop", id)
            for (name, spec) in [
                ("grouped", "  network: { group: shop }\n"), ("granted", "  grants: ['spawn: *']\n"),
                ("secretive", "  secrets: [{ name: KEY }]\n"),
            ] {
                try await Self.install(f, name, spec)
                let agent = try await door.spawn(Self.manifest(name, "'tool: exec', 'exec: *'", kit: name, backend))
                let answer = try await door.invoke(agent, "exec", ["argv": ["true"]])
                #expect(AgentDoor.code(answer) == "agent-kit", "\(name): \(answer)")
            }
            // The node's secrets are not given to agents of users who may not give them to an instance either.
            try await door.openToAll()
            let theirs = try await door.spawn(Self.manifest("theirs", "'tool: mcp.calc.add'", backend), user: 65_534)
            let asked = try await door.invoke(theirs, "mcp.calc.add", ["a": 1, "b": 1], user: 65_534)
            #expect(AgentDoor.code(asked) == "administrator-needed", "\(asked)")
            #expect(try await Self.instances(f).allSatisfy { $0["owner"] as? Int != 0 })
        }
    }

    private static let runner = """
          - when: { agent: coder, turn: 1 }
            reply: { tools: [{ name: mcp__python__run_python, input: { code: "import os\\nx = 20\\nos.system('echo noise')\\nprint('set')" } }] }
          - when: { agent: coder, turn: 2 }
            reply: { tools: [{ name: mcp__python__run_python, input: { code: "open('n', 'w').write(str(x * 2 + 2)); x + 1" } }] }
          - when: { agent: coder }
            reply: { text: "{{result:mcp__python__run_python.text}}" }

        """

    @Test(arguments: backends) func thePythonRunnerIsAToolWithState(_ backend: String) async throws {
        try await AgentDoor.with(rules: Self.runner) { door in
            let f = door.fixture
            try await f.succeed("kit", "install", "\(ShippedKitTests.folder)/python-runner")
            let id = try await door.spawn(
                """
                name: coder
                model: default
                lifecycle: persistent
                capabilities: ['tool: mcp.python.run_python', 'tool: file_read', 'file_read: /workspace/**', 'file_write: /workspace/**']
                sandbox: { kit: python-runner, isolation: \(backend), limits: { memory: 256Mi } }
                """)
            let run = try await f.succeed("agent", "run", id, "go")
            #expect(run.out == "21\n", "\(run)")
            // It works on the agent's files, and within the limits that its owner set.
            let file = try await door.invoke(id, "file_read", ["path": "/workspace/n", "numbered": false])
            #expect((AgentDoor.value(file)?["content"] as? String)?.hasPrefix("42") == true, "\(file)")
            let record = try await f.kitRecord(id)
            #expect(record.limits.memory?.bytes == 256 << 20 && record.limits.pids == 256, "\(record.limits)")
            let failed = try await door.invoke(id, "mcp.python.run_python", ["code": "1/0"])
            #expect(AgentDoor.code(failed) == "mcp-tool-failed", "\(failed)")
            try await f.succeed("agent", "stop", id)
        }
    }
}
