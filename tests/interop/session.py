"""One session of the official Python client with a caller's token, with all that streams: prints a line for each thing that held. Arguments: URL. The token is
in TOKEN, another caller's in OTHER."""

import asyncio
import os
import sys

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import ElicitResult, ToolListChangedNotification


async def main(url: str) -> None:
    announced, ids = asyncio.Event(), set()

    async def handle(message) -> None:
        if isinstance(message, ToolListChangedNotification):
            announced.set()

    async def answer(context, params) -> ElicitResult:
        print("asked:", params.message)
        return ElicitResult(action="accept", content={"value": "123"})

    async def note(response) -> None:
        ids.update(response.headers.get_list("mcp-session-id"))

    headers = {"Authorization": f"Bearer {os.environ['TOKEN']}"}
    async with httpx2.AsyncClient(headers=headers, timeout=60, event_hooks={"response": [note]}) as http:
        transport = streamable_http_client(url, http_client=http)
        async with Client(transport, mode="legacy", elicitation_callback=answer, message_handler=handle) as client:

            async def call(tool: str, **options) -> str:
                return (await client.call_tool(tool, **options)).content[0].text

            async def proceed(progress, total, message) -> None:
                print("progress:", int(progress), int(total), message)
                await call("proceed")

            await client.send_ping()
            print("ping")
            print(await call("compare", arguments={"user_id": "123"}, progress_callback=proceed))
            print(await call("ask"))
            print(await call("leave", arguments={"user_id": "123"}))
            # The session's own stream is opened behind the client's back: until it is there, nobody hears.
            for _ in range(200):
                await call("announce")
                await asyncio.sleep(0.05)
                if announced.is_set():
                    break
            print("announced" if announced.is_set() else "never announced")

            (session,) = ids
            named = {"Accept": "application/json, text/event-stream", "Mcp-Session-Id": session}
            listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
            other = named | {"Authorization": f"Bearer {os.environ['OTHER']}"}
            print("another caller:", (await http.post(url, json=listing, headers=other)).status_code)
        print("after the end:", (await http.post(url, json=listing, headers=named)).status_code)


asyncio.run(main(*sys.argv[1:]))
