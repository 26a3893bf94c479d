"""Full and read-only disks, two runs at once, a clock that goes back, a server that is away: said, and nothing lost."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from flows import guard, local_server
from ram_engine.configuration import configure
from storage import leases
from storage.store import Snapshot, Store
from tests import forked
from tests.conftest import ram_engine

INGESTED = ("pairs", "images", "pairs_rejected", "truth")


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own, in memory; the test is skipped by name where none may be mounted."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def test_a_full_and_a_read_only_disk_are_named_and_cost_nothing_that_was_done(prefect_api: str, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "5m") as disk:
        store = disk / "store"
        arguments = ("run", "--preset", "tiny", "--store", str(store), "--until", "parse-captions")
        full = ram_engine(*arguments, check=False)
        assert full.returncode == 1
        assert "the disk is full: " in full.stdout
        assert "will be reused" in full.stdout
        made = [{file.name for file in (store / name / "parts").glob("*.parquet")} for name in INGESTED]
        done = set.intersection(*made)  # a shard is done when all of its parts are there
        assert done
        remount(disk, "size=64m")
        remount(disk, "ro")
        sealed = ram_engine(*arguments, check=False)
        assert sealed.returncode == 1
        assert "Read-only file system" in sealed.stdout
        remount(disk, "rw")
        resumed = ram_engine(*arguments)
        assert f"{5 - len(done)} shards computed, {len(done)} reused" in resumed.stderr
        assert Store(store).snapshot("phrases") is not None


def test_a_run_that_fails_leaves_a_report_of_what_was_done(copied_store: Path) -> None:
    (copied_store / "report.html").unlink()
    too_few = ("--force", "build-labels", "--set", "build_labels.min_count=100000")
    failed = ram_engine("run", "--preset", "tiny", "--store", str(copied_store), *too_few, check=False)
    assert failed.returncode == 1
    assert "there is no tag to learn" in failed.stdout
    assert (copied_store / "report.html").is_file()


def test_two_runs_of_a_stage_at_once_compute_each_shard_once(prefect_api: str, copied_store: Path) -> None:
    from flows.stages import judge

    settings, executor = configure("tiny", sets=["judge.outlier_share=0.25"])
    results: list[dict[str, Any]] = []

    def run() -> None:
        results.append(judge(str(copied_store), settings.judge, executor=executor))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result["computed"] for result in results) == [0, 5]
    assert [result["kept"] for result in sorted(results, key=lambda one: one["computed"])] == [True, False]
    verdicts = Store(copied_store).snapshot("tag_verdicts")
    assert verdicts is not None
    assert Store(copied_store).table(verdicts).num_rows == verdicts.rows


def test_a_clock_that_goes_back_makes_nothing_look_older(tmp_path: Path) -> None:
    store = Store(tmp_path)
    tomorrow = time.time() + 86_400
    store.publish(Snapshot("caption_tags", "first", "assign-tags", "recipe", created=tomorrow))
    store.publish(Snapshot("caption_tags", "second", "assign-tags", "recipe"))
    assert [one.key for one in store.snapshots("caption_tags")] == ["second", "first"]


@pytest.mark.soak
def test_a_run_that_was_paused_while_garbage_was_collected_computes_it_again(prefect_api: str, tmp_path: Path) -> None:
    folder, log = tmp_path / "store", tmp_path / "run.log"
    arguments = ("run", "--preset", "tiny", "--store", str(folder), "--until", "parse-captions")
    ram_engine(*arguments)
    store = Store(folder)
    before = store.parts_present("phrases")
    run = forked.command((*arguments, "--set", "parse_captions.max_words=150"), log, log)
    while store.parts_present("phrases") == before:
        assert run.is_alive(), log.read_text()
        time.sleep(0.001)
    assert run.pid is not None
    os.kill(run.pid, signal.SIGSTOP)
    assert len(store.snapshots("phrases")) == 1, "it was faster than the pause"
    for file in (folder / leases.FOLDER).iterdir():
        os.utime(file, (1, 1))
    assert "MB removed" in ram_engine("gc", "--store", str(folder), "--keep", "1").stdout
    assert store.parts_present("phrases") == before
    os.kill(run.pid, signal.SIGCONT)
    run.join(180)
    assert run.exitcode == 0, log.read_text()
    assert "is missing; the next run of the pipeline computes it again" in log.read_text()
    published = store.snapshot("phrases")
    assert published is not None
    assert {part.key for part in published.parts} == store.parts_present("phrases") - before
    assert store.table(published).num_rows == published.rows


@pytest.mark.soak
@pytest.mark.parametrize("away", [5, 60])
def test_a_server_that_is_away_and_takes_no_artifact_costs_the_run_nothing(
    copied_store: Path, tmp_path: Path, away: float
) -> None:
    home = tmp_path / "prefect"
    home.mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    environment |= {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    server = Server(environment, tmp_path / "server.log", [sys.executable, "-m", "tests.ill_server"])
    verdicts = Store(copied_store).snapshot("tag_verdicts")
    try:
        begun, log = time.time(), tmp_path / "run.log"
        run = forked.command(
            (
                *("run", "--preset", "tiny", "--store", str(copied_store)),
                *("--start", "ground", "--force", "ground", "--until", "judge"),
            ),
            log,
            log,
            {**environment, "PREFECT_API_URL": server.url, "PREFECT_API_AUTH_STRING": server.secret},
        )
        while not any(part.stat().st_mtime > begun for part in (copied_store / "regions" / "parts").iterdir()):
            assert run.is_alive(), log.read_text()
            time.sleep(0.05)
        server.stop()
        time.sleep(away)
        server.start()
        run.join(180)
        assert run.exitcode == 0, log.read_text()
    finally:
        server.stop()
    assert "did not take the artifact ground" in log.read_text()
    assert (copied_store / "reports" / "ground.md").stat().st_mtime > begun
    again = Store(copied_store).snapshot("tag_verdicts")
    assert again is not None
    assert verdicts is not None
    assert again.digest == verdicts.digest


class Server:
    """A Prefect server that stops and comes back at the same address, with what it knew."""

    def __init__(self, environment: dict[str, str], log: Path, command: Sequence[str] = local_server.COMMAND) -> None:
        self.secret, self.log, self.command = guard.new_secret(), log, command
        self.environment = environment
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://{guard.HOST}:{self.port}/api"

    def start(self) -> None:
        with guard.listen(self.port) as listening, self.log.open("ab") as log:
            self.port = listening.getsockname()[1]
            self.process = subprocess.Popen(
                [*self.command, str(listening.fileno())],
                stdin=subprocess.PIPE,
                env={**self.environment, **local_server.server_settings(guard.origin_of(listening), self.secret)},
                stdout=log,
                stderr=log,
                pass_fds=[listening.fileno()],
            )
        local_server.wait_for(self.url, self.secret, self.process, str(self.log))

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
