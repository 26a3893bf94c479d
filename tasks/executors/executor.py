"""What an executor is, and the one that settings name."""

from __future__ import annotations

import os
from concurrent.futures import Future
from typing import Protocol

from tasks.machine.declaration import Stage
from tasks.machine.worker import Shard, ShardResult, WorkerFactory
from tasks.settings.executor import ExecutorSettings


class Executor(Protocol):
    """Computes shards somewhere."""

    def submit(self, shard: Shard) -> Future[ShardResult]:
        """Starts a shard; the future holds its result or its error."""

    def close(self) -> None:
        """Waits for what is running, and stops."""

    def abandon(self) -> None:
        """Drops what is running: its futures fail with :class:`AbandonedError` or another error, at once."""


def open_executor(settings: ExecutorSettings, factory: WorkerFactory) -> Executor:
    """The executor that ``settings`` name, with its workers about to be built; only its own libraries are loaded."""
    if settings.kind == "threads":
        from tasks.executors.threads import Threads

        return Threads(settings, factory)
    if settings.kind == "processes":
        from tasks.executors.processes import Processes

        return Processes(settings, factory)
    from tasks.executors.ray_cluster import Ray

    return Ray(settings, factory)


def with_workers(settings: ExecutorSettings, stage: Stage, shards: int) -> ExecutorSettings:
    """The settings with their number of workers: one a core for plain code; one in all for a model in threads."""
    wanted = settings.workers
    if not wanted and settings.kind == "ray":
        from tasks.executors.ray_cluster import connected

        resources = connected(settings).cluster_resources()
        wanted = int(resources.get("GPU", 0) / settings.gpus if settings.gpus else resources["CPU"] / settings.cpus)
    elif not wanted:
        wanted = 1 if stage.uses_model and settings.kind == "threads" else os.cpu_count() or 1
    return settings.model_copy(update={"workers": max(1, min(wanted, shards))})
