"""Where shards run: three short classes behind one signature, ``submit(shard)`` and ``close()``.

``threads`` shares one worker within this process; ``processes`` spawns processes with a worker each; ``ray`` places
actors on a Ray cluster. Results never depend on the choice.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any, Protocol

from tasks.settings import EngineSettings
from tasks.worker import Shard, ShardResult, Worker, WorkerFactory


class Engine(Protocol):
    """Computes shards somewhere."""

    def submit(self, shard: Shard) -> Future[ShardResult]:
        """Starts a shard; the future holds its result or its error."""

    def close(self) -> None:
        """Stops what is running and waits until nothing is left."""


def open_engine(settings: EngineSettings, factory: WorkerFactory) -> Engine:
    """The engine that ``settings`` name, with its workers about to be built."""
    if settings.kind == "threads":
        return Threads(settings, factory)
    return Processes(settings, factory) if settings.kind == "processes" else Ray(settings, factory)


class Threads:
    """Threads of this process; all share one worker, and so one model."""

    def __init__(self, settings: EngineSettings, factory: WorkerFactory) -> None:
        self.worker = factory()
        self.pool = ThreadPoolExecutor(settings.workers, thread_name_prefix=factory.stage.name)

    def submit(self, shard: Shard) -> Future[ShardResult]:
        return self.pool.submit(self.worker, shard)

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)


class Processes:
    """Spawned processes with a worker each; they end when this process does, however it ends."""

    def __init__(self, settings: EngineSettings, factory: WorkerFactory) -> None:
        self.pool = ProcessPoolExecutor(
            settings.workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_process,
            initargs=(factory,),
        )

    def submit(self, shard: Shard) -> Future[ShardResult]:
        return self.pool.submit(_run_in_process, shard)

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)


class Ray:
    """Actors on a Ray cluster, one a worker. Needs the extra ``ray``."""

    def __init__(self, settings: EngineSettings, factory: WorkerFactory) -> None:
        try:
            import ray
        except ImportError:
            raise ModuleNotFoundError(
                "the engine 'ray' needs the extra: pip install 'ram-engine[ray]', or use --set engine.kind=processes"
            ) from None

        if not ray.is_initialized():
            ray.init(address=settings.address or None, log_to_driver=False, include_dashboard=False)
        actor: Any = ray.remote(num_gpus=1 if settings.device.startswith("cuda") else 0, max_restarts=3)(Worker)
        self.ray = ray
        self.actors = [actor.remote(factory) for _ in range(settings.workers)]
        self.submitted = 0

    def submit(self, shard: Shard) -> Future[ShardResult]:
        actor = self.actors[self.submitted % len(self.actors)]
        self.submitted += 1
        future: Future[ShardResult] = actor.__call__.options(max_task_retries=3).remote(shard).future()
        return future

    def close(self) -> None:
        for actor in self.actors:
            self.ray.kill(actor)


_worker: Worker | None = None


def _start_process(factory: WorkerFactory) -> None:
    global _worker
    exit_with_creator()
    _worker = factory()


def _run_in_process(shard: Shard) -> ShardResult:
    if _worker is None:
        raise RuntimeError("this process has no worker")
    return _worker(shard)


def exit_with_creator() -> None:
    """Ends this process, one of multiprocessing's, as soon as the one that started it has ended, even by a kill."""
    creator = multiprocessing.parent_process()
    if creator is None:
        raise RuntimeError("this process was not started by multiprocessing")
    sentinel = creator.sentinel

    def watch() -> None:
        multiprocessing.connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watch-creator").start()


def exit_with(parent: int) -> None:
    """Ends this process within a second of the end of its ``parent``, even where that was killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watch-parent").start()
