"""A Prefect server that stays: behind the guard, with a log file, one for each folder of Prefect's (PREFECT_HOME)."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from flows import guard
from flows.environment import SERVER
from flows.local_server import healthy, serve, server_settings, wait_for
from storage.user_folder import home_folder

STOP_SECONDS = 20.0


@dataclass(frozen=True)
class Place:
    """What a server keeps, in files that its owner alone can read."""

    folder: Path

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def secret_file(self) -> Path:
        return self.folder / "secret"

    @property
    def secret(self) -> str:
        return guard.kept_secret(self.secret_file)

    @property
    def origin(self) -> str:
        """Where people reach the server. Raises ValueError where none was started here yet."""
        try:
            return (self.folder / "origin").read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            raise ValueError(f"no server has been started in {self.folder}: ram-engine server start") from None

    @property
    def lock(self) -> FileLock:
        """Held by the server while it lives, even where it is killed."""
        return FileLock(self.folder / "lock")

    @property
    def runs(self) -> bool:
        """Whether a server lives."""
        if not self.folder.is_dir():
            return False
        try:
            with self.lock.acquire(timeout=0):
                return False
        except Timeout:
            return True


def place() -> Place:
    """The one of this user's PREFECT_HOME."""
    home = os.environ.get("PREFECT_HOME") or home_folder() / ".prefect"
    return Place(Path(home).expanduser() / "ram-engine-server")


def environment(here: Place) -> dict[str, str]:
    """What Prefect's commands and workers need to reach the server."""
    return {
        "PREFECT_API_URL": f"{here.origin}/api",
        "PREFECT_API_AUTH_STRING": here.secret,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }


def start(here: Place, port: int, origin: str) -> None:
    """Starts a server that outlives this process and its terminal; returns when it is healthy.

    Raises ValueError where one lives already, OSError naming the log where it does not come up.
    """
    if here.runs:
        raise ValueError(f"a server runs already at {here.origin}: ram-engine server stop")
    for folder in (here.folder.parent, here.folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    secret = here.secret
    command = [sys.executable, "-m", "ram_engine", "server", "start", "--foreground", "--port", str(port)]
    log = os.open(here.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with open(log, "ab") as output:
        process = subprocess.Popen(
            [*command, "--origin", origin] if origin else command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    wait_for(f"http://{guard.HOST}:{port}/api", secret, process, str(here.log))


def run(here: Place, port: int, origin: str) -> None:
    """Serves until a signal comes; ``origin`` is where people reach it, where that is not this machine's own address.

    Raises ValueError where another server lives on the same folder, OSError where the port is taken.
    """
    os.umask(0o077)  # Prefect's database holds the key of its Secret blocks
    here.folder.mkdir(parents=True, exist_ok=True)
    with _alone(here), guard.listen(port) as listening:
        own = guard.origin_of(listening)
        told = origin.rstrip("/") or own
        secret = here.secret  # before others learn that there is a server
        (here.folder / "pid").write_text(str(os.getpid()), encoding="utf-8")
        (here.folder / "origin").write_text(f"{told}\n", encoding="utf-8")
        os.environ.update({**SERVER, **os.environ, **server_settings(told, secret)})
        serve(listening, secret, (told,), log_level="warning")


@contextlib.contextmanager
def _alone(here: Place) -> Iterator[None]:
    try:
        with here.lock.acquire(timeout=0):
            yield
    except Timeout:
        raise ValueError(f"a server runs already at {here.origin}: ram-engine server stop") from None


def stop(here: Place) -> bool:
    """Ends the server, and returns when it is gone; whether there was one."""
    if not here.runs:
        return False
    pid = int((here.folder / "pid").read_text(encoding="utf-8"))
    os.kill(pid, signal.SIGTERM)
    try:
        here.lock.acquire(timeout=STOP_SECONDS).lock.release()
    except Timeout:
        os.kill(pid, signal.SIGKILL)
    return True


def answers(here: Place) -> bool:
    """Whether the server lives and says that it is well."""
    return here.runs and healthy(f"{here.origin}/api", here.secret)
