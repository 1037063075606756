"""A server made with the official library: `mcp_peer.py stdio`, or `http` on a port that it prints."""
import asyncio
import socket
import sys

from mcp.server import MCPServer
from mcp.server.mcpserver import Context, Image
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.streamable_http import EventMessage, EventStore

server = MCPServer("peer", version="7")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
def fail() -> str:
    """Fails."""
    raise ToolError("no such thing")


@server.tool()
def picture() -> Image:
    """Gives an image."""
    return Image(data=b"12345", format="png")


@server.tool()
async def hang() -> str:
    """Takes for ever."""
    await asyncio.sleep(10_000)
    return "late"


@server.tool()
async def wait(ctx: Context) -> str:
    """Closes its stream, and answers later."""
    await ctx.close_sse_stream()
    await asyncio.sleep(1)
    return "waited"


def late() -> str:
    """Came later."""
    return "here"


@server.tool()
async def grow(ctx: Context) -> str:
    """Gets one more tool."""
    server.add_tool(late)
    await ctx.notify_tools_changed()
    try:
        await ctx.request_context.session.send_tool_list_changed()
    except Exception:
        pass
    return "grown"


class Kept(EventStore):
    """Keeps all events."""

    def __init__(self):
        self.events = []

    async def store_event(self, stream_id, message):
        self.events.append((stream_id, message))
        return str(len(self.events))

    async def replay_events_after(self, last_event_id, send_callback):
        stream_id, _ = self.events[int(last_event_id) - 1]
        for number, (stream, message) in enumerate(list(self.events)):
            if stream == stream_id and number >= int(last_event_id) and message is not None:
                await send_callback(EventMessage(message, str(number + 1)))
        return stream_id


if sys.argv[1] == "stdio":
    print("peer is starting", file=sys.stderr, flush=True)
    server.run("stdio")
else:
    import uvicorn

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    port = listener.getsockname()[1]
    kept = {"event_store": Kept(), "retry_interval": 50} if "kept" in sys.argv else {}
    app = server.streamable_http_app(json_response="json" in sys.argv, **kept)
    print(port, flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="critical")).run(sockets=[listener])
