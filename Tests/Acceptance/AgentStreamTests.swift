import Foundation
import Testing

/// Server-sent events for users that are not root: their own agents', and nobody else's.
@Suite struct AgentStreamTests {
    private static let client = """
        import http.client, json, socket, sys
        home, theirs = sys.argv[1:]
        class Unix(http.client.HTTPConnection):
            def connect(self):
                self.sock = socket.socket(socket.AF_UNIX); self.sock.settimeout(100); self.sock.connect(home + "/aegisd.sock")
        def listen(path):
            c = Unix("localhost"); c.request("GET", path, headers={"Accept": "text/event-stream"})
            return c.getresponse()
        def event(r):
            found = {}
            while True:
                line = r.readline().decode().rstrip("\\n")
                if line == "" and "data" in found: return found
                if ": " in line and not line.startswith(":"):
                    key, value = line.split(": ", 1); found[key] = value
        s = socket.socket(socket.AF_UNIX); s.settimeout(100); s.connect(home + "/agentd.sock"); rpc = s.makefile("rwb")
        def call(method, **params):
            rpc.write((json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}) + "\\n").encode()); rpc.flush()
            return json.loads(rpc.readline())["result"]
        mine = call("agent.spawn", manifest="name: mine\\nmodel: default\\nlifecycle: persistent")["agent_id"]
        call("agent.run", agent_id=mine, message="go")
        # From the first record that there is: what is somebody else's comes before what is mine.
        stream, agents, kinds = listen("/v1/events?after=0"), set(), []
        while kinds[-1:] != ["agent_execution_completed"]:
            e = event(stream); kinds.append(e["event"]); agents.add(json.loads(e["data"])["agent"])
        print(agents == {mine}, "agent_spawned" in kinds)
        print(listen("/v1/processes/%s/events" % theirs).status, event(listen("/v1/processes/%s/events" % mine))["event"])
        """

    @Test func aUserHearsOfItsOwnAgents() async throws {
        try await AgentDoor.with { door in
            let f = door.fixture
            try await door.openToAll()
            let theirs = try await door.spawn("name: theirs\nmodel: default\nlifecycle: persistent")
            _ = try await door.result("agent.run", ["agent_id": theirs, "message": "go"])
            let heard = try await f.run(
                "/usr/bin/setpriv",
                ["--reuid", "65534", "--regid", "65534", "--clear-groups", "/usr/bin/python3", "-c", Self.client]
                    + [f.home, theirs])
            #expect(heard.out == "True True\n404 began\n", "\(heard)")
        }
    }
}
