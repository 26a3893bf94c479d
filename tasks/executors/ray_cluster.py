"""Actors on a Ray cluster."""

from __future__ import annotations

import os
import threading
from typing import Any

from tasks.executors.threads import LostWorkerError, QueueOfThreads
from tasks.machine.worker import Shard, ShardResult, Worker, WorkerFactory
from tasks.settings.executor import ExecutorSettings


class Ray(QueueOfThreads):
    """Actors on a Ray cluster, one a worker, with their processors and GPUs reserved. Needs the extra ``ray``.

    A shard whose actor was lost with its node goes to another one; a new actor takes part as soon as there is room.
    """

    def __init__(self, settings: ExecutorSettings, factory: WorkerFactory) -> None:
        ray = connected(settings)
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


LOOPBACK_ALONE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # at 0, on any system: the variable's name says less


def connected(settings: ExecutorSettings) -> Any:
    """Ray, connected to the cluster of the settings, else to one of this process that this machine alone reaches."""
    if not settings.address:  # Ray runs what it is sent; what it listens on is settled by its import
        os.environ.setdefault(LOOPBACK_ALONE, "0")
    try:
        import ray
    except ImportError:
        raise ModuleNotFoundError(
            "the executor 'ray' needs the extra: pip install 'ram-engine[ray]', or use --set executor.kind=processes"
        ) from None

    if not ray.is_initialized():
        ray.init(address=settings.address or None, log_to_driver=False, include_dashboard=False)
    return ray
