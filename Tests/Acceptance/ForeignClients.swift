/// Python that several tests have in common: what a test says itself comes behind or before it.
enum ForeignClients {
    /// Server-sent events and JSON-RPC of a home, `sys.argv[1]`; notifications that come between answers are in `notes`.
    static let ofStreams = """
        import http.client, json, socket, sys
        home, notes = sys.argv[1], []
        class Unix(http.client.HTTPConnection):
            def connect(self):
                self.sock = socket.socket(socket.AF_UNIX); self.sock.settimeout(100); self.sock.connect(home + "/aegisd.sock")
        def listen(path, last=None):
            c, headers = Unix("localhost"), {"Accept": "text/event-stream"}
            if last: headers["Last-Event-ID"] = last
            c.request("GET", path, headers=headers)
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
            while True:
                answer = json.loads(rpc.readline())
                if "id" in answer: return answer.get("result", answer)
                notes.append(answer)

        """

    /// An MCP server over its standard streams, of the revision without sessions.
    ///
    /// - Parameter tools: Python that says what `tools` are and has `call(name, given)`, whose text is the answer; none is no answer.
    /// - Returns: the program.
    static func server(_ tools: String) -> String {
        """
        import json, os, socket, sys, urllib.request
        number = {"type": "integer"}
        def tool(name, properties, more=""):
            return {"name": name, "description": "Does " + name + more + ".",
                    "inputSchema": {"type": "object", "properties": properties, "required": list(properties)}}

        """ + tools + """

            for line in sys.stdin:
                asked = json.loads(line)
                method = asked.get("method")
                if "id" not in asked or method == "subscriptions/listen":
                    continue
                if method == "server/discover":
                    result = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}},
                              "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "calc", "version": "1"}}}
                elif method == "tools/list":
                    result = {"tools": tools}
                else:
                    text = call(asked["params"]["name"], asked["params"].get("arguments", {}))
                    if text is None:
                        continue
                    result = {"content": [{"type": "text", "text": text}]}
                print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)

            """
    }
}
