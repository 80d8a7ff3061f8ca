"""An MCP server for callers that show a token, as its owner wrote it with FastMCP. It passes on the Authorization header of the call that it serves on the
calls that it makes for it, and neither knows nor asks what is in it. Beside that: sessions, progress, a question to the user, and a stream that it closes
and its client resumes."""

import asyncio
import os

import httpx
import mcp_types
import uvicorn
from fastmcp import Context, FastMCP
from fastmcp.server.dependencies import get_http_headers
from fastmcp.server.event_store import EventStore

BASE_URL = os.environ["BASE_URL"]
server = FastMCP("profiles")
go_on = asyncio.Event()


def authorization() -> dict[str, str]:
    """All that the sidecar asks of a server which is to act for its callers."""
    headers = get_http_headers(include={"authorization"})
    return {"Authorization": headers["authorization"]} if "authorization" in headers else {}


async def profile(user_id: str) -> str:
    async with httpx.AsyncClient(base_url=BASE_URL, headers=authorization()) as client:
        answer = await client.get(f"/users/{user_id}")
        answer.raise_for_status()
        return answer.json()["displayName"]


@server.tool
async def get_user_profile(user_id: str) -> str:
    """The name of a user."""
    return await profile(user_id)


@server.tool
async def compare(user_id: str, context: Context) -> str:
    """Two looks at a user: tells of the first by progress, and takes the second when it is told to go on."""
    first = await profile(user_id)
    await context.report_progress(1, 2, first)
    await go_on.wait()
    go_on.clear()
    return f"{first}, {await profile(user_id)}"


@server.tool
async def proceed() -> str:
    """Lets `compare` go on."""
    go_on.set()
    return "so be it"


@server.tool
async def ask(context: Context) -> str:
    """The name of the user whom the client's user names."""
    answer = await context.elicit("Whose profile?", response_type=str)
    return await profile(answer.data)


@server.tool
async def leave(user_id: str, context: Context) -> str:
    """Closes the stream that its own answer was to come by, and goes on."""
    await context.close_sse_stream()
    return await profile(user_id)


@server.tool
async def announce(context: Context) -> str:
    """Says on the session's own stream that the tools have changed."""
    await context.send_notification(mcp_types.ToolListChangedNotification())
    return "announced"


if __name__ == "__main__":
    if os.environ.get("TRANSPORT") == "sse":
        app = server.http_app(transport="sse")
    else:
        app = server.http_app(event_store=EventStore(), retry_interval=10)
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning")
