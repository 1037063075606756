"""Serves a folder over HTTP on port 8000: files and lists of files, nothing hidden, one thread for each request."""
import functools
import http.server
import os
import sys
import urllib.parse


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def send_head(self):
        path = urllib.parse.unquote(self.path.split("?", 1)[0])
        # What begins with a dot is nobody's business: .git, .env.
        if any(part.startswith(".") for part in path.split("/")):
            self.send_error(404)
            return None
        # A link in the folder may not lead out of it.
        root = os.path.realpath(self.directory)
        if os.path.commonpath([root, os.path.realpath(self.translate_path(self.path))]) != root:
            self.send_error(404)
            return None
        return super().send_head()

    def end_headers(self):
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    folder = sys.argv[1]
    Server(("127.0.0.1", 8000), functools.partial(Handler, directory=folder)).serve_forever()
