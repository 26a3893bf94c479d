"""Spawned processes of this machine with a worker each."""

from __future__ import annotations

import multiprocessing
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from tasks.executors.parents import exit_with_creator, unaware_of_interrupts
from tasks.executors.threads import AbandonedError
from tasks.machine.worker import Shard, ShardResult, Worker, WorkerFactory
from tasks.settings.executor import ExecutorSettings


class Processes:
    """Spawned processes with a worker each; they end when this process does, however it ends.

    Where one of them is killed, the shards that were in flight fail, and those submitted later get new processes.
    """

    def __init__(self, settings: ExecutorSettings, factory: WorkerFactory) -> None:
        self.settings, self.factory = settings, factory
        self.lock = threading.Lock()
        self.abandoned = False
        self.pool = self._open()

    def submit(self, shard: Shard) -> Future[ShardResult]:
        with self.lock:
            if self.abandoned:
                raise AbandonedError("the run was stopped")
            with unaware_of_interrupts():  # it may start a process
                try:
                    return self.pool.submit(_run_in_process, shard)
                except BrokenProcessPool:
                    self.pool = self._open()
                    return self.pool.submit(_run_in_process, shard)

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)

    def abandon(self) -> None:
        self.abandoned = True
        for process in list(self.pool._processes.values()):  # a public way comes with Python 3.14
            process.kill()

    def _open(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self.settings.workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_process,
            initargs=(self.factory,),
        )


_worker: Worker | None = None


def _start_process(factory: WorkerFactory) -> None:
    global _worker
    exit_with_creator()
    _worker = factory()


def _run_in_process(shard: Shard) -> ShardResult:
    if _worker is None:
        raise RuntimeError("this process has no worker")
    return _worker(shard)
