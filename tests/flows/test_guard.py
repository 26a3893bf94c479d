"""The guard in front of the session's real Prefect server: who is refused, and that the secret lies nowhere."""

from __future__ import annotations

import asyncio
import http.server
import os
import stat
import threading
from pathlib import Path

import httpx
import psutil
import pytest
from starlette.types import Message, Receive, Scope, Send
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from flows import guard
from tests.flows.conftest import Deployed


def asked(api: str, path: str = "/version", method: str = "GET", **headers: str) -> int:
    """The status of a request with the secret, unless ``headers`` say otherwise."""
    signed_in = {"Authorization": guard.header(os.environ["PREFECT_API_AUTH_STRING"])}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.request(method, f"{api}{path}", headers={**signed_in, **named}, timeout=60).status_code


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Authorization": ""}, 401),
        ({"Authorization": guard.header("ram-engine:guessed")}, 401),
        ({"Host": "evil.example:80"}, 421),
        ({"Host": "localhost"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"}, 403),
        ({"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "iframe"}, 403),
        ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}, 200),
    ],
)
def test_who_is_refused(prefect_api: str, headers: dict[str, str], status: int) -> None:
    assert asked(prefect_api, **headers) == status
    assert asked(prefect_api.removesuffix("/api"), "/ui-settings", **headers) == status  # the pages too


def test_its_own_page_is_served_and_a_change_needs_a_token(prefect_api: str) -> None:
    own = prefect_api.removesuffix("/api")
    assert asked(prefect_api, Origin=own, Sec_Fetch_Site="same-origin") == 200
    assert asked(prefect_api, "/flows/filter", "POST", Origin=own) == 403  # Prefect's own protection against forgery
    preflight = {"Origin": "https://evil.example", "Access_Control_Request_Method": "POST"}
    assert asked(prefect_api, "/flows/filter", "OPTIONS", **preflight) == 403


def test_a_websocket_is_guarded_as_well(prefect_api: str) -> None:
    address = prefect_api.replace("http", "ws") + "/events/out"
    with pytest.raises(InvalidStatus):
        connect(address, origin="https://evil.example", subprotocols=["prefect"])  # type: ignore[arg-type, list-item]
    with connect(address, subprotocols=["prefect"]) as socket:  # type: ignore[list-item]
        socket.send('{"type": "auth", "token": "ram-engine:guessed"}')
        with pytest.raises(Exception, match="1008"):
            socket.recv(timeout=60)


@pytest.mark.parametrize(("secret", "served"), [("ram-engine:right", True), ("ram-engine:guessed", False)])
def test_a_page_of_our_own_needs_no_guard_of_its_own(secret: str, served: bool) -> None:
    """Any ASGI app, over a WebSocket too."""
    calls, sent = [], []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        calls.append(scope["type"])

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    guarded = guard.Guard(app, "ram-engine:right", ("http://127.0.0.1:80",))
    headers = [(b"host", b"127.0.0.1:80"), (b"authorization", guard.header(secret).encode())]
    asyncio.run(guarded({"type": "websocket", "path": "/", "headers": headers}, receive, send))
    assert calls == (["websocket"] if served else [])
    assert sent == ([] if served else [{"type": "websocket.close", "code": 1008}])


def test_the_secret_is_on_no_command_line_in_no_log_and_in_no_readable_file(prefect_api: str, tmp_path: Path) -> None:
    secret = os.environ["PREFECT_API_AUTH_STRING"]
    password = secret.partition(":")[2]
    assert password not in "".join(" ".join(one.info["cmdline"] or ()) for one in psutil.process_iter(["cmdline"]))
    for file in Path(os.environ["PREFECT_HOME"]).rglob("*"):
        if file.is_file():
            assert password.encode() not in file.read_bytes(), file
    kept = tmp_path / "deep" / "secret"
    assert guard.kept_secret(kept) == guard.kept_secret(kept) != secret
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_a_foreign_page_in_a_real_browser_gets_nothing(deployed: Deployed, tmp_path: Path) -> None:
    """The browser is signed in, and a page at another port of this machine asks all the same."""
    from tests.browser import open_browser

    own = deployed.api.removesuffix("/api")
    (tmp_path / "evil.html").write_text("<title>evil</title>")

    class Pages(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path))  # type: ignore[arg-type]

        def log_message(self, *arguments: object) -> None: ...

    evil = http.server.ThreadingHTTPServer((guard.HOST, 0), Pages)
    threading.Thread(target=evil.serve_forever, daemon=True).start()
    judge = deployed.deployment("judge/default")
    attack = """async ([address, body]) => {
        const send = { method: "PATCH", credentials: "include", headers: {"Content-Type": "application/json"}, body };
        const simple = { method: "POST", credentials: "include", mode: "no-cors", body };
        const outcomes = [];
        for (const request of [send, simple])
            outcomes.push(await fetch(address, request).then(answer => answer.type + answer.status, () => "refused"));
        return outcomes;
    }"""
    with open_browser() as browser:
        page = browser.new_page()
        page.goto(guard.link(own, os.environ["PREFECT_API_AUTH_STRING"], "/api/version"), timeout=90_000)
        assert page.url == f"{own}/api/version"  # without the secret
        assert page.inner_text("body").strip('"')
        page.goto(f"http://{guard.HOST}:{evil.server_address[1]}/evil.html", timeout=90_000)
        pull = '{"pull_steps": [{"prefect.deployments.steps.run_shell_script": {"script": "touch /tmp/evil"}}]}'
        assert page.evaluate(attack, [f"{deployed.api}/deployments/{judge['id']}", pull]) == ["refused", "opaque0"]
    evil.shutdown()
    evil.server_close()
    assert deployed.deployment("judge/default")["pull_steps"] == judge["pull_steps"]
