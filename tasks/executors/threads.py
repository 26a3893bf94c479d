"""Threads of this process, which share one worker; and the queue that other executors feed their workers from."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError

from tasks.machine.worker import Shard, ShardResult, WorkerFactory
from tasks.settings.executor import ExecutorSettings


class AbandonedError(RuntimeError):
    """A shard that was dropped because its run is being stopped."""


class LostWorkerError(RuntimeError):
    """A worker's machine was lost while it computed a shard, which another one may compute."""


class QueueOfThreads:
    """Threads that take shards from one queue, each for a worker of its own.

    They are daemons: the process of a run that is cancelled ends without waiting for the shards in flight.
    """

    def __init__(self, workers: Sequence[Callable[[Shard], ShardResult]], name: str) -> None:
        self.waiting: queue.SimpleQueue[tuple[Future[ShardResult], Shard] | None] = queue.SimpleQueue()
        self.unfinished: set[Future[ShardResult]] = set()
        self.threads = [
            threading.Thread(target=self._work, args=(worker,), daemon=True, name=f"{name}-{number}")
            for number, worker in enumerate(workers)
        ]
        for thread in self.threads:
            thread.start()

    def submit(self, shard: Shard) -> Future[ShardResult]:
        future: Future[ShardResult] = Future()
        self.unfinished.add(future)
        self.waiting.put((future, shard))
        return future

    def close(self) -> None:
        for _ in self.threads:
            self.waiting.put(None)
        for thread in self.threads:
            thread.join()

    def abandon(self) -> None:
        self.threads.clear()
        for future in list(self.unfinished):
            with contextlib.suppress(InvalidStateError):  # it has just ended
                future.set_exception(AbandonedError("the run was stopped"))

    def _work(self, worker: Callable[[Shard], ShardResult]) -> None:
        while self._ready(worker) and (given := self.waiting.get()) is not None:
            future, shard = given
            if future.done():
                continue
            try:
                result = worker(shard)
            except LostWorkerError:
                self.waiting.put(given)
                continue
            except BaseException as error:
                outcome, value = future.set_exception, error
            else:
                outcome, value = future.set_result, result  # type: ignore[assignment]
            with contextlib.suppress(InvalidStateError):  # it was abandoned meanwhile
                outcome(value)
            self.unfinished.discard(future)

    def _ready(self, worker: Callable[[Shard], ShardResult]) -> bool:
        """Waits until the worker can take a shard; false where it never will."""
        return True


class Threads(QueueOfThreads):
    """Threads of this process; all share one worker, and so one model."""

    def __init__(self, settings: ExecutorSettings, factory: WorkerFactory) -> None:
        super().__init__([factory()] * settings.workers, factory.stage.name)
