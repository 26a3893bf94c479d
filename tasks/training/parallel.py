"""One training in several processes that share each batch, started by torch's own launcher (``torchrun``)."""

from __future__ import annotations

import multiprocessing
import os
import queue
import tempfile
import threading
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, record
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from tasks.executors.parents import exit_with_creator, unaware_of_interrupts
from tasks.machine.allocator import keep_memory
from tasks.machine.cores import cores
from tasks.settings.executor import ExecutorSettings

START = "spawn"  # a process that has used a GPU cannot be forked


class Runnable(Protocol):
    """A training, to be sent to other processes."""

    def run(self, progress: Callable[[int, int], None]) -> None:
        """Runs it, or this process' share of it."""


def run(job: Runnable, name: str, executor: ExecutorSettings, progress: Callable[[int, int], None]) -> None:
    """Runs this machine's share of ``job``, in the engine's processes; all of its machines call this job by ``name``.

    Raises RuntimeError with the first error of a process.
    """
    reports: Any = multiprocessing.get_context(START).Queue()
    over = threading.Event()
    listener = threading.Thread(target=_listen, args=(reports, progress, over), daemon=True)
    listener.start()
    scratch = tempfile.TemporaryDirectory()
    launch = LaunchConfig(
        min_nodes=executor.training_nodes,
        max_nodes=executor.training_nodes,
        nproc_per_node=executor.training_processes,
        run_id=name,
        rdzv_backend="c10d",
        max_restarts=0,
        start_method=START,
        monitor_interval=0.2,
        **meeting(executor, scratch.name),
    )
    try:
        with unaware_of_interrupts():
            elastic_launch(launch, _run_share)(job, reports, executor.training_processes)
    except ChildFailedError as error:
        raise RuntimeError(error.get_first_failure()[1].message) from error
    finally:
        over.set()
        listener.join()
        scratch.cleanup()


def meeting(executor: ExecutorSettings, folder: str) -> dict[str, Any]:
    """Where a training's machines meet. One alone does in a file: a port is open to all networks, and what comes in
    by it is unpickled."""
    if executor.training_nodes > 1:
        return {"rdzv_endpoint": executor.rendezvous}
    return {"rdzv_endpoint": f"{folder}/meeting", "rdzv_configs": {"store_type": "file"}}


def _listen(reports: Any, progress: Callable[[int, int], None], over: threading.Event) -> None:
    while not over.is_set():
        try:
            progress(*reports.get(timeout=0.2))
        except queue.Empty:
            continue


@record
def _run_share(job: Runnable, reports: Any, processes: int) -> None:
    exit_with_creator()
    keep_memory()
    threads = max(1, cores() // processes)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # accelerate would set its own
    torch.set_num_threads(threads)
    # reports of the others would say the same
    job.run((lambda done, total: reports.put((done, total))) if is_first_process() else lambda done, total: None)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def is_first_process() -> bool:
    """Whether this process writes what a training leaves."""
    return int(os.environ.get("RANK", 0)) == 0


def own_device(device: str) -> torch.device:
    """Of several processes each has a GPU of its own."""
    if device == "cuda" and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return torch.device(device)
