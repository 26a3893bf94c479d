"""A temporary folder of a long path has room for no socket; processes are forked all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.conftest import ROOT

FORK = """
import multiprocessing, sys, tempfile
from tasks.executors import sockets

def answer(sender):
    from multiprocessing.connection import arbitrary_address
    sender.send((tempfile.gettempdir(), arbitrary_address("AF_UNIX")))

if __name__ == "__main__":
    sockets.make_room()
    context = multiprocessing.get_context("forkserver")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=answer, args=(sender,))
    child.start()
    sender.close()
    folder, address = receiver.recv()
    print(tempfile.gettempdir() == folder, len(address) < 104)
    child.join()
"""


@pytest.mark.parametrize("length", [71, 200])
def test_processes_are_forked(tmp_path: Path, length: int) -> None:
    (tmp_path / "fork.py").write_text(FORK)
    with TemporaryDirectory(dir="/tmp") as root:  # that of the test may be longer already
        folder = Path(root) / ("x" * (length - len(f"{root}/")))
        folder.mkdir()
        environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, str(tmp_path / "fork.py")], env=environment, capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stdout) == (0, "True True\n"), done.stderr
        assert list(folder.iterdir()) == []
