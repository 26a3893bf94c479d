"""What listens while the engine computes: nothing that runs what it is sent is open to a network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tasks.settings.executor import ExecutorSettings
from tests.conftest import ROOT

RAY = """
import time
from tasks.executors.ray_cluster import connected
from tasks.settings.executor import ExecutorSettings
ray = connected(ExecutorSettings(kind="ray"))
print(ray.get(ray.remote(lambda: "computed").remote()), flush=True)
time.sleep(600)
"""


def test_a_training_on_one_machine_meets_in_no_port(tmp_path: Path) -> None:
    from tasks.training.parallel import meeting

    one = meeting(ExecutorSettings(training_processes=2), str(tmp_path))
    assert one == {"rdzv_endpoint": f"{tmp_path}/meeting", "rdzv_configs": {"store_type": "file"}}
    several = ExecutorSettings(training_nodes=2, rendezvous="10.0.0.5:29500")
    assert meeting(several, str(tmp_path)) == {"rdzv_endpoint": "10.0.0.5:29500"}


@pytest.mark.soak
def test_ray_of_one_machine_listens_to_that_machine_alone() -> None:
    pytest.importorskip("ray", reason="ray is not installed: no test of the engine 'ray'")
    process = psutil.Popen([sys.executable, "-c", RAY], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout.readline().strip() == "computed"
    children = process.children(recursive=True)
    listening = {
        opened.laddr.ip.removeprefix("::ffff:")
        for one in [process, *children]
        for opened in one.net_connections("inet")
        if opened.status == psutil.CONN_LISTEN
    }
    for one in [*children, process]:  # Ray's own agents would take a minute
        one.kill()
    process.wait()
    assert listening == {"127.0.0.1"}
