"""One harness for the whole session: a Prefect server of its own, and one finished run of the preset `tiny`."""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from flows.environment import local_prefect
from ram_engine.cli import main, say_no_more

atexit.register(say_no_more)  # first, so that it is called last

ROOT = Path(__file__).parents[1]
SHARED = os.environ.get("RAM_ENGINE_SHARED", "")


def shared(name: str) -> Path:
    """A file of the shared test data; the test is skipped by name where it is absent."""
    path = Path(SHARED) / name
    if not SHARED or not path.exists():
        pytest.skip(f"needs {name} below RAM_ENGINE_SHARED")
    return path


def ram_engine(*arguments: str, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
    """Runs the console command: in a process of its own where it computes stages, else in this one, which has torch."""
    if arguments[0] in ("run", "stage", "ui") or options:
        done = subprocess.run(  # type: ignore[call-overload]
            [sys.executable, "-m", "ram_engine", *arguments], capture_output=True, text=True, **options
        )
    else:
        done = _here(arguments)
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


def _here(arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    out, err, code = io.StringIO(), io.StringIO(), 0
    before, sys.argv = sys.argv, ["ram-engine", *arguments]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.argv = before
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prefect server for the session; flows and commands of the tests report to it."""
    home = tmp_path_factory.mktemp("prefect")
    with local_prefect(home):
        from flows.local_server import local_server

        with local_server(str(home / "server.log")) as api:
            yield api


@pytest.fixture(scope="session")
def finished_store(prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a finished run of `tiny`. Read it; to change it take :func:`copied_store`."""
    store = tmp_path_factory.mktemp("stores") / "tiny"
    ram_engine("run", "--preset", "tiny", "--store", str(store))
    return store


@pytest.fixture
def copied_store(finished_store: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may change."""
    return Path(shutil.copytree(finished_store, tmp_path / "tiny"))


@pytest.fixture(scope="session")
def command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """The console command as a function."""
    return ram_engine
