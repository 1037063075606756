"""A call with a time of its own to a server that never comes (the library h2).

    late_peer.py PORT    prints the message that it ends with
"""

import socket
import sys

import h2.config
import h2.connection
import h2.events

REQUEST = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/t.T/Describe"),
    (":authority", "localhost"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]


def attempt(port, seconds):
    """The messages of a call with a time of its own and of one without, in the order in which they ended."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    ended = []
    with socket.create_connection(("127.0.0.1", port), 110) as sock:
        connection.initiate_connection()
        connection.send_headers(1, REQUEST + [("grpc-timeout", f"{seconds}S")])
        connection.send_headers(3, REQUEST)
        sock.sendall(connection.data_to_send())
        while len(ended) < 2 and (data := sock.recv(65536)):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    ended.append((event.stream_id, dict(event.headers).get("grpc-message")))
            sock.sendall(connection.data_to_send())
    return ended


# The one without is told as soon as the port's own time is over: then the cause is known.
for seconds in (4, 16, 64):
    (first, _), (_, message) = attempt(int(sys.argv[1]), seconds)
    if first == 3:
        print(message)
        break
