import Foundation
import Testing

/// MCP servers in instances, called by agents, through the CLI.
@Suite struct MCPTests {
    /// A server of the revision without sessions, in the base image's own Python.
    private static let server = ForeignClients.server(
        #"""
        tools = [tool("add", {"a": number, "b": number}), tool("reach", {}), tool("quit", {}), tool("hidden", {})]
        def call(name, given):
            if name == "add":
                return str(given["a"] + given["b"])
            if name == "quit":
                print("going away", file=sys.stderr, flush=True)
                os._exit(7)
            try:
                socket.create_connection(("192.0.2.1", 80), timeout=5)
                return "reached"
            except OSError as error:
                links = [name for _, name in socket.if_nameindex()]
                return f"cannot reach it: {error}, {links}, {os.environ['MODE']}, {sorted(os.listdir('/srv'))}"
        """#)

    private static let rules = """
        apiVersion: aegis/v1
        kind: ModelScenario
        rules:
          - name: ask
            when: { agent: adder, turn: 1 }
            reply: { tools: [{ name: mcp__calc__add, input: { a: 40, b: 2 } }] }
          - name: tell
            when: { agent: adder, turn: 2 }
            reply: { text: "it is {{result:mcp__calc__add.text}}" }
        """

    /// What a server at the host says of itself: whom it runs as, what it sees, and whether it could become more.
    private static let atHost = #"""
        import ctypes, json, os, socket, sys
        def sees(path):
            try:
                return bool(os.listdir(path) if os.path.isdir(path) else open(path).read(1) or True)
            except OSError:
                return False
        for line in sys.stdin:
            asked = json.loads(line)
            if "id" not in asked:
                continue
            if asked["method"] == "initialize":
                result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "h"}}
            elif asked["method"] == "tools/list":
                result = {"tools": [{"name": "look", "inputSchema": {"type": "object"}}]}
            elif asked["method"] == "tools/call":
                said = {"uid": os.getuid(), "groups": os.getgroups(), "secret": os.environ.get("KEY"),
                        "tmp": sees("/tmp"), "var": sees("/var"), "own": sees(sys.argv[1]), "usr": sees("/usr"),
                        "sealed": ctypes.CDLL(None).prctl(39, 0, 0, 0, 0), "network": os.stat("/proc/self/ns/net").st_ino,
                        "interfaces": [name for _, name in socket.if_nameindex()]}
                own = socket.create_server(("127.0.0.1", 0))
                said["loopback"] = socket.create_connection(own.getsockname()).getpeername() == own.getsockname()
                try:
                    open(sys.argv[1] + "/written", "w").close()
                    said["writes"] = True
                except OSError:
                    said["writes"] = False
                result = {"content": [], "structuredContent": said}
            else:
                print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "error": {"code": -32601, "message": "?"}}), flush=True)
                continue
            print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
        """#

    private static func with(
        servers more: String = "", _ body: @escaping @Sendable (DaemonFixture) async throws -> Void
    ) async throws {
        let place = "/tmp/aegis-test-mcp-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: "\(place)/srv", withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: place) }
        try server.write(toFile: "\(place)/srv/server.py", atomically: true, encoding: .utf8)
        try atHost.write(toFile: "\(place)/srv/host.py", atomically: true, encoding: .utf8)
        try rules.write(toFile: "\(place)/rules.yaml", atomically: true, encoding: .utf8)
        let config = """
            apiVersion: 100monkeys.ai/v1
            kind: NodeConfig
            metadata: { name: mcp }
            spec:
              instances: { client_patience: 1s }
              llm_providers:
                - { name: demo, type: scripted, scenario: \(place)/rules.yaml, models: [{ alias: default, model: demo }] }
              mcp_servers:
                - name: calc
                  command: [python3, /srv/server.py]
                  mounts: ["\(place)/srv:/srv"]
                  env: { MODE: tested }
                  deny: [hidden]
                  idle_stop: 500ms
                - name: here
                  command: [python3, \(place)/srv/host.py, \(place)/srv]
                  host: true
                  user: nobody
                  mounts: ["\(place)/srv:\(place)/srv"]
                  env: { KEY: "k" }
                  idle_stop: 500ms
            \(more.replacing("PLACE", with: place))
            """
        try await DaemonFixture.with(config: config, body)
    }

    /// What a server at the host says of itself.
    private static func look(_ f: DaemonFixture, _ tool: String) async throws -> [String: Any] {
        let look = try await invoke(f, "looker", tool)
        let json = try JSONSerialization.jsonObject(with: Data(look.text.utf8)) as? [String: Any]
        return try #require((json?["result"] as? [String: Any])?["structured"] as? [String: Any], "\(look)")
    }

    private static func spawn(_ f: DaemonFixture, _ name: String, _ grants: [String]) async throws {
        let capabilities = grants.map { "\"\($0)\"" }.joined(separator: ", ")
        let manifest = f.path("\(name).yaml")
        try "name: \(name)\nmodel: default\nlifecycle: persistent\ncapabilities: [\(capabilities)]\n".write(
            toFile: manifest, atomically: true, encoding: .utf8)
        let spawned = try await f.aegis("agent", "spawn", manifest)
        try #require(spawned.code == 0, "\(spawned)")
    }

    private static func invoke(
        _ f: DaemonFixture, _ agent: String, _ tool: String, _ input: String = "{}"
    ) async throws -> (code: Int32, text: String) {
        let result = try await f.aegis("tool", "invoke", "--agent", agent, tool, input, "--output", "json")
        return (result.code, result.out + result.err)
    }

    /// The first agent of a new node finds the tools that it was granted, or is told why there are none.
    @Test func agentsWaitForWhatAServerSaysFirst() async throws {
        let broken = "    - { name: broken, command: [sh, -c, 'echo no such luck >&2; exit 3'] }"
        try await Self.with(servers: broken) { f in
            try await Self.spawn(f, "adder", ["tool: mcp.calc.add"])
            let run = try await f.aegis("agent", "run", "adder", "What is 40 and 2?")
            #expect(run.code == 0 && run.out.contains("it is 42"), "\(run)")
            #expect(try await Self.invoke(f, "adder", "mcp.calc.ad").text.contains("tool-unknown"))
            try await Self.spawn(f, "other", ["tool: mcp.broken.mend"])
            let failed = try await Self.invoke(f, "other", "mcp.broken.mend")
            #expect(failed.code != 0 && failed.text.contains("mcp-unavailable"), "\(failed)")
            #expect(failed.text.contains("exit code 3") && !failed.text.contains("no such luck"), "\(failed)")
        }
    }

    @Test func aServerLivesInAnInstanceAsLongAsItIsUsed() async throws {
        try await Self.with { f in
            try await f.eventually("its tools are listed") {
                try await f.aegis("tool", "list").out.contains("mcp.calc.add")
            }
            let listed = try await f.aegis("mcp", "list", "--output", "json")
            #expect(listed.out.contains("2026-07-28") && !listed.out.contains("mcp.calc.hidden"), "\(listed)")
            let client = """
                import socket, sys
                s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
                s.sendall(b'{"jsonrpc":"2.0","id":1,"method":"mcp.refresh","params":{"name":"calc"}}\\n')
                print(s.makefile().readline())
                """
            let asked = try await f.run("/usr/bin/python3", ["-c", client, "\(f.home)/agentd.sock"])
            #expect(asked.out.contains(#""state":"running""#) && asked.out.contains("mcp.calc.add"), "\(asked)")
            try await Self.spawn(f, "adder", ["tool: mcp.calc.add"])
            try await Self.spawn(f, "other", ["tool: *"])
            // A model calls it by the name that providers take.
            let run = try await f.aegis("agent", "run", "adder", "What is 40 and 2?")
            #expect(run.code == 0 && run.out.contains("it is 42"), "\(run)")
            let sum = try await Self.invoke(f, "adder", "mcp.calc.add", #"{"a": 2, "b": 3}"#)
            #expect(sum.code == 0 && sum.text.contains(#""text": "5""#), "\(sum)")
            #expect(
                try await Self.invoke(f, "adder", "mcp.calc.add", #"{"a": "2", "b": 3}"#).text.contains(
                    "arguments-invalid"))
            #expect(try await Self.invoke(f, "adder", "mcp.calc.reach").text.contains("capability-denied"))
            #expect(try await Self.invoke(f, "other", "mcp.calc.hidden").text.contains("tool-unknown"))
            let reach = try await Self.invoke(f, "other", "mcp.calc.reach")
            #expect(reach.text.contains("cannot reach it"), "\(reach)")
            #expect(reach.text.contains("['lo'], tested, ['host.py', 'server.py']"), "\(reach)")
            // It goes in the middle of a call, and is there again for the next.
            let quit = try await Self.invoke(f, "other", "mcp.calc.quit")
            #expect(quit.text.contains("mcp-unavailable") && quit.text.contains("exit code 7"), "\(quit)")
            // What it wrote is for who runs the node, and for no model.
            #expect(!quit.text.contains("going away") && quit.text.contains("aegis mcp list"), "\(quit)")
            let list = try await f.aegis("mcp", "list")
            #expect(list.out.contains("exit code 7") && list.out.contains("going away"), "\(list)")
            #expect(try await Self.invoke(f, "adder", "mcp.calc.add", #"{"a": 1, "b": 1}"#).code == 0)
            try await f.eventually("its instance is gone") {
                try await f.aegis("instance", "list", "--quiet").out.isEmpty
            }
            #expect(try await f.aegis("mcp", "list").out.contains("stopped"))
            // A daemon that is killed leaves nothing either, and the next one knows the tools.
            #expect(try await Self.invoke(f, "adder", "mcp.calc.add", #"{"a": 1, "b": 2}"#).code == 0)
            kill(try #require(f.daemonPid), SIGKILL)
            try await f.up()
            #expect(try await f.aegis("tool", "list").out.contains("mcp.calc.add"))
            #expect(try await Self.invoke(f, "adder", "mcp.calc.add", #"{"a": 1, "b": 3}"#).code == 0)
            try await f.eventually("no instance is left") {
                try await f.aegis("instance", "list", "--quiet").out.isEmpty
            }
            let audit = try await f.aegis("audit", "tail", "--tail", "1000", "--output", "json")
            #expect(audit.out.contains("mcp_connected") && audit.out.contains("instance_created"), "\(audit.out.count)")
            #expect(try await f.aegis("audit", "verify").code == 0)
        }
    }

    @Test func aServerAtTheHostSeesAndMayLittle() async throws {
        let wide = """
                - name: wide
                  command: [python3, PLACE/srv/host.py, PLACE/srv]
                  host: true
                  user: nobody
                  network: { mode: host }
                  idle_stop: 500ms
                  mounts: ["PLACE/srv:PLACE/srv"]
            """
        try await Self.with(servers: wide) { f in
            try await f.eventually("its tools are listed") {
                let tools = try await f.aegis("tool", "list").out
                return tools.contains("mcp.here.look") && tools.contains("mcp.wide.look")
            }
            try await Self.spawn(f, "looker", ["tool: mcp.here.look", "tool: mcp.wide.look"])
            let said = try await Self.look(f, "mcp.here.look")
            #expect(said["sealed"] as? Int == 1, "\(said)")
            #expect(said["uid"] as? Int == 65534 && said["secret"] as? String == "k", "\(said)")
            #expect(said["own"] as? Bool == true && said["usr"] as? Bool == true, "\(said)")
            for closed in ["tmp", "var", "writes"] { #expect(said[closed] as? Bool == false, "\(closed): \(said)") }
            let wide = try await Self.look(f, "mcp.wide.look")
            // It reaches nobody but itself, unless its entry says that it has the host's network.
            let host = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/ns/net")
            #expect(said["interfaces"] as? [String] == ["lo"] && said["loopback"] as? Bool == true, "\(said)")
            let (own, others) = (said["network"] as? Int ?? 0, wide["network"] as? Int ?? 0)
            #expect("net:[\(own)]" != host && "net:[\(others)]" == host, "\(said) \(wide)")
            let list = try await f.aegis("mcp", "list")
            #expect(list.out.contains("host, its network"), "\(list)")
            try await f.eventually("it is stopped") { !(try await f.aegis("mcp", "list").out.contains("running")) }
        }
    }
}
