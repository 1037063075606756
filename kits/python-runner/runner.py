"""Runs Python code over HTTP, one process for each session, whose names stay from one request to the next.

POST /run    {"code": TEXT, "session": NAME?, "timeout": SECONDS?}
             -> {"session", "stdout", "stderr", "result", "error", "timed_out", "truncated", "seconds"}
POST /reset  {"session": NAME?}  ends the session; its names are gone
GET /sessions, GET /health

`result` is the repr of the last line when that is an expression. Code that takes longer than its time is interrupted, and
keeps its names; code that does not heed that within two seconds loses its session.
"""
import ast
import contextlib
import io
import json
import multiprocessing
import multiprocessing.connection
import os
import re
import signal
import sys
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 8888
TIMEOUT = float(os.environ.get("RUNNER_TIMEOUT", "60"))
SESSIONS = int(os.environ.get("RUNNER_SESSIONS", "16"))
MOST_BODY = 4 << 20
MOST_OUTPUT = 1 << 20
MOST_RESULT = 64 << 10
PATIENCE = float(os.environ.get("RUNNER_PATIENCE", "2"))
# Descriptors that code has nothing to do with.
PRIVATE = []
# Until a session listens to it.
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")


class Interrupted(BaseException):
    """The time of a request is over. Not an Exception: code that catches everything does not catch this."""


class Bounded(io.TextIOBase):
    """Keeps what is written, up to a bound."""

    def __init__(self):
        self.parts, self.size, self.truncated = [], 0, False

    def writable(self):
        return True

    def write(self, text):
        room = MOST_OUTPUT - self.size
        if len(text) > room:
            self.truncated = True
        self.parts.append(text[:room])
        self.size += len(self.parts[-1])
        return len(text)

    def text(self):
        return "".join(self.parts)


def evaluate(code, names, out, err):
    """Runs code in its names; the repr of its last expression, and its error."""
    try:
        tree = ast.parse(code, "<run>")
        last = None
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            last = ast.Expression(tree.body.pop().value)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            exec(compile(tree, "<run>", "exec"), names)
            if last is None:
                return None, None
            value = eval(compile(last, "<run>", "eval"), names)
            if value is None:
                return None, None
            names["_"] = value
            return repr(value)[:MOST_RESULT], None
    except Interrupted:
        raise
    except BaseException as error:  # SystemExit and KeyboardInterrupt are the code's own
        told = traceback.TracebackException.from_exception(error)
        # The frames of this file say nothing about the code.
        told.stack = traceback.StackSummary.from_list([f for f in told.stack if f.filename == "<run>"])
        return None, {
            "type": type(error).__name__, "message": str(error)[:MOST_RESULT],
            "traceback": "".join(told.format())[:MOST_RESULT],
        }


def serve_session(pipe):
    """The process of a session: answers requests one by one until its pipe is closed."""
    running = False

    def interrupt(number, frame):
        # Once at most for each request, and never between two: whoever sends this sends it until there is an answer.
        nonlocal running
        if running:
            running = False
            raise Interrupted()

    for number in PRIVATE:
        os.close(number)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, interrupt)
    names = {"__name__": "__main__", "__builtins__": __builtins__}
    while True:
        try:
            code = pipe.recv()
        except EOFError:
            return
        out, err = Bounded(), Bounded()
        answer = {"result": None, "error": None, "timed_out": False}
        try:
            try:
                running = True
                answer["result"], answer["error"] = evaluate(code, names, out, err)
            finally:
                running = False
        except Interrupted:
            answer["timed_out"] = True
            answer["error"] = {"type": "TimeoutError", "message": "the time is over", "traceback": ""}
        answer.update(stdout=out.text(), stderr=err.text(), truncated=out.truncated or err.truncated)
        pipe.send(answer)


