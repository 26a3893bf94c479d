"""One harness for the whole session: a Prefect server of its own, and one finished run of the preset `tiny`.

With ``pytest -n 2`` each of the two workers is such a session; they share the finished run.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from flows.environment import local_prefect
from ram_engine.cli import main
from tests import forked

# a property holds however busy the machine is
settings.register_profile("any load", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any load")

ROOT = Path(__file__).parents[1]
SHARED = os.environ.get("RAM_ENGINE_SHARED", "")
SMALL_CLIP = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 224, "layers": 2, "width": 64, "head_width": 32, "patch_size": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


def shared(name: str) -> Path:
    """A file of the shared test data; the test is skipped by name where it is absent."""
    path = Path(SHARED) / name
    if not SHARED or not path.exists():
        pytest.skip(f"needs {name} below RAM_ENGINE_SHARED")
    return path


SESSION = "RAM_ENGINE_TEST_SESSION"  # in the environment of every process that the session starts
LEFT = pytest.StashKey[list[str]]()
LEAVE_SECONDS = 15.0


def pytest_configure(config: pytest.Config) -> None:
    """Gives each worker its own share of the cores: more threads than cores would wait for each other."""
    # Ignored below `nohup` and in the background of a shell: what the tests start is to mind them.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    worker = getattr(config, "workerinput", None)
    if worker is None:
        os.environ[SESSION] = uuid.uuid4().hex
    if worker is not None and hasattr(os, "sched_setaffinity"):
        cores, number = sorted(os.sched_getaffinity(0)), int(worker["workerid"].removeprefix("gw"))
        os.sched_setaffinity(0, cores[number :: worker["workercount"]] or cores)


@pytest.hookimpl(trylast=True)  # after the workers have ended
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fails a session that leaves a process running: a server, a worker, a training."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        return
    deadline = time.monotonic() + LEAVE_SECONDS
    while (left := left_running()) and time.monotonic() < deadline:
        time.sleep(0.2)
    session.config.stash[LEFT] = left
    if left:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for process in config.stash.get(LEFT, []):
        terminalreporter.write_line(f"LEFT RUNNING by the tests: {process}", red=True)


def left_running() -> list[str]:
    """The processes that bear this session's mark and live, but for multiprocessing's own, which end with this one."""
    import psutil

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command = " ".join(process.cmdline())
            own = process.pid == os.getpid() or (process.ppid() == os.getpid() and "multiprocessing" in command)
            marked = process.environ().get(SESSION) == os.environ[SESSION]
            if marked and not own and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {command[:200]}")
    return found


def ram_engine(*arguments: str, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
    """Runs the console command: in a forked process where it computes stages, else in this one; with ``options`` of
    :func:`subprocess.run` in a process that a user would start."""
    if options:
        done = subprocess.run(  # type: ignore[call-overload]
            [sys.executable, "-m", "ram_engine", *arguments], capture_output=True, text=True, **options
        )
    elif arguments[0] in ("run", "stage"):
        done = _forked(arguments)
    else:
        done = _here(arguments)
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


def _forked(arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        run = forked.command(arguments, out, err)
        run.join()
        assert run.exitcode is not None
        return subprocess.CompletedProcess(arguments, run.exitcode, out.read_text(), err.read_text())


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

        forked.load()  # before any training loads less
        with local_server(str(home / "server.log")) as api:
            yield api


@pytest.fixture(scope="session")
def finished_store(prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a finished run of `tiny`. Read it; to change it take :func:`copied_store`."""
    own = tmp_path_factory.getbasetemp()
    common = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    with FileLock(common / "tiny.lock"):  # one worker makes it, the others wait
        if not (common / "tiny" / "report.html").is_file():
            ram_engine("run", "--preset", "tiny", "--store", str(common / "tiny"), cwd=ROOT)
    return Path(shutil.copytree(common / "tiny", tmp_path_factory.mktemp("stores") / "tiny"))


@pytest.fixture
def copied_store(finished_store: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may change."""
    return Path(shutil.copytree(finished_store, tmp_path / "tiny"))


@pytest.fixture(scope="session")
def command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """The console command as a function."""
    return ram_engine


@pytest.fixture(scope="session")
def clip_encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A CLIP of random weights, as settings name it."""
    import open_clip
    import torch

    torch.manual_seed(0)
    name, folder = "ViT-64-wide-32", tmp_path_factory.mktemp("clip")
    (folder / f"{name}.json").write_text(json.dumps(SMALL_CLIP))
    open_clip.add_model_config(folder)
    file = folder / "weights.pt"
    torch.save(open_clip.create_model(name).state_dict(), file)
    return f"open_clip:{name}:{file}"
