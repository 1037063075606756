"""A server and clients of HTTP/2 (the library h2) that the tests of inspection put at its two ends.

    h2_peer.py serve CERTIFICATE PROTOCOLS [ADDRESS PORT]   TLS, on 127.0.0.1; prints its port
    h2_peer.py WHAT PORT PLACEHOLDER                        does one of the things below through PORT, and says what came of it
"""

import base64
import faulthandler
import gzip
import json
import socket
import ssl
import sys
import threading
import urllib.parse

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

counts = {"connections": 0, "resets": 0, "most": 0}
reset = threading.Event()


def escaped(text):
    return "".join("\\u%04x" % ord(letter) for letter in text)


class Connection:
    """One client's connection to the server."""

    def __init__(self, sock):
        counts["connections"] += 1
        self.sock = sock
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        self.h2.local_settings = h2.settings.Settings(
            client=False, initial_values={h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 500}
        )
        self.requests = {}
        # What waits for room: lists of data, then trailers or None.
        self.waiting = {}

    def run(self):
        self.h2.initiate_connection()
        self.flush()
        while data := self.sock.recv(65536):
            for event in self.h2.receive_data(data):
                self.handle(event)
            self.push()
            self.flush()

    def flush(self):
        if data := self.h2.data_to_send():
            self.sock.sendall(data)

    def handle(self, event):
        if isinstance(event, h2.events.RequestReceived):
            self.requests[event.stream_id] = request = {"fields": event.headers, "body": b"", "trailers": []}
            path = dict(event.headers)[b":path"]
            if path == b"/early":
                self.send(event.stream_id, [(":status", "200")], [b"begun!"], end=False)
            if path == b"/talk":
                self.send(event.stream_id, [(":status", "200"), ("content-type", "application/grpc")], [], end=False)
            if path == b"/frozen":
                request["frozen"] = True
        elif isinstance(event, h2.events.DataReceived):
            request = self.requests.get(event.stream_id)
            if request is None:
                return
            request["body"] += event.data
            if dict(request["fields"])[b":path"] == b"/talk":
                self.waiting[event.stream_id][0].append(event.data)
            counts["most"] = max(counts["most"], len(request["body"]))
            if "frozen" not in request and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            self.requests[event.stream_id]["trailers"] = event.headers
        elif isinstance(event, h2.events.StreamReset):
            counts["resets"] += 1
            self.requests.pop(event.stream_id, None)
            self.waiting.pop(event.stream_id, None)
            reset.set()
        elif isinstance(event, h2.events.StreamEnded):
            if request := self.requests.pop(event.stream_id, None):
                self.answer(event.stream_id, request)

    def send(self, stream, fields, pieces, trailers=None, end=True):
        if not pieces and trailers is None and end:
            return self.h2.send_headers(stream, fields, end_stream=True)
        self.h2.send_headers(stream, fields)
        self.waiting[stream] = [list(pieces), trailers, end]

    def push(self):
        for stream, (pieces, trailers, end) in list(self.waiting.items()):
            while pieces:
                room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
                if room <= 0:
                    break
                self.h2.send_data(stream, pieces[0][:room], end_stream=end and trailers is None and len(pieces) == 1 and len(pieces[0]) <= room)
                pieces[0] = pieces[0][room:]
                if not pieces[0]:
                    pieces.pop(0)
            if not pieces and end:
                if trailers is not None:
                    self.h2.send_headers(stream, trailers, end_stream=True)
                self.waiting.pop(stream, None)

    def answer(self, stream, request):
        fields = dict(request["fields"])
        path = urllib.parse.urlsplit(fields[b":path"].decode()).path
        key = fields.get(b"x-api-key", b"").decode()
        ok = [(":status", "200")]
        if path == "/v1/count":
            body = request["body"]
            said = {"good": key == "real-value/123+x", "length": len(body), "sum": sum(body), "trailers": len(request["trailers"])}
            self.send(stream, ok, [json.dumps(said).encode()])
        elif path == "/v1/echo":
            forms = [key, urllib.parse.quote(key, safe=""), json.dumps({"k": key}).replace("/", "\\/")]
            forms += [base64.b64encode(b"ab" + key.encode()).decode(), "done"]
            self.send(stream, ok + [("x-echo", key), ("location", "/?" + urllib.parse.quote(key, safe=""))], ["\n".join(forms).encode()])
        elif path == "/v1/pieces":
            self.h2.send_headers(stream, [(":status", "103"), ("x-early", key)])
            self.send(stream, ok, [bytes([byte]) for byte in ("<" + key + ">").encode()], [("x-end", key)])
        elif path == "/v1/escaped":
            self.send(stream, ok, [(escaped(key[:-1]) + "!").encode()])
        elif path == "/v1/gzip":
            self.send(stream, ok + [("content-encoding", "gzip")], [gzip.compress(key.encode())])
        elif path == "/v1/fields":
            said = [[field[0].decode(), field[1].decode(), type(field).__name__] for field in request["fields"]]
            said = [[name, text if text != "real-value/123+x" else "the value", kind] for name, text, kind in said]
            self.send(stream, ok, [json.dumps(said).encode()])
        elif path == "/big":
            self.send(stream, ok, [bytes(range(256)) * (4096 * 4)])
        elif path == "/goaway":
            self.send(stream, ok, [b"last"])
            self.push()
            self.h2.close_connection()
        elif path == "/half":
            self.send(stream, ok, [b"half"], end=False)
            self.push()
            self.flush()
            self.sock.shutdown(socket.SHUT_RDWR)
        elif path == "/reset":
            self.send(stream, ok, [b"half"], end=False)
            self.push()
            self.h2.reset_stream(stream, h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
        elif path == "/never":
            pass
        elif path == "/was-reset":
            self.send(stream, ok, [b"yes" if reset.wait(20) else b"no"])
        elif path == "/counts":
            self.send(stream, ok, [json.dumps(counts).encode()])
        else:
            self.send(stream, ok + [("x-path", fields[b":path"].decode())], [b"web"])


def serve(certificate, protocols, address="127.0.0.1", port="0"):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate + ".pem", certificate + ".key")
    context.set_alpn_protocols(protocols.split(","))
    listener = socket.create_server((address, int(port)))
    print(listener.getsockname()[1], flush=True)

    def one(plain):
        try:
            with context.wrap_socket(plain, server_side=True) as sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                Connection(sock).run()
        except (OSError, h2.exceptions.ProtocolError):
            pass

    while True:
        plain, _ = listener.accept()
        threading.Thread(target=one, args=(plain,), daemon=True).start()


