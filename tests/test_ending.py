"""Ctrl-C, SIGTERM, a closed terminal, an output that nobody reads: one sentence, and nothing is left running."""

from __future__ import annotations

import contextlib
import os
import pty
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from storage.store import Store
from tests import forked
from tests.test_crash import MOST_FILES, wait_for

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LEAVE_SECONDS = 10.0  # of a busy machine
COMMAND = (sys.executable, "-m", "ram_engine")


def end(process: psutil.Process, number: int) -> list[psutil.Process]:
    """Sends a signal to the process and to all of its group, as a terminal does; gives its children."""
    children: list[psutil.Process] = process.children(recursive=True)
    os.killpg(process.pid, number)
    return children


def assert_gone(children: Sequence[psutil.Process]) -> float:
    """Waits until the children of a process that has ended are gone, and gives the seconds that it took."""
    begun = time.monotonic()
    left = list(children)
    while left and time.monotonic() - begun < LEAVE_SECONDS:
        left = [child for child in left if lives(child)]
        time.sleep(0.01)
    assert not left, left
    return time.monotonic() - begun


def lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def started(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """The console command in a session of its own, as soon as it minds signals."""
    run = subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE, text=True, start_new_session=True, **options)
    wait_until(lambda: minds_signals(run.pid))
    return run


def minds_signals(pid: int) -> bool:
    """Whether a process has a handler of its own for a hangup, which Python has none for."""
    caught = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGHUP - 1) & 1)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(("ends", "files"), [(3, 9), pytest.param(60, MOST_FILES, marks=pytest.mark.soak)])
def test_a_run_ends_in_a_sentence_at_any_moment(prefect_api: str, tmp_path: Path, ends: int, files: int) -> None:
    chance = random.Random(ends)
    seconds: list[float] = []
    stores = 0
    while len(seconds) < ends:
        stores += 1
        store = tmp_path / f"store-{stores}"
        for moment in sorted(chance.randrange(files) for _ in range(min(15, ends - len(seconds)))):
            out, err = tmp_path / f"out-{len(seconds)}", tmp_path / f"err-{len(seconds)}"
            kind = "processes" if chance.random() < 0.2 else "threads"
            arguments = ["run", "--preset", "tiny", "--store", str(store), "--set", f"executor.kind={kind}"]
            run = forked.command(arguments, out, err)
            wait_for(store, moment, run, child=False)
            time.sleep(chance.uniform(0, 1))
            if not run.is_alive():  # it was faster than the moment: the next store's turn
                break
            number, begun = chance.choice(SIGNALS), time.monotonic()
            children = end(psutil.Process(run.pid), number)
            if chance.random() < 0.3:
                time.sleep(chance.uniform(0, 0.3))
                with contextlib.suppress(ProcessLookupError):  # it was faster
                    os.killpg(run.pid or 0, signal.SIGINT)
            run.join(LEAVE_SECONDS)
            assert_gone(children)
            seconds.append(time.monotonic() - begun)
            said = err.read_text()
            assert run.exitcode == 128 + number, said
            sentence = f"; what is finished is kept, and `ram-engine {' '.join(arguments)}` goes on from there"
            assert said.splitlines()[-1].endswith(sentence)
            assert "Traceback" not in said
            assert "Error" not in said
    middle = sorted(seconds)[len(seconds) // 2]
    print(f"{ends} ends on {stores} stores: gone after {middle:.2f} s, at most {max(seconds):.2f} s")


@pytest.mark.parametrize("starts", [2, pytest.param(40, marks=pytest.mark.soak)])
def test_a_start_ends_in_a_sentence(tmp_path: Path, starts: int) -> None:
    """While it loads, and while its Prefect server does."""
    chance = random.Random(starts)
    alone = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    for number in range(starts):
        arguments = ["run", "--preset", "tiny", "--store", str(tmp_path / "store")]
        run = started(*arguments, env=alone, stdout=subprocess.DEVNULL)
        time.sleep(chance.uniform(0, 2 if number == 0 else 10 * number / starts))
        assert_gone(end(psutil.Process(run.pid), signal.SIGINT))
        _, said = run.communicate(timeout=LEAVE_SECONDS)
        assert run.returncode == 130, said
        assert said.count("\n") == 1, said
        assert f"`ram-engine {' '.join(arguments)}` goes on from there" in said


def test_a_kill_leaves_nothing_while_what_trainings_are_forked_from_loads() -> None:
    code = "from tasks.executors.fork_server import fork_server; import time; fork_server(); time.sleep(600)"
    process = psutil.Popen([sys.executable, "-c", code])
    wait_until(lambda: any("forkserver" in " ".join(child.cmdline()) for child in process.children()))
    children = process.children(recursive=True)
    time.sleep(0.5)
    process.kill()
    process.wait()
    assert_gone(children)


@pytest.fixture
def empty_store(tmp_path: Path) -> str:
    return Store(str(tmp_path / "store")).url


def test_an_output_that_nobody_reads(prefect_api: str, empty_store: str, tmp_path: Path) -> None:
    said = {}
    for command in ("status", "gc"):
        pipe, err = tmp_path / f"{command}-pipe", tmp_path / command
        os.mkfifo(pipe)
        run = forked.command([command, "--store", empty_store], pipe, err)
        pipe.open().close()
        run.join()
        said[command] = err.read_text()
        assert run.exitcode == 141, said
    assert not said["status"]  # `| head` has what it wanted
    stays = f"what it has finished stays, and `ram-engine gc --store {empty_store}` begins again"
    assert said["gc"] == f"ram-engine: stopped since nobody reads its output; {stays}\n"


def test_an_output_that_is_full(prefect_api: str, empty_store: str, tmp_path: Path) -> None:
    run = forked.command(["status", "--store", empty_store], Path("/dev/full"), tmp_path / "err")
    run.join()
    assert run.exitcode == 1
    assert (tmp_path / "err").read_text().startswith("ram-engine: its output cannot be written (No space left")


def test_an_output_that_was_closed_at_the_start(empty_store: str) -> None:
    line = shlex.join([*COMMAND, "status", "--store", empty_store])
    done = subprocess.run(f"{line} <&- >&-", shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("key", "code", "reason"), [("\x03", 130, "stopped by Ctrl-C"), ("", 129, "")])
def test_a_terminal(empty_store: str, key: str, code: int, reason: str) -> None:
    """A key is typed, or its window is closed."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(COMMAND[0], [*COMMAND, "join", "--store", empty_store])
    assert os.read(terminal, 1000).startswith(b"waiting for trainings")
    os.write(terminal, key.encode())
    if not key:
        os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == code
    if key:
        said = "".join(iter(lambda: read(terminal), ""))
        assert f"ram-engine: {reason}; what it knows is kept, and `ram-engine join" in said
        assert "Traceback" not in said
        os.close(terminal)


def read(terminal: int) -> str:
    try:
        return os.read(terminal, 1000).decode()
    except OSError:  # all has been read of what has ended
        return ""


def test_a_run_that_is_to_outlive_its_terminal_does(empty_store: str) -> None:
    arguments = ("join", "--store", empty_store)
    run = subprocess.Popen(["nohup", *COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert run.stdout is not None
    wait_until(lambda: "waiting" in run.stdout.readline())
    run.send_signal(signal.SIGHUP)
    run.send_signal(signal.SIGTERM)
    assert run.wait(LEAVE_SECONDS) == 143
