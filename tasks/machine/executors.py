"""Where shards run: three short classes behind one signature: ``submit(shard)``, ``close()`` and ``abandon()``.

``threads`` shares one worker within this process; ``processes`` spawns processes with a worker each; ``ray`` places
actors on a Ray cluster. Results never depend on the choice.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

from tasks.machine.dag import Stage
from tasks.machine.worker import Shard, ShardResult, Worker, WorkerFactory
from tasks.settings.executor import ExecutorSettings


class Executor(Protocol):
    """Computes shards somewhere."""

    def submit(self, shard: Shard) -> Future[ShardResult]:
        """Starts a shard; the future holds its result or its error."""

    def close(self) -> None:
        """Waits for what is running, and stops."""

    def abandon(self) -> None:
        """Drops what is running: its futures fail with :class:`AbandonedError` or another error, at once."""


class AbandonedError(RuntimeError):
    """A shard that was dropped because its run is being stopped."""


def open_executor(settings: ExecutorSettings, factory: WorkerFactory) -> Executor:
    """The executor that ``settings`` name, with its workers about to be built."""
    if settings.kind == "threads":
        return Threads(settings, factory)
    return Processes(settings, factory) if settings.kind == "processes" else Ray(settings, factory)


class LostWorkerError(RuntimeError):
    """A worker's machine was lost while it computed a shard, which another one may compute."""


class _Queue:
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


class Threads(_Queue):
    """Threads of this process; all share one worker, and so one model."""

    def __init__(self, settings: ExecutorSettings, factory: WorkerFactory) -> None:
        super().__init__([factory()] * settings.workers, factory.stage.name)


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


class Ray(_Queue):
    """Actors on a Ray cluster, one a worker, with their processors and GPUs reserved. Needs the extra ``ray``.

    A shard whose actor was lost with its node goes to another one; a new actor takes part as soon as there is room.
    """

    def __init__(self, settings: ExecutorSettings, factory: WorkerFactory) -> None:
        ray = _connected_ray(settings)
        actor: Any = ray.remote(num_cpus=settings.cpus, num_gpus=settings.gpus)(Worker)
        self.actors = [_Actor(ray, actor, factory) for _ in range(settings.workers)]
        super().__init__(self.actors, factory.stage.name)

    def close(self) -> None:
        for actor in self.actors:
            actor.stop()
        super().close()

    def abandon(self) -> None:
        super().abandon()
        self.close()

    def _ready(self, worker: Any) -> bool:
        ready: bool = worker.ready()
        return ready


class _Actor:
    """An actor that computes shards, made again when it was lost."""

    def __init__(self, ray: Any, kind: Any, factory: WorkerFactory) -> None:
        self.ray, self.kind, self.factory = ray, kind, factory
        self.lock = threading.Lock()
        self.stopped = False
        self.actor = kind.remote(factory)

    def __call__(self, shard: Shard) -> ShardResult:
        try:
            result: ShardResult = self.ray.get(self.actor.__call__.remote(shard))
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except self.ray.exceptions.RayError as error:
            self._renew()
            raise LostWorkerError(str(error)) from error
        return result

    def ready(self) -> bool:
        """Waits until the actor has room and has loaded its model; false where it was stopped."""
        while not self.stopped:
            try:
                self.ray.get(self.actor.__ray_ready__.remote())
                return True
            except self.ray.exceptions.RayTaskError:  # the stage's code failed: its first shard tells
                return True
            except self.ray.exceptions.ActorDiedError as error:
                if "creation task" in str(error):
                    return True
                self._renew()
            except self.ray.exceptions.RayError:
                self._renew()
        return False

    def stop(self) -> None:
        with self.lock:
            self.stopped = True
            self.ray.kill(self.actor)

    def _renew(self) -> None:
        with self.lock:
            if not self.stopped:  # else it would take the room of the next stage's actors
                self.actor = self.kind.remote(self.factory)


def _connected_ray(settings: ExecutorSettings) -> Any:
    try:
        import ray
    except ImportError:
        raise ModuleNotFoundError(
            "the executor 'ray' needs the extra: pip install 'ram-engine[ray]', or use --set executor.kind=processes"
        ) from None

    if not ray.is_initialized():
        ray.init(address=settings.address or None, log_to_driver=False, include_dashboard=False)
    return ray


def with_workers(settings: ExecutorSettings, stage: Stage, shards: int) -> ExecutorSettings:
    """The settings with their number of workers: one a core for plain code; one in all for a model in threads."""
    wanted = settings.workers
    if not wanted and settings.kind == "ray":
        resources = _connected_ray(settings).cluster_resources()
        wanted = int(resources.get("GPU", 0) / settings.gpus if settings.gpus else resources["CPU"] / settings.cpus)
    elif not wanted:
        wanted = 1 if stage.uses_model and settings.kind == "threads" else os.cpu_count() or 1
    return settings.model_copy(update={"workers": max(1, min(wanted, shards))})


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
