"""More clients at once than may wait at a port: who is refused, and how.

    limit_peer.py http|tcp|grpc PORT LIMIT

Sixteen more than the limit come. It prints how many were refused, and with what, once it is sure that all others wait.
"""

import collections
import resource
import selectors
import socket
import sys

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ResponseReceived, TrailersReceived

what, port, limit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
more = 16
resource.setrlimit(resource.RLIMIT_NOFILE, [resource.getrlimit(resource.RLIMIT_NOFILE)[1]] * 2)


class Client:
    """One connection with one request or call."""

    def __init__(self):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=150)
        self.heard = b""
        self.fields = {}
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        try:
            if what == "http":
                self.socket.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            elif what == "grpc":
                self.h2.initiate_connection()
                fields = {":method": "POST", ":scheme": "http", ":path": "/t.T/M", ":authority": "a", "te": "trailers"}
                self.h2.send_headers(1, [*fields.items(), ("content-type", "application/grpc")], end_stream=True)
                self.socket.sendall(self.h2.data_to_send())
        except ConnectionError:
            # It was refused already, which the next reading tells.
            pass
        self.socket.setblocking(False)

    def read(self):
        """Reads what is there; how it was refused, as soon as that is known."""
        try:
            part = self.socket.recv(65536)
        except ConnectionError:
            return "reset"
        if what == "grpc" and part:
            for event in self.h2.receive_data(part):
                if isinstance(event, (ResponseReceived, TrailersReceived)):
                    self.fields.update(event.headers)
            if "grpc-status" not in self.fields:
                return None
            code = "too-many-waiting" if "too-many-waiting" in self.fields["grpc-message"] else self.fields["grpc-message"]
            return f"status {self.fields['grpc-status']} {code}"
        self.heard += part
        if part:
            return None
        code = "too-many-waiting" if b'"too-many-waiting"' in self.heard else "no cause"
        return f"{self.heard[9:12].decode()} {code}" if self.heard else "end"


selector = selectors.DefaultSelector()
for _ in range(limit + more):
    client = Client()
    selector.register(client.socket, selectors.EVENT_READ, client)
refused = collections.Counter()
while refused.total() < more:
    ready = selector.select(150)
    assert ready, f"nobody else is refused: {refused}"
    for key, _ in ready:
        if end := key.data.read():
            selector.unregister(key.fileobj)
            refused[end] += 1
# Settings of HTTP/2 may still come; an end may not.
while ready := selector.select(0.3):
    for key, _ in ready:
        if end := key.data.read():
            selector.unregister(key.fileobj)
            refused[end] += 1
for end, count in refused.items():
    print(count, end)
