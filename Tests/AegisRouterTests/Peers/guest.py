"""The servers inside an instance that tests of serving use. What they do is what their ports and paths say.

    guest.py PORT...   HTTP on the ports; on 7 and 8 bytes. They begin to listen once there is a file /workspace/go. With
                       SUPERVISED set they are a child's, and when that dies there is another one, as soon as there is the file.
"""

import http.server
import os
import socket
import socketserver
import struct
import sys
import threading
import time


class Web(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    looks = 0

    def do_GET(self):
        if self.path == "/die":
            os._exit(3)
        if self.path == "/late":
            return self.late()
        if self.path == "/health":
            Web.looks += 1
            return self.answer(503 if Web.looks < 4 else 200, b"")
        if self.path == "/ready":
            return self.answer(200, b"early\n" if Web.looks < 4 else b"ready\n")
        if self.path in ("/reset", "/broken", "/hang"):
            return self.begin()
        self.answer(200, b"hello\n")

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def late(self):
        """An answer whose body comes once there is a file /workspace/late."""
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        while not os.path.exists("/workspace/late"):
            time.sleep(0.01)
        self.wfile.write(b"late\n")

    def begin(self):
        """An answer that is not brought to its end."""
        chunked = self.path == "/broken"
        self.send_response(200)
        self.send_header(*(("Transfer-Encoding", "chunked") if chunked else ("Content-Length", "1000000")))
        self.end_headers()
        self.wfile.write((b"3e8\r\n" if chunked else b"") + b"x" * 1000 + (b"\r\n" if chunked else b""))
        self.wfile.flush()
        if self.path == "/hang":
            threading.Event().wait()
        self.close_connection = True
        if self.path == "/reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())

    def log_message(self, *words):
        pass


class Bytes(socketserver.BaseRequestHandler):
    def handle(self):
        if self.server.server_address[1] == 8:
            # It says all that it has to say, and goes on listening.
            self.request.sendall(b"welcome\n" * 10000)
            self.request.shutdown(socket.SHUT_WR)
        heard = bytearray()
        while part := self.request.recv(65536):
            heard += part
        if self.server.server_address[1] == 8:
            print("heard", len(heard), flush=True)
        else:
            self.request.sendall(heard + b"bye")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, *of):
        pass


print("run", flush=True)
while True:
    while not os.path.exists("/workspace/go"):
        time.sleep(0.01)
    child = os.fork() if "SUPERVISED" in os.environ else 0
    if child == 0:
        break
    os.waitpid(child, 0)
for port in [int(word) for word in sys.argv[1:]]:
    server = Server(("127.0.0.1", port), Bytes if port in (7, 8) else Web)
    threading.Thread(target=server.serve_forever, daemon=True).start()
threading.Event().wait()
