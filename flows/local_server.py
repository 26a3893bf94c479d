"""A Prefect server for one run, as a child process that ends with the run, even where the run is killed."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import httpx
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from flows import guard

# Its imports take seconds: it minds the end of this process before.
SERVER = "from tasks.executors.parents import end_with; end_with(0); from flows.local_server import main; main()"
COMMAND = (sys.executable, "-c", SERVER)
START_SECONDS = 300  # of a machine that is busy; one that ends is noticed at once


def server_settings(origin: str, secret: str) -> dict[str, str]:
    """The environment of a Prefect server that is reached at ``origin`` and answers those who know the secret."""
    return {
        "PREFECT_API_URL": "",
        "PREFECT_API_AUTH_STRING": secret,
        "PREFECT_SERVER_API_AUTH_STRING": secret,
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": origin,
        "PREFECT_SERVER_UI_API_URL": f"{origin}/api",  # else the UI asks the API at port 4200
    }


@contextlib.contextmanager
def local_server(
    log: str,
    port: int = 0,
    secret: str = "",
    settings: Mapping[str, str] = MappingProxyType({}),
    meanwhile: Callable[[], None] = lambda: None,
) -> Iterator[str]:
    """The API's address; flows of this process report to it while the block runs.

    The server's own output goes to the file ``log``. Port 0 is any free one; without a ``secret`` there is a new one,
    which is in the environment as PREFECT_API_AUTH_STRING while the block runs. ``settings`` are more of Prefect's for
    the server alone; ``meanwhile`` is called while it starts, and may import Prefect. Raises OSError naming ``log``
    where the server does not come up.
    """
    secret = secret or guard.new_secret()
    with guard.listen(port) as listening:
        url = f"{guard.origin_of(listening)}/api"
        server = start(listening, secret, log, settings)
    try:
        with _reporting_to(url, secret):
            meanwhile()
            wait_for(url, secret, server, log)
            yield url
    finally:
        server.terminate()
        try:
            server.wait(guard.STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        if server.stdin is not None:
            server.stdin.close()


def start(listening: socket.socket, secret: str, log: str, settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Starts a server behind the guard on a socket of :func:`guard.listen`, which it inherits.

    It ends when its standard input does, and so with this process.
    """
    with open(log, "ab") as output:
        return subprocess.Popen(
            [*COMMAND, str(listening.fileno())],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env={**os.environ, **settings, **server_settings(guard.origin_of(listening), secret)},
            pass_fds=[listening.fileno()],
            start_new_session=True,
        )


def wait_for(url: str, secret: str, server: subprocess.Popen[bytes], log: str) -> None:
    """Returns when the server is healthy. Raises OSError naming ``log`` where it ends, or after five minutes."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        if healthy(url, secret):
            return
        time.sleep(0.1)
    said = Path(log).read_text(errors="replace").splitlines()
    last = f": {said[-1].removeprefix('ram-engine: ')}" if said else ""
    raise ChildProcessError(f"Prefect's server did not start{last} (its output is in {log})")


def healthy(url: str, secret: str) -> bool:
    """Whether the API at ``url`` answers that it is well."""
    with contextlib.suppress(httpx.HTTPError):
        return (
            httpx.get(f"{url}/health", headers={"Authorization": guard.header(secret)}, timeout=30).status_code == 200
        )
    return False


@contextlib.contextmanager
def _reporting_to(url: str, secret: str) -> Iterator[None]:
    added = {"PREFECT_API_URL": url, "PREFECT_API_AUTH_STRING": secret}
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    # Imported only now: Prefect reads its settings when it is first imported, and the address is one of them.
    from prefect.context import refresh_global_settings_context
    from prefect.logging.handlers import APILogWorker
    from prefect.settings import (
        PREFECT_API_AUTH_STRING,
        PREFECT_API_URL,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        temporary_settings,
    )

    refresh_global_settings_context()  # what threads see: else a flow in one starts a server of its own
    # No heartbeats: a server that ends with the run need not hear that it lives, and each costs its flow a second.
    ours = {PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: secret, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    with temporary_settings(ours):
        try:
            yield
        finally:
            APILogWorker.drain_all(timeout=5)
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
            refresh_global_settings_context()


def serve(listening: socket.socket, secret: str, others: tuple[str, ...] = (), log_level: str = "error") -> None:
    """Serves Prefect behind the guard in this process, whose environment holds :func:`server_settings`."""
    from prefect.server.api.server import create_app  # only now: it reads its settings when it is first imported

    from flows import empty_database

    empty_database.make()
    pages = _signed_in(create_app(final=True))
    guard.serve(pages, listening, secret, others, own_websockets=True, log_level=log_level)


def _signed_in(app: ASGIApp) -> ASGIApp:
    """Prefect's pages ask for no password: who sees them has brought the secret, and the browser brings it again."""

    async def pages(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/ui-settings":
            await app(scope, receive, send)
            return
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://ui") as client:
            told = (await client.get(scope["path"])).json()
        await JSONResponse({**told, "auth": None})(scope, receive, send)

    return pages


def main() -> None:
    """What :func:`start` starts."""
    serve(socket.socket(fileno=int(sys.argv[1])), os.environ["PREFECT_SERVER_API_AUTH_STRING"])
