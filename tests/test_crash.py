"""`kill -9` of a run or of one of its processes at random moments: the next run goes on, and the rows are the same."""

from __future__ import annotations

import contextlib
import multiprocessing.process
import os
import random
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from storage import garbage, leases
from storage.store import TEMPORARY, Store
from tests import forked

MOST_FILES = 75  # parts and models of a whole run of `tiny`


@pytest.mark.parametrize("kills", [5, pytest.param(200, marks=pytest.mark.soak)])
def test_killed_runs_go_on_where_they_were(finished_store: Path, tmp_path: Path, kills: int) -> None:
    chance = random.Random(kills)
    whole = Store(finished_store)
    victims: Counter[str] = Counter()
    stores = 0
    while victims.total() < kills:
        stores += 1
        store = tmp_path / f"store-{stores}"
        moments = sorted(chance.randrange(MOST_FILES) for _ in range(min(20, kills - victims.total())))
        for moment in moments:
            run = forked.start(store, "processes" if chance.random() < 0.1 else "threads")
            child = chance.random() < 0.2
            wait_for(store, moment, run, child)
            time.sleep(chance.uniform(0, 1))
            if not run.is_alive():  # it was faster than the moment: the next store's turn
                break
            victims[kill(run, child, chance)] += 1
        last = forked.start(store)
        last.join()
        assert last.exitcode == 0, (tmp_path / f"{store.name}.log").read_text()[-3000:]
        assert_equal(Store(store), whole)
    print(f"{kills} kills: {dict(victims)}, on {stores} stores")


def wait_for(store: Path, files: int, run: multiprocessing.process.BaseProcess, child: bool) -> None:
    """Until the store holds so many files and the run has a child to kill, where it is to; or the run has ended."""
    while run.is_alive():
        if len([*store.glob("*/parts/*.parquet"), *store.glob("*/models/*")]) >= files:
            with contextlib.suppress(psutil.NoSuchProcess):
                if not child or psutil.Process(run.pid).children():
                    return
        time.sleep(0.02)


def kill(run: multiprocessing.process.BaseProcess, child: bool, chance: random.Random) -> str:
    """Kills the run, or a process that it started; says which, when nothing of it is left."""
    process = psutil.Process(run.pid)
    children = process.children(recursive=True)
    victim = chance.choice(children) if children and child else process
    with contextlib.suppress(psutil.NoSuchProcess):  # a worker that has just ended
        victim.kill()
    run.join(180 if victim is not process else 30)
    assert not run.is_alive(), f"the run hangs since {victim} was killed"
    _, left = psutil.wait_procs(children, timeout=20)
    assert not left, f"left behind: {[' '.join(one.cmdline()) for one in left]}"
    return "run" if victim is process else "child"


def assert_equal(killed: Store, whole: Store) -> None:
    """The same contents, each shard once, and after a collection nothing but them."""
    assert killed.artifacts() == whole.artifacts()
    differing = []
    for name in whole.artifacts():
        one, other = killed.snapshot(name), whole.snapshot(name)
        assert one is not None
        assert other is not None
        if one.digest != other.digest:
            differing.append(name)
        assert len({part.partition for part in one.parts}) == len(one.parts)
    assert not differing
    root = Path(killed.root)
    for file in [*(root / leases.FOLDER).iterdir(), *root.rglob(f"{TEMPORARY}*")]:  # of killed runs, as if old by now
        os.utime(file, (0, 0))
    with leases.collecting(killed) as collection:
        assert not collection.others
        garbage.remove(killed, garbage.find(killed, 1, collection.others))
    assert not list(root.rglob(f"{TEMPORARY}*"))
