"""The Python runner as tools of an agent: an MCP server on its standard streams, revisions 2026-07-28 and 2025-11-25.

Sessions are those of runner.py, kept by this process: they are gone when it ends.
"""
import json
import os
import sys
import threading

import runner

STATELESS = "2026-07-28"
WITH_SESSION = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"]
SOFTWARE = {"name": "python-runner", "version": "1.1.0"}
MOST_CALLS = 64

SESSION = {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$", "description": "Which session; 'default' if left out."}
TOOLS = [
    {
        "name": "run_python",
        "description": "Runs Python code in /workspace and keeps its names: what one call defines the next one of the same "
        "session finds. Answers with stdout, stderr, the repr of the last line when that is an expression, and the error.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "code": {"type": "string", "description": "The code."},
                "session": SESSION,
                "timeout": {
                    "type": "number", "exclusiveMinimum": 0, "maximum": 3600,
                    "description": "Seconds after which it is interrupted; %g if left out." % runner.TIMEOUT,
                },
            },
            "required": ["code"],
            "additionalProperties": False,
        },
    },
    {
        "name": "reset_python",
        "description": "Ends a session: its names are gone.",
        "inputSchema": {"type": "object", "properties": {"session": SESSION}, "additionalProperties": False},
    },
]


class Failure(Exception):
    def __init__(self, code, message, data=None):
        self.code, self.message, self.data = code, message, data


class Call:
    """A call that can be cancelled: `fileno` is readable from then on."""

    def __init__(self):
        self.ends = os.pipe()

    def fileno(self):
        return self.ends[0]

    def cancel(self):
        os.write(self.ends[1], b"x")

    def close(self):
        for end in self.ends:
            os.close(end)


class Server:
    def __init__(self, incoming, outgoing):
        self.incoming, self.outgoing = incoming, outgoing
        self.lock = threading.Lock()
        self.calls = {}

    def serve(self):
        for line in self.incoming:
            try:
                message = json.loads(line)
            except ValueError as error:
                self.send({"id": None, "error": {"code": -32700, "message": f"not JSON: {error}"}})
                continue
            if not isinstance(message, dict):
                self.send({"id": None, "error": {"code": -32600, "message": "not a request"}})
            elif "id" in message and "method" in message:
                self.answer(message["id"], message["method"], message.get("params") or {})
            elif message.get("method") == "notifications/cancelled":
                with self.lock:
                    call = self.calls.get((message.get("params") or {}).get("requestId"))
                    if call:
                        call.cancel()

    def send(self, message):
        text = json.dumps({"jsonrpc": "2.0", **message}) + "\n"
        with self.lock:
            self.outgoing.write(text)
            self.outgoing.flush()

    def answer(self, number, method, params):
        try:
            if method == "tools/call":
                return self.begin(number, params)
            self.send({"id": number, "result": self.result(method, params)})
        except Failure as failure:
            error = {"code": failure.code, "message": failure.message}
            if failure.data is not None:
                error["data"] = failure.data
            self.send({"id": number, "error": error})

    def result(self, method, params):
        cached = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
        if method == "initialize":
            wanted = params.get("protocolVersion")
            return {
                "protocolVersion": wanted if wanted in WITH_SESSION else WITH_SESSION[0],
                "capabilities": {"tools": {}}, "serverInfo": SOFTWARE,
            }
        if method == "server/discover":
            self.check(params)
            return {
                **cached, "supportedVersions": [STATELESS], "capabilities": {"tools": {}},
                "_meta": {"io.modelcontextprotocol/serverInfo": SOFTWARE},
            }
        if method == "ping":
            return {}
        if method == "tools/list":
            self.check(params)
            return {**cached, "tools": TOOLS}
        raise Failure(-32601, f"there is no method {method}")

    def check(self, params):
        """A request of the revision without sessions says what it is of."""
        wanted = (params.get("_meta") or {}).get("io.modelcontextprotocol/protocolVersion", STATELESS)
        if wanted not in [STATELESS] + WITH_SESSION:
            raise Failure(
                -32022, f"revision {wanted} is not known", {"supported": [STATELESS], "requested": wanted})

    def begin(self, number, params):
        self.check(params)
        name, given = params.get("name"), params.get("arguments") or {}
        if name not in ("run_python", "reset_python"):
            raise Failure(-32602, f"there is no tool {name}")
        call = Call()
        with self.lock:
            if len(self.calls) >= MOST_CALLS or number in self.calls:
                call.close()
                raise Failure(-32603, f"{len(self.calls)} calls are under way, or one of this id")
            self.calls[number] = call
        threading.Thread(target=self.run, args=(number, call, name, given), daemon=True).start()

    def run(self, number, call, name, given):
        try:
            text, is_error = self.tool(name, given, call)
        except runner.Refusal as refusal:
            text, is_error = refusal.message, True
        except Exception as error:
            text, is_error = f"it failed: {error}", True
        with self.lock:
            del self.calls[number]
            call.close()
        self.send({
            "id": number,
            "result": {"resultType": "complete", "content": [{"type": "text", "text": text}], "isError": is_error},
        })

    def tool(self, name, given, call):
        session = runner.session_name(given)
        if name == "reset_python":
            return ("it is gone" if runner.sessions.drop(session) else "there was none of that name"), False
        code, limit = given.get("code"), given.get("timeout", runner.TIMEOUT)
        runner.check_run(code, limit)
        answer = runner.sessions.run(session, code, limit, call)
        return told(answer), answer["error"] is not None


def told(answer):
    """An answer as a text: what the code wrote, its result, its error."""
    parts = [answer["stdout"]]
    if answer["stderr"]:
        parts.append("stderr:\n" + answer["stderr"])
    if answer["result"] is not None:
        parts.append(answer["result"])
    if answer["error"]:
        error = answer["error"]
        parts.append((error["traceback"] or f"{error['type']}: {error['message']}").rstrip())
    if answer["truncated"]:
        parts.append("(the output was cut)")
    return "\n".join(part.rstrip("\n") for part in parts if part)


if __name__ == "__main__":
    # The streams that messages go by are this server's alone: code that writes to its standard output must not answer for it.
    incoming, outgoing = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    runner.PRIVATE[:] = [incoming, outgoing]
    os.chdir("/workspace" if os.path.isdir("/workspace") else "/")
    sys.path.insert(0, os.getcwd())
    Server(
        os.fdopen(incoming, encoding="utf-8", errors="replace"), os.fdopen(outgoing, "w", encoding="utf-8")).serve()
    # Whoever spoke with it has gone: code that still runs answers nobody.
    for name in list(runner.sessions.all):
        runner.sessions.drop(name)
    os._exit(0)
