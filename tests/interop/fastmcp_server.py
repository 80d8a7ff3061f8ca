"""An MCP server as its owner wrote it, with FastMCP: it knows a base URL and nothing of tokens. BASE_URL is all that changes for the sidecar."""

import os

import httpx
from fastmcp import FastMCP

BASE_URL = os.environ["BASE_URL"]
server = FastMCP("profiles")


@server.tool
async def get_user_profile(user_id: str) -> dict:
    """The profile of a user."""
    async with httpx.AsyncClient(base_url=BASE_URL) as client:
        answer = await client.get(f"/users/{user_id}")
        answer.raise_for_status()
        return answer.json()


if __name__ == "__main__":
    server.run(transport="http", host="127.0.0.1", port=int(os.environ["PORT"]), show_banner=False)
