"""Prefect's server as we start it: whoever is no page of its own and no program of this machine gets no answer.

Prefect's server has no users, allows any origin, and takes a body without a content type for JSON, which a page of any
website may post to 127.0.0.1. A website whose name was made to point here even reads what is answered. So requests are
refused by what a browser says of them and no page can change: Host, Origin and Sec-Fetch-Site.
"""

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

ORIGINS = "PREFECT_SERVER_CORS_ALLOWED_ORIGINS"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
REFUSAL = b"visionflow: this Prefect server answers its own pages alone (PREFECT_SERVER_CORS_ALLOWED_ORIGINS)."


class OwnPagesOnly:
    """Refuses what another website makes a browser ask; `origins` are those a person allows, `*` all of them."""

    def __init__(self, app: App, origins: frozenset[str]) -> None:
        self._app = app
        self._origins = origins
        self._hosts = LOOPBACK | {urlsplit(origin).hostname for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if scope["type"] == "lifespan" or self._welcome(dict(scope["headers"])):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(REFUSAL))]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": REFUSAL})

    def _welcome(self, headers: dict[bytes, bytes]) -> bool:
        if "*" in self._origins:
            return True
        host, origin = (headers.get(name, b"").decode("latin-1") for name in (b"host", b"origin"))
        if _hostname(f"//{host}") not in self._hosts:
            return False
        if origin:
            return origin in self._origins or origin.partition("://")[2] == host
        elsewhere = headers.get(b"sec-fetch-site", b"none") in (b"cross-site", b"same-site")
        return not elsewhere or headers.get(b"sec-fetch-mode") == b"navigate"  # a link to the UI


def _hostname(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def create_app() -> App:
    """Prefect's application behind the guard. Its origins are those of Prefect's own setting."""
    from prefect.server.api.server import create_app as prefects

    origins = frozenset(one.strip() for one in os.environ.get(ORIGINS, "").split(",") if one.strip())
    return OwnPagesOnly(prefects(), origins)
