"""The shards of a map or reduce stage as Prefect task runs, computed by an executor."""

from __future__ import annotations

import concurrent.futures
import errno
import logging
import math
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, wait
from prefect.task_runners import ThreadPoolTaskRunner

from flows.progress import StageProgress
from tasks.executors.executor import Executor
from tasks.machine.planning import StagePlan
from tasks.machine.worker import Shard, ShardResult
from tasks.settings.executor import ExecutorSettings

MOST_TASK_RUNS = 200  # beyond so many shards a stage, a task run handles a batch of them
BACK_OFF_SECONDS = (1, 10)
# errors of input and output that a second try does not mend
LASTING = frozenset({errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.ENOENT})


def run_shards(
    work: StagePlan, running: Executor, executor: ExecutorSettings, progress: StageProgress
) -> tuple[list[ShardResult], list[BaseException]]:
    """Computes the plan's shards; returns what came of them, and one error for each task run that failed.

    When this thread is interrupted (a run that is cancelled), the executor drops what it is computing.
    """
    size = math.ceil(len(work.shards) / MOST_TASK_RUNS)
    batches = [work.shards[start : start + size] for start in range(0, len(work.shards), size)]
    results: dict[str, ShardResult] = {}  # by the shard's key: a second try does not compute them again
    finished = 0

    @task(
        name=work.stage.name,
        task_run_name=f"{work.stage.name} {{index}}",
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=len(BACK_OFF_SECONDS),
        retry_delay_seconds=list(BACK_OFF_SECONDS),
        retry_condition_fn=_may_pass,
    )
    def compute(index: int) -> None:
        nonlocal finished
        futures: dict[concurrent.futures.Future[ShardResult], Shard] = {
            running.submit(shard): shard for shard in batches[index] if shard.key not in results
        }
        for future in concurrent.futures.as_completed(futures):
            shard = futures[future]
            results[shard.key] = future.result()
            finished += shard.rows
            progress(finished, work.rows)

    logging.getLogger("prefect.task_runs").setLevel(logging.WARNING)  # a line a shard would bury the stage's
    progress(0, work.rows)
    runner: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=executor.workers + 1)
    with runner:
        try:
            task_runs = [runner.submit(compute, {"index": index}, wait_for=None) for index in range(len(batches))]
            wait(list[PrefectFuture[Any]](task_runs))
        except BaseException:
            running.abandon()  # the runner waits for its threads, and those for the executor
            raise
    failures = [one.state.result(raise_on_failure=False) for one in task_runs if not one.state.is_completed()]
    return list(results.values()), failures


def _may_pass(_task: Any, _run: Any, state: Any) -> bool:
    """Whether a failure may pass by itself: input and output, or a worker process that was killed; no mistake."""
    error = state.result(raise_on_failure=False)
    if isinstance(error, BrokenProcessPool):
        return True
    return isinstance(error, OSError) and error.errno not in LASTING and not isinstance(error, FileNotFoundError)
