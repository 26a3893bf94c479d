"""A training that two machines share: here two commands on one, which meet over the network all the same."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from storage.store import Store
from tests.conftest import ram_engine


@pytest.mark.soak
def test_a_second_machine_takes_its_share(copied_store: Path, tmp_path: Path) -> None:
    store = Store(copied_store)
    before = store.snapshot("ram_log")
    assert before is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        meeting = f"127.0.0.1:{probe.getsockname()[1]}"
    log = tmp_path / "join.log"
    with log.open("w") as output:
        other = subprocess.Popen(
            [sys.executable, "-u", "-m", "ram_engine", "join", "--store", str(copied_store)], stdout=output
        )
    try:
        ram_engine(
            *("stage", "retrain", "--preset", "tiny", "--store", str(copied_store), "--force"),
            *("--set", "executor.training_nodes=2", "--set", f"executor.rendezvous={meeting}"),
        )
    finally:
        other.terminate()
        other.wait(30)
    assert "joins retrain" in log.read_text()
    after = store.snapshot("ram_log")
    assert after is not None
    alone, shared = store.table(before).to_pylist(), store.table(after).to_pylist()
    assert [row["value"] for row in shared] == pytest.approx([row["value"] for row in alone], rel=0.05)