class Client:
    """A connection through the inspector, driven frame by frame."""

    def __init__(self, port):
        context = ssl.create_default_context(cafile="instance.pem")
        context.set_alpn_protocols(["h2"])
        plain = socket.create_connection(("127.0.0.1", int(port)), 60)
        self.sock = context.wrap_socket(plain, server_hostname="api.example.com")
        assert self.sock.selected_alpn_protocol() == "h2"
        config = h2.config.H2Configuration(header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False)
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.flush()
        self.answers = {}
        self.interim = []
        self.gone = None
        self.acknowledges = True

    def flush(self):
        self.sock.sendall(self.h2.data_to_send())

    def request(self, path="/", method="GET", fields=(), end=True, authority="api.example.com"):
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "https"), (":authority", authority), (":path", path)]
        self.h2.send_headers(stream, head + list(fields), end_stream=end)
        self.answers[stream] = {"status": None, "body": b"", "trailers": [], "reset": None, "ended": False, "fields": []}
        self.flush()
        return stream

    def step(self):
        data = self.sock.recv(65536)
        if not data:
            self.gone = self.gone or "closed"
            return
        for event in self.h2.receive_data(data):
            answer = self.answers.get(getattr(event, "stream_id", None))
            if isinstance(event, h2.events.ResponseReceived):
                answer["status"], answer["fields"] = dict(event.headers)[":status"], event.headers
            elif isinstance(event, h2.events.InformationalResponseReceived):
                self.interim.append(dict(event.headers))
            elif isinstance(event, h2.events.DataReceived):
                answer["body"] += event.data
                if self.acknowledges:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.TrailersReceived):
                answer["trailers"] = event.headers
            elif isinstance(event, h2.events.StreamReset):
                answer["reset"] = int(event.error_code)
            elif isinstance(event, h2.events.StreamEnded):
                answer["ended"] = True
            elif isinstance(event, h2.events.ConnectionTerminated):
                self.gone = int(event.error_code)
        self.flush()

    def wait(self, stream):
        answer = self.answers[stream]
        while not answer["ended"] and answer["reset"] is None and self.gone is None:
            self.step()
        return answer

    def get(self, *arguments, **options):
        return self.wait(self.request(*arguments, **options))

    def send(self, stream, data, end=False):
        """Sends all of it, as the windows allow."""
        while data or end:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if room == 0 and data:
                self.step()
                if self.answers[stream]["reset"] is not None or self.gone is not None:
                    return False
                continue
            self.h2.send_data(stream, data[:room], end_stream=end and len(data) <= room)
            self.flush()
            if end and len(data) <= room:
                return True
            data = data[room:]
        return True


