"""A Prefect server for one run, as a child process that ends with the run, even where the run is killed."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx

START_SECONDS = 120


@contextlib.contextmanager
def local_server(log: str, port: int = 0) -> Iterator[str]:
    """The API's address; flows of this process report to it while the block runs.

    The server's own output goes to the file ``log``. Port 0 is any free one. Raises RuntimeError naming ``log`` where
    the server does not come up.
    """
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise RuntimeError(f"port {port} is taken: choose another with --port") from None
        port = probe.getsockname()[1]
    with open(log, "ab") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "flows.local_server", str(port), str(os.getpid())],
            stdout=output,
            stderr=output,
            # the UI asks the API at port 4200 unless it is told otherwise
            env={**os.environ, "PREFECT_API_URL": "", "PREFECT_SERVER_UI_API_URL": f"http://127.0.0.1:{port}/api"},
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}/api"
    try:
        _wait(server, url, log)
        with _reporting_to(url):
            yield url
    finally:
        server.terminate()
        try:
            server.wait(5)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@contextlib.contextmanager
def _reporting_to(url: str) -> Iterator[None]:
    os.environ["PREFECT_API_URL"] = url
    # Imported only now: Prefect reads its settings when it is first imported, and the address is one of them.
    from prefect.logging.handlers import APILogWorker
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    # No heartbeats: a server that ends with the run need not hear that it lives, and each costs its flow a second.
    with temporary_settings({PREFECT_API_URL: url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        try:
            yield
        finally:
            APILogWorker.drain_all(timeout=5)
            del os.environ["PREFECT_API_URL"]


def _wait(server: subprocess.Popen[bytes], url: str, log: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                return
        time.sleep(0.1)
    raise RuntimeError(f"Prefect's server did not start; its output is in {log}")


def _serve(port: int, parent: int) -> None:
    import uvicorn
    from prefect.server.api.server import create_app

    from tasks.engines import exit_with

    exit_with(parent)
    uvicorn.run(create_app(), host="127.0.0.1", port=port, log_level="error", lifespan="on")


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]))
