"""The guard of every page that this project serves on this machine: any ASGI app can stand behind it.

A page from anywhere can make the browser of this machine ask 127.0.0.1, under a foreign name too, and every user of the
machine reaches its ports. So a request is answered only where it names the address that is served (``Host``), where no
other page sent it (``Origin``, ``Sec-Fetch-Site``), and where it brings the secret, as HTTP's Basic authentication:
browsers keep that for one port of one host alone, and ask the person for it.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import os
import secrets
import socket
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

USER = "ram-engine"
HOST = "127.0.0.1"
SIGN_IN = "/sign-in"  # before the path of a link
STOP_SECONDS = 5


def new_secret() -> str:
    """``user:password`` with 192 random bits; all of it may stand in an address."""
    return f"{USER}:{secrets.token_urlsafe(24)}"


def kept_secret(file: Path) -> str:
    """The secret in ``file``, made at the first call; only its owner can read it.

    Raises PermissionError where another user made the file, ValueError where it holds no ``user:password``.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as opened:
            opened.write(f"{new_secret()}\n")
    with open(file, encoding="utf-8") as opened:
        owner = os.fstat(opened.fileno()).st_uid
        if owner not in (os.geteuid(), 0):
            raise PermissionError(f"{file} belongs to another user, who would know the secret: remove it")
        if owner == os.geteuid():
            os.fchmod(opened.fileno(), 0o600)
        secret = opened.read().strip()
    if not all(secret.partition(":")):
        raise ValueError(f"{file} holds no secret (user:password): remove it, and a new one is made")
    return secret


def header(secret: str) -> str:
    """The value of ``Authorization`` that brings the secret."""
    return f"Basic {base64.b64encode(secret.encode()).decode()}"


def link(origin: str, secret: str, path: str = "/") -> str:
    """An address that signs the person in who opens it. It belongs in a terminal and in nothing that is kept.

    Pages cannot ask for anything below an address with a password, so :class:`Guard` leads to the same one without.
    """
    return origin.replace("://", f"://{secret}@") + SIGN_IN + path


def listen(port: int = 0) -> socket.socket:
    """A socket that takes connections of this machine alone from now on; port 0 is any free one.

    The server gets this very socket: a port that is let go in between another program could take.
    Raises OSError where the port is taken.
    """
    opened = socket.socket()
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((HOST, port))
    except OSError:
        opened.close()
        raise OSError(f"port {port} is taken: choose another with --port") from None
    opened.listen(2048)
    return opened


def origin_of(listening: socket.socket) -> str:
    """Where what listens is reached, as in ``http://127.0.0.1:4200``."""
    return f"http://{HOST}:{listening.getsockname()[1]}"


class Guard:
    """Answers 421, 403 or 401 in place of ``app`` to whoever should not ask it; a WebSocket is closed instead.

    ``origins`` are the addresses that it is reached at, such as ``http://127.0.0.1:4200``. With ``own_websockets`` the
    app asks for the secret in a WebSocket's first message itself, as Prefect's does.
    """

    def __init__(self, app: ASGIApp, secret: str, origins: tuple[str, ...], own_websockets: bool = False) -> None:
        self.app = app
        self.wanted = header(secret).encode()
        self.origins = {urlsplit(origin).netloc: origin for origin in origins}
        self.own_websockets = own_websockets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands the request on, or refuses it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif refusal := self._refusal(scope):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            else:
                await refusal(scope, receive, send)
        elif scope["type"] == "http" and scope["path"].startswith(f"{SIGN_IN}/"):
            origin = self.origins[Headers(scope=scope)["host"].lower()]
            await RedirectResponse(origin + scope["path"].removeprefix(SIGN_IN), 303)(scope, receive, send)
        else:
            await self.app(scope, receive, _unframed(send))

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        if len(hosts := headers.getlist("host")) != 1 or hosts[0].lower() not in self.origins:
            return _refused(421, f"This is served at {' and '.join(self.origins.values())}, and under no other name.")
        foreign = any(origin not in self.origins.values() for origin in headers.getlist("origin"))
        if foreign or _sent_by_another_page(scope, headers):
            return _refused(403, "Another page sent this request: only this one may.")
        if scope["type"] == "websocket" and self.own_websockets:
            return None
        given = headers.getlist("authorization")
        if len(given) != 1 or not hmac.compare_digest(given[0].encode(), self.wanted):
            asked = {"WWW-Authenticate": f'Basic realm="{USER}", charset="UTF-8"'}
            return _refused(401, f"Sign in as {USER}, with the password that was told where this was started.", asked)
        return None


def _sent_by_another_page(scope: Scope, headers: Headers) -> bool:
    """A browser says so; a person may follow a link from elsewhere to a whole page, which changes nothing."""
    if headers.get("sec-fetch-site") not in ("cross-site", "same-site"):
        return False
    followed = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return not (followed and scope.get("method") == "GET")


def _refused(status: int, sentence: str, headers: dict[str, str] | None = None) -> PlainTextResponse:
    return PlainTextResponse(f"{sentence}\n", status, headers)


def _unframed(send: Send) -> Send:
    """No page may lay this one under its own buttons."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["X-Frame-Options"] = "DENY"
        await send(message)

    return sent


def serve(
    app: ASGIApp,
    listening: socket.socket,
    secret: str,
    others: tuple[str, ...] = (),
    own_websockets: bool = False,
    log_level: str = "error",
) -> None:
    """Serves ``app`` behind the guard until a signal stops it; ``others`` are more addresses that it is reached at."""
    guarded = Guard(app, secret, (origin_of(listening), *others), own_websockets)
    config = uvicorn.Config(
        guarded, log_level=log_level, proxy_headers=False, server_header=False, timeout_graceful_shutdown=STOP_SECONDS
    )
    uvicorn.Server(config).run(sockets=[listening])