class Session:
    def __init__(self):
        self.lock = threading.Lock()
        self.used = time.monotonic()
        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve_session, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def run(self, code, limit, call=None):
        """The answer; None when the session had to be ended. `call` is readable once nobody waits for it any more."""
        if call and multiprocessing.connection.wait([call], 0):
            return {
                "result": None, "error": {"type": "Cancelled", "message": "it was not begun", "traceback": ""},
                "timed_out": False,
            }
        self.pipe.send(code)
        ready = multiprocessing.connection.wait([self.pipe] + ([call] if call else []), limit)
        if self.pipe in ready:
            return self.pipe.recv()
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            os.kill(self.process.pid, signal.SIGUSR1)
            if self.pipe.poll(0.05):
                return self.pipe.recv()
        return None

    def end(self):
        self.process.kill()
        self.process.join()
        self.pipe.close()


class Refusal(Exception):
    def __init__(self, status, message):
        self.status, self.message = status, message


class Sessions:
    def __init__(self):
        self.lock = threading.Lock()
        self.all = {}

    def get(self, name):
        with self.lock:
            if name not in self.all:
                if len(self.all) >= SESSIONS:
                    raise Refusal(409, f"there are {len(self.all)} sessions, which is the limit: reset one")
                self.all[name] = Session()
            return self.all[name]

    def drop(self, name):
        with self.lock:
            session = self.all.pop(name, None)
        if session:
            session.end()
        return session is not None

    def run(self, name, code, limit, call=None):
        session = self.get(name)
        started = time.monotonic()
        with session.lock:
            session.used = started
            try:
                answer = session.run(code, limit, call)
            except (EOFError, OSError):
                self.drop(name)
                answer = {
                    "error": {"type": "SessionLost", "message": "the session's process ended", "traceback": ""},
                    "timed_out": False,
                }
        if answer is None:
            self.drop(name)
            answer = {
                "error": {
                    "type": "TimeoutError", "traceback": "",
                    "message": "the time is over; the code did not heed that, and the session was reset",
                },
                "timed_out": True,
            }
        whole = {"session": name, "stdout": "", "stderr": "", "result": None, "truncated": False}
        return {**whole, **answer, "seconds": round(time.monotonic() - started, 3)}


sessions = Sessions()


def session_name(value):
    name = value.get("session", "default")
    if not isinstance(name, str) or not NAME.match(name):
        raise Refusal(400, "a session is named by 1 to 64 letters, digits, '_', '.' and '-'")
    return name


def check_run(code, limit):
    if not isinstance(code, str):
        raise Refusal(400, "'code' is missing")
    if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not 0 < limit <= 3600:
        raise Refusal(400, "'timeout' is a number of seconds, up to 3600")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            self.close_connection = True
            raise Refusal(411, "the length of the body is missing")
        if not 0 <= length <= MOST_BODY:
            self.close_connection = True
            raise Refusal(413, f"a body has at most {MOST_BODY} bytes")
        try:
            value = json.loads(self.rfile.read(length) or b"{}")
        except ValueError as error:
            raise Refusal(400, f"the body is not JSON: {error}")
        if not isinstance(value, dict):
            raise Refusal(400, "the body is not an object")
        return value

    def do_GET(self):
        if self.path == "/health":
            self.answer(200, {"ok": True})
        elif self.path == "/sessions":
            with sessions.lock:
                self.answer(200, {"sessions": sorted(sessions.all)})
        else:
            self.answer(404, {"error": "there are /run, /reset, /sessions and /health"})

    def do_POST(self):
        try:
            value = self.body()
            name = session_name(value)
            if self.path == "/run":
                code, limit = value.get("code"), value.get("timeout", TIMEOUT)
                check_run(code, limit)
                self.answer(200, sessions.run(name, code, limit))
            elif self.path == "/reset":
                self.answer(200, {"session": name, "reset": sessions.drop(name)})
            else:
                raise Refusal(404, "there are /run, /reset, /sessions and /health")
        except Refusal as refusal:
            self.answer(refusal.status, {"error": refusal.message})

    def log_message(self, *arguments):
        pass


if __name__ == "__main__":
    os.chdir("/workspace")
    sys.path.insert(0, "/workspace")
    ThreadingHTTPServer.daemon_threads = True
    ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
