"""Calls one tool of an MCP server with the official Python client and prints the text of the answer. Arguments: URL, TOOL, ARGUMENTS (JSON)."""

import asyncio
import json
import sys

from mcp import Client


async def main(url: str, tool: str, arguments: str) -> None:
    async with Client(url) as client:
        tools = await client.list_tools()
        assert tool in [t.name for t in tools.tools], tools
        result = await client.call_tool(tool, json.loads(arguments))
        print(result.content[0].text)
    sys.exit(1 if result.is_error else 0)


asyncio.run(main(*sys.argv[1:]))
