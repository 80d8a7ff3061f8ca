"""Calls one tool of an MCP server with the official Python client and prints the text of the answer. Arguments: URL, TOOL, ARGUMENTS (JSON). With TOKEN in
the environment it shows that token; with PERSON it finds out how to get one, and signs that person in. A URL
that ends in `/sse` is spoken to over the older transport, any other over Streamable HTTP; in the newest revision that both sides know."""

import asyncio
import contextlib
import json
import os
import sys

import httpx2
import sign_in
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client


@contextlib.asynccontextmanager
async def connected(url: str):
    """A client as the environment says."""
    options = {}
    if token := os.environ.get("TOKEN"):
        options["headers"] = {"Authorization": f"Bearer {token}"}
    elif person := os.environ.get("PERSON"):
        options["auth"] = sign_in.provider(url, person)
    if url.endswith("/sse"):
        async with Client(sse_client(url, **options)) as client:
            yield client
        return
    if not options:
        async with Client(url) as client:
            yield client
        return
    async with httpx2.AsyncClient(timeout=60, **options) as http:
        async with Client(streamable_http_client(url, http_client=http)) as client:
            yield client


async def main(url: str, tool: str, arguments: str) -> None:
    async with connected(url) as client:
        tools = await client.list_tools()
        assert tool in [t.name for t in tools.tools], tools
        result = await client.call_tool(tool, json.loads(arguments))
        print(result.content[0].text)
    sys.exit(1 if result.is_error else 0)


asyncio.run(main(*sys.argv[1:]))
