"""Speaks with a server by the client of the official library: `mcp_kit_client.py SERVER MODE`. Prints what it found, as JSON."""
import asyncio
import json
import sys

import anyio
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.shared.exceptions import MCPError


async def main(server, mode):
    found = {}
    # A machine under load is no reason to give a session up.
    server = StdioServerParameters(command="python3", args=["-u", server], env={"RUNNER_PATIENCE": "120", "PYTHONDONTWRITEBYTECODE": "1"})
    async with Client(stdio_client(server), mode=mode) as client:
        async def run(code, **more):
            result = await client.call_tool("run_python", {"code": code, **more})
            return [result.content[0].text if result.content else "", result.is_error]

        found["revision"] = client.session.protocol_version
        found["tools"] = sorted(tool.name for tool in (await client.list_tools()).tools)
        found["first"] = await run("x = 20\nprint('set')\nx")
        # What code writes past Python goes elsewhere and does not break the conversation.
        found["noise"] = await run("import os; os.write(1, b'noise'); os.system('echo noise'); x * 2 + 2")
        found["other"] = (await run("x", session="other"))[1]
        found["late"] = await run("while True: pass", timeout=0.2)
        with anyio.move_on_after(0.2):
            await run("while True: pass")
        # The call that was given up is interrupted, and the session is as it was.
        found["kept"] = await run("x + 1")
        found["together"] = sorted(
            text for text, _ in await asyncio.gather(*(run(str(n), session=f"s{n}") for n in range(8))))
        found["wrong"] = await run("x", session="../x")
        await client.call_tool("reset_python", {})
        found["reset"] = (await run("x"))[1]
        try:
            await client.call_tool("nothing", {})
        except MCPError as error:
            found["unknown"] = error.error.code
    print(json.dumps(found))


asyncio.run(main(sys.argv[1], sys.argv[2]))
