"""A WebSocket server and a client of it, by the library `websockets`.

    ws_peer.py serve PORT       sends back what comes; after "count N" the numbers below N; ends at "die"
    ws_peer.py check PORT [AT]  talks with it, as AT (HOST/PATH) where that is said; prints "ok", or fails
    ws_peer.py status PORT      prints the answer to a handshake that is refused
    ws_peer.py die PORT         has the server end, and prints how the connection does
    ws_peer.py wait PORT FILE   opens a connection, makes the file, and prints how the connection ends
"""

import asyncio
import os
import sys

import websockets


async def handle(connection, *_):
    async for message in connection:
        if message == "die":
            os._exit(3)
        if isinstance(message, str) and message.startswith("count "):
            for number in range(int(message[6:])):
                await connection.send(str(number))
        else:
            await connection.send(message)


async def serve(port):
    async with websockets.serve(handle, "127.0.0.1", port, max_size=1 << 24):
        print("run", flush=True)
        await asyncio.Future()


async def check(port):
    host, _, path = (sys.argv[3] if len(sys.argv) > 3 else "127.0.0.1/chat").partition("/")
    address = "ws://%s:%d/%s" % (host, port, path)
    async with websockets.connect(address, host="127.0.0.1", max_size=1 << 24, open_timeout=90) as connection:
        big = os.urandom(1 << 20)
        for message in ("hello", "\u00e4\u20ac", "", b"\x00\xff", big):
            await connection.send(message)
            assert await connection.recv() == message
        await connection.send("count 500")
        assert [await connection.recv() for _ in range(500)] == [str(number) for number in range(500)]
        await asyncio.wait_for(await connection.ping(), 30)
    assert connection.close_code == 1000, connection.close_code
    print("ok")


async def status(port):
    try:
        async with websockets.connect("ws://127.0.0.1:%d/" % port, open_timeout=90):
            print("open")
    except websockets.InvalidStatus as error:
        print(error.response.status_code, error.response.body.decode())


async def die(port):
    async with websockets.connect("ws://127.0.0.1:%d/" % port, open_timeout=90) as connection:
        await connection.send("hello")
        assert await connection.recv() == "hello"
        await connection.send("die")
        try:
            await connection.recv()
            print("message")
        except websockets.ConnectionClosedError as error:
            print("broken", error.code)


async def wait(port):
    async with websockets.connect("ws://127.0.0.1:%d/" % port, open_timeout=90, ping_interval=None) as connection:
        open(sys.argv[3], "x").close()
        try:
            await connection.recv()
            print("message")
        except websockets.ConnectionClosedError as error:
            print("broken", error.code)


asyncio.run(globals()[sys.argv[1]](int(sys.argv[2])))