def reason(answer):
    try:
        return "%s %s" % (answer["status"], json.loads(answer["body"])["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return "%s %s reset=%s" % (answer["status"], answer["body"], answer["reset"])


def check_authority(client, key):
    """Other hosts on one connection, CONNECT plain and extended; the connection goes on."""
    print("other", reason(client.get("/", authority="other.example.com")))
    print("port", reason(client.get("/", authority="api.example.com:8443")))
    print("host", reason(client.get("/", fields=[("host", "other.example.com")])))
    stream = client.h2.get_next_available_stream_id()
    client.h2.send_headers(stream, [(":method", "CONNECT"), (":authority", "api.example.com")])
    client.answers[stream] = {"status": None, "body": b"", "trailers": [], "reset": None, "ended": False}
    client.flush()
    print("connect", reason(client.wait(stream)))
    stream = client.request("/chat", "CONNECT", [(":protocol", "websocket")], end=False)
    print("extended", reason(client.wait(stream)))
    print("own", client.get("/", authority="api.example.com:443")["status"])


def check_body(client, key):
    """The placeholder across the borders of frames, in trailers, and behind a response that has begun."""
    stream = client.request("/v1/count", "POST", end=False)
    for byte in b"AAAA" + key.encode() + b"BBBB":
        if not client.send(stream, bytes([byte])):
            break
    print("body", reason(client.wait(stream)))
    stream = client.request("/v1/count", "POST", end=False)
    client.send(stream, b"A" * 400001 + key.encode() + b"B" * 400000, end=True)
    print("deep", reason(client.wait(stream)))
    stream = client.request("/v1/count", "POST", end=False)
    client.send(stream, b"body")
    client.h2.send_headers(stream, [("x-end", key)], end_stream=True)
    client.flush()
    print("trailer", reason(client.wait(stream)))
    stream = client.request("/early", "POST", end=False)
    while client.answers[stream]["body"] != b"begun!":
        client.step()
    client.send(stream, b"k=" + key.encode())
    answer = client.wait(stream)
    print("late", answer["status"], answer["ended"], answer["reset"] is not None)
    stream = client.request("/v1/count", "POST", end=False)
    client.send(stream, b"AegisSecre")
    client.h2.send_headers(stream, [("x-end", "plain")], end_stream=True)
    client.flush()
    print("whole", client.wait(stream)["body"].decode())


def check_answers(client, key):
    """What the server says of the value: interim, in pieces, trailers; coded answers."""
    answer = client.get("/v1/pieces", fields=[("x-api-key", key)])
    print("interim", client.interim[0]["x-early"])
    print("pieces", answer["body"].decode(), dict(answer["trailers"])["x-end"])
    print("coded", reason(client.get("/v1/gzip", fields=[("x-api-key", key)])))
    print("head", client.get("/v1/echo", "HEAD", fields=[("user-agent", key)])["body"])


def check_ends(client, key):
    """Servers that break off, streams that are given up on, GOAWAY."""
    answer = client.get("/reset")
    print("reset", answer["reset"])
    stream = client.request("/early", "POST", end=False)
    while client.answers[stream]["body"] != b"begun!":
        client.step()
    client.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
    print("cancel", client.get("/was-reset")["body"])
    print("goaway", client.get("/goaway")["body"], client.get("/counts")["status"])
    answer = client.get("/half")
    print("half", answer["ended"], answer["reset"] is not None)
    print("after", client.get("/")["status"])


def check_pressure(client, key):
    """A server that does not read holds its client up, one stream no other; a client that does not read likewise."""
    stream = client.request("/frozen", "POST", [("x-api-key", key)] if key else [], end=False)
    sent = 0
    while sent < 64 << 20 and client.h2.local_flow_control_window(stream) > 0:
        room = min(client.h2.local_flow_control_window(stream), client.h2.max_outbound_frame_size)
        client.h2.send_data(stream, b"x" * room)
        client.flush()
        sent += room
        # What is opened meanwhile comes before this answer.
        client.get("/")
    print("sent", sent < 1 << 20)
    client.h2.reset_stream(stream)
    client.acknowledges = False
    stream = client.request("/big")
    while len(client.answers[stream]["body"]) < 30000:
        client.step()
    client.acknowledges = True
    client.h2.increment_flow_control_window(1 << 24)
    client.h2.increment_flow_control_window(1 << 24, stream)
    client.flush()
    print("big", client.wait(stream)["body"] == bytes(range(256)) * (4096 * 4))


def check_flood(client, key):
    """Streams that are opened and reset at once end the connection; those of others go on."""
    for round in range(100):
        try:
            for _ in range(100):
                stream = client.h2.get_next_available_stream_id()
                client.h2.send_headers(stream, [(":method", "GET"), (":scheme", "https"), (":authority", "api.example.com"), (":path", "/never")], end_stream=True)
                client.h2.reset_stream(stream)
            client.flush()
            client.sock.settimeout(0.01)
            client.step()
        except TimeoutError:
            pass
        except (OSError, h2.exceptions.ProtocolError):
            client.gone = client.gone or "closed"
        if client.gone is not None:
            break
    print("flood", client.gone is not None)
    print("other", Client(sys.argv[2]).get("/")["status"])


def check_window(client, key):
    """What might become a value or a placeholder is held back, however small the windows are."""
    print("down", client.get("/v1/escaped", fields=[("x-api-key", key)])["body"].decode())
    stream = client.request("/v1/count", "POST", end=False)
    client.send(stream, (escaped(key[:-1]) + "!").encode(), end=True)
    print("up", json.loads(client.wait(stream)["body"])["length"])


def check_talk(client, key):
    """A conversation: what is said is heard before more is said, whatever it ends with."""
    stream = client.request("/talk", "POST", end=False)
    said = b""
    for word in [bytes([byte]) for byte in range(256)] + [b"Aegis", b"AegisSecret", b"%", b"%4", b"\\u00", b"QWVn", b"rea", b"r%65"]:
        said += word
        client.send(stream, word)
        while len(client.answers[stream]["body"]) < len(said):
            client.step()
    print("talk", client.answers[stream]["body"] == said)


def check_unread(client, key):
    """Answers of the inspector's own that have no room to be sent in, and streams that are given up on."""
    client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
    statuses = set()
    for _ in range(20):
        stream = client.request("/", authority="other.example.com")
        while client.answers[stream]["status"] is None and client.gone is None:
            client.step()
        statuses.add(client.answers[stream]["status"])
        client.h2.reset_stream(stream)
    # One is left for the end of the connection.
    stream = client.request("/", authority="other.example.com")
    while client.answers[stream]["status"] is None and client.gone is None:
        client.step()
    print("statuses", statuses, client.gone)


def check_limits(client, key):
    """Header lists that are too large, and more streams than are taken."""
    answer = client.get("/", fields=[("x-%d" % n, "y" * 1000) for n in range(100)])
    print("large", reason(answer))
    limit = client.h2.remote_settings.max_concurrent_streams
    while limit > 1000:
        client.step()
        limit = client.h2.remote_settings.max_concurrent_streams
    print("streams", limit)
    streams = [client.request("/?%d" % n) for n in range(limit)]
    print("all", all(client.wait(stream)["status"] == "200" for stream in streams))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:])
    else:
        # Says where it waits for what does not come.
        faulthandler.dump_traceback_later(int(sys.argv[4]) if len(sys.argv) > 4 else 50, exit=True)
        globals()["check_" + sys.argv[1]](Client(sys.argv[2]), sys.argv[3])
