"""How the official Python client gets a token for a server that asks for one: by its own OAuth provider, from the 401 on. The person's part (to open the
authorization URL in a browser, and to sign in) is played here."""

from urllib.parse import parse_qs, urlsplit

import httpx2
from mcp.client.auth import OAuthClientProvider
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata

CALLBACK = "http://127.0.0.1:9/callback"


class Memory:
    """Where the client keeps what it has got."""

    tokens = client_info = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client_info

    async def set_client_info(self, client_info):
        self.client_info = client_info


def provider(url: str, person: str) -> OAuthClientProvider:
    """What answers a 401 of the server at `url`, with `person` in front of the browser."""
    came_back = {}

    async def browse(location: str) -> None:
        async with httpx2.AsyncClient() as browser:
            for _ in range(10):
                if location.startswith(CALLBACK):
                    break
                if "/sign-in/" in location:
                    page = await browser.post(location, data={"person": person})
                else:
                    page = await browser.get(location)
                location = str(page.url.join(page.headers["location"]))
        came_back.update({name: values[0] for name, values in parse_qs(urlsplit(location).query).items()})

    async def callback() -> AuthorizationCodeResult:
        return AuthorizationCodeResult(code=came_back["code"], state=came_back["state"], iss=came_back.get("iss"))

    metadata = OAuthClientMetadata(client_name="interop", redirect_uris=[CALLBACK], token_endpoint_auth_method="none")
    return OAuthClientProvider(url, metadata, Memory(), redirect_handler=browse, callback_handler=callback)
