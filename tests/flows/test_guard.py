"""The guard in front of the session's real Prefect server: who is refused, and that the secret lies nowhere."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from starlette.types import Message, Receive, Scope, Send
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from flows import guard
from tests.flows.conftest import Deployed

CLIENT = httpx.Client(timeout=60, verify=False)  # no TLS, whose setting up takes longer than a request
NOBODY = 65534
METHODS = ("HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE")
HARM = '{"pull_steps": [{"prefect.deployments.steps.run_shell_script": {"script": "touch /tmp/harm"}}]}'
SOCKETS = (
    "events/in",
    "events/out",
    "logs/out",
    "task_runs/subscriptions/scheduled",
    "work_pools/ram-engine/workers/connect",
)


def asked(api: str, path: str = "/version", method: str = "GET", **headers: str) -> int:
    """The status of a request with the secret, unless ``headers`` say otherwise."""
    signed_in = {"Authorization": guard.header(os.environ["PREFECT_API_AUTH_STRING"])}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return CLIENT.request(method, f"{api}{path}", headers={**signed_in, **named}).status_code


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Authorization": ""}, 401),
        ({"Authorization": guard.header("ram-engine:guessed")}, 401),
        ({"Host": "evil.example:80"}, 421),
        ({"Host": "localhost"}, 421),
        ({"Host": "localhost.:{port}"}, 421),
        ({"Host": "localhost:{port}"}, 421),
        ({"Host": "[::1]:{port}"}, 421),
        ({"Host": "0.0.0.0:{port}"}, 421),
        ({"Host": "127.0.0.1"}, 421),
        ({"Host": "127.1:{port}"}, 421),
        ({"Host": "2130706433:{port}"}, 421),
        ({"Host": "127.0.0.1.:{port}"}, 421),
        ({"Host": "ram-engine@127.0.0.1:{port}"}, 421),
        ({"Host": "127.0.0.1:{port}, evil.example"}, 421),
        ({"Host": ""}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://localhost:{port}"}, 403),
        ({"Origin": "http://127.0.0.1"}, 403),
        ({"Origin": "https://127.0.0.1:{port}"}, 403),
        ({"Origin": "http://127.0.0.1:{port}.evil.example"}, 403),
        ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"}, 403),
        ({"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "iframe"}, 403),
        ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}, 200),
    ],
)
def test_who_is_refused(prefect_api: str, headers: dict[str, str], status: int) -> None:
    own = prefect_api.removesuffix("/api")
    sent = {name: value.replace("{port}", str(urlsplit(own).port)) for name, value in headers.items()}
    paths = ("/api/version", "/%61pi/version", "/ui-settings", "/ui-settings?x", "/%75i-settings")  # the pages too
    assert {asked(own, path, **sent) for path in paths} == {status}
    if status != 200:
        refused = {asked(own, path, method, **sent) for path in (*paths, "/", "//api/version") for method in METHODS}
        assert refused == {status}


def test_its_own_page_is_served_and_a_change_needs_a_token(prefect_api: str) -> None:
    own = prefect_api.removesuffix("/api")
    assert asked(prefect_api, Origin=own, Sec_Fetch_Site="same-origin") == 200
    assert asked(prefect_api, "/flows/filter", "POST", Origin=own) == 403  # Prefect's own protection against forgery
    preflight = {"Origin": "https://evil.example", "Access_Control_Request_Method": "POST"}
    assert asked(prefect_api, "/flows/filter", "OPTIONS", **preflight) == 403


@pytest.mark.parametrize("path", SOCKETS)
def test_a_websocket_is_guarded_as_well(prefect_api: str, path: str) -> None:
    address = f"{prefect_api.replace('http', 'ws')}/{path}"
    for refused in ({"origin": "https://evil.example"}, {"additional_headers": {"Sec-Fetch-Site": "cross-site"}}, {}):
        protocols = ["prefect"] if refused else None
        with pytest.raises(InvalidStatus):
            connect(address, subprotocols=protocols, **refused)  # type: ignore[arg-type]
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


def test_a_foreign_page_in_a_real_browser_gets_nothing(deployed: Deployed) -> None:
    from tests.foreign_page import attack

    judge = deployed.deployment("judge/default")
    address = f"{deployed.api}/deployments/{judge['id']}"
    secret = os.environ["PREFECT_API_AUTH_STRING"]
    statuses = attack(deployed.api.removesuffix("/api"), secret, address, HARM)
    assert len(statuses) > 10
    assert set(statuses) <= {403, 421}
    assert deployed.deployment("judge/default")["pull_steps"] == judge["pull_steps"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_of_this_machine_gets_nothing(prefect_api: str) -> None:
    """The port is everybody's; the secret is not, in its file and in the processes that know it."""
    place = urlsplit(prefect_api)
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        kept = Path(folder) / "secret"
        secret = guard.kept_secret(kept)
        server = next(one for one in psutil.Process().children() if "flows.local_server" in " ".join(one.cmdline()))
        for file in (kept, f"/proc/{server.pid}/environ", f"/proc/{os.getpid()}/environ"):
            assert as_nobody("cat", str(file)).returncode
        os.chown(kept, NOBODY, NOBODY)  # who made it knows it
        with pytest.raises(PermissionError, match="belongs to another user"):
            guard.kept_secret(kept)
        kept.unlink()
        assert guard.kept_secret(kept) != secret
    request = f"GET /api/version HTTP/1.0\\r\\nHost: {place.netloc}\\r\\n\\r\\n"
    shell = f"exec 3<>/dev/tcp/{place.hostname}/{place.port}; printf '{request}' >&3; cat <&3"
    assert as_nobody("bash", "-c", shell).stdout.startswith("HTTP/1.1 401")


def as_nobody(*command: str) -> subprocess.CompletedProcess[str]:
    other = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
    return subprocess.run([*other, *command], capture_output=True, text=True, cwd="/")


@pytest.mark.parametrize("content", ["", "\n", "ram-engine:", ":password"])
def test_a_file_without_a_secret_is_refused(tmp_path: Path, content: str) -> None:
    """An empty one would let everybody in."""
    (tmp_path / "secret").write_text(content)
    with pytest.raises(ValueError, match="holds no secret"):
        guard.kept_secret(tmp_path / "secret")
