"""A server made with the official library: `mcp_peer.py stdio`, or `http` on a port that it prints."""
import asyncio
import socket
import sys

from mcp.server import MCPServer
from mcp.server.mcpserver import Context, Image
from mcp.server.mcpserver.exceptions import ToolError

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


if sys.argv[1] == "stdio":
    print("peer is starting", file=sys.stderr, flush=True)
    server.run("stdio")
else:
    import uvicorn

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    port = listener.getsockname()[1]
    app = server.streamable_http_app(json_response="json" in sys.argv)
    print(port, flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="critical")).run(sockets=[listener])
