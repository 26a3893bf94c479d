"""A real Prefect server that answers 500 to whoever brings an artifact; started as `flows.local_server` is."""

from __future__ import annotations

from typing import Any

from prefect.server.api import server
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from flows import local_server

create_app = server.create_app


def create_ill_app(**options: Any) -> ASGIApp:
    """Prefect's app without its artifacts."""
    app = create_app(**options)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and "/artifacts" in scope["path"]:
            await PlainTextResponse("ill", 500)(scope, receive, send)
        else:
            await app(scope, receive, send)

    return answer


if __name__ == "__main__":
    server.create_app = create_ill_app
    local_server.main()
