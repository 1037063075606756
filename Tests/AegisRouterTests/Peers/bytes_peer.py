"""A client that speaks in bytes.

    bytes_peer.py first PORT    ends its side first; prints how many bytes came back
    bytes_peer.py second PORT   lets the server end its side first, and goes on sending
    bytes_peer.py wait PORT     says a word and prints how the connection ends: "end" or "reset"
"""

import socket
import sys


def everything(connection):
    heard = bytearray()
    while part := connection.recv(65536):
        heard += part
    return bytes(heard)


what, port = sys.argv[1], int(sys.argv[2])
with socket.create_connection(("127.0.0.1", port)) as connection:
    sent = bytes(range(256)) * 4096
    if what == "first":
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        assert everything(connection) == sent + b"bye"
    elif what == "second":
        assert everything(connection) == b"welcome\n" * 10000
        connection.sendall(sent)
    else:
        try:
            connection.sendall(b"hello")
            print("end" if everything(connection) == b"" else "bytes")
        except ConnectionError:
            print("reset")
        sys.exit()
print("ok")
