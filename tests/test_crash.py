"""`kill -9` in the middle of a run, then the same command again: it goes on, and the rows are the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from storage.store import Store
from tests.conftest import ram_engine

# A run is killed as soon as the store shows the first file of these: a part, a snapshot, or a training's work.
MOMENTS = ("pairs/parts", "features/parts", ".work/train-baseline-*", "regions/parts", ".work/retrain-*")


def mentions(store: Path) -> list[psutil.Process]:
    """Living processes that have this store in their command line or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            told = " ".join(process.cmdline()) + " ".join(process.environ().values())
        except psutil.Error:
            continue
        if str(store) in told and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def start(store: Path) -> subprocess.Popen[bytes]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    return subprocess.Popen(
        [sys.executable, "-m", "ram_engine", "run", "--preset", "tiny", "--store", str(store)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**environment, "RAM_ENGINE_TEST_STORE": str(store)},
        start_new_session=True,
    )


def kill_at(store: Path, moment: str) -> bool:
    """Starts a run and kills it at a moment; false where the run ended before."""
    run = start(store)
    while run.poll() is None:
        if any(store.glob(f"{moment}/*")):
            os.kill(run.pid, signal.SIGKILL)
            run.wait()
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("moments", [MOMENTS[2:3], pytest.param(MOMENTS, marks=pytest.mark.soak)])
def test_a_killed_run_goes_on_where_it_was(finished_store: Path, tmp_path: Path, moments: tuple[str, ...]) -> None:
    store = tmp_path / "killed"
    for moment in moments:
        assert kill_at(store, moment), f"the run ended before {moment}"
        deadline = time.monotonic() + 15
        while mentions(store) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not mentions(store), f"left behind after a kill at {moment}"
    ram_engine("run", "--preset", "tiny", "--store", str(store))
    killed, whole = Store(store), Store(finished_store)
    assert killed.artifacts() == whole.artifacts()
    differing = [
        name
        for name in whole.artifacts()
        if killed.snapshot(name).digest != whole.snapshot(name).digest  # type: ignore[union-attr]
    ]
    assert not differing


@pytest.mark.soak
def test_many_kills_at_random_moments(finished_store: Path, tmp_path: Path) -> None:
    import random

    chance = random.Random(0)
    store = tmp_path / "killed"
    for _ in range(int(os.environ.get("RAM_ENGINE_KILLS", "200"))):
        run = start(store)
        time.sleep(chance.uniform(1, 20))
        run.kill()
        run.wait()
    ram_engine("run", "--preset", "tiny", "--store", str(store))
    killed, whole = Store(store), Store(finished_store)
    assert [killed.snapshot(name).digest for name in whole.artifacts()] == [  # type: ignore[union-attr]
        whole.snapshot(name).digest
        for name in whole.artifacts()  # type: ignore[union-attr]
    ]
