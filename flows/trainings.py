"""A training stage: a child process that ends with its flow, streamed to the flow's progress."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.runtime import deployment

from flows.progress import stage_progress
from storage.full_disk import FullDiskError
from storage.store import DamagedPartError, Part
from tasks.machine import training_process
from tasks.machine.planning import StageFailedError, StagePlan

LIMIT = "ram-engine-training"  # a global concurrency limit: change it in Prefect's UI where there is room for more
LEASE_SECONDS = 60.0  # until a killed training's place is free again


def train(work: StagePlan) -> tuple[str, Part]:
    """Trains; returns the digest of the model, which is in the store then, and the part with its curves.

    Raises :class:`StageFailedError` where the child stopped: its unfinished work is kept for the next run.
    """
    store, stage = work.run.store, work.stage
    folder = store.work_folder(f"{stage.name}-{work.key}")
    order = training_process.Order(
        stage=stage.name,
        rounds=stage.rounds,
        store=store.url,
        settings=work.settings,
        executor=work.run.executor,
        snapshots=work.snapshots,
        folder=str(folder),
        key=work.key,
    )
    part: Part | None = None
    stopped_by: DamagedPartError | FullDiskError | None = None
    told = training_process.told_to_others(store, order)
    with one_at_a_time(), told, stage_progress(stage.name) as progress, tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "log.txt"
        child, messages = training_process.start(order, log)
        try:
            with contextlib.suppress(EOFError):  # of a child that has ended
                while True:
                    message = messages.recv()
                    if isinstance(message, Part):
                        part = message
                    elif isinstance(message, DamagedPartError | FullDiskError):
                        stopped_by = message
                    else:
                        progress(message.done, message.total, message.what)
            child.join()
        except BaseException:
            child.kill()
            raise
        text = log.read_text(errors="replace").strip() if log.is_file() else ""
    if child.exitcode or part is None:
        last = text.splitlines()[-1] if text else f"exit code {child.exitcode}"
        get_run_logger().error(text)
        if isinstance(stopped_by, FullDiskError):
            raise StageFailedError(f"{stage.name}: {stopped_by}") from stopped_by
        raise StageFailedError(
            f"{stage.name}: the training stopped with {last}. The last good checkpoint is kept; run again to go on."
        ) from stopped_by
    return store.write_model(stage.model, work.key, folder), part


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Among the deployed flows of a Prefect server one training runs at a time; a run of its own has no others."""
    if deployment.id is None:
        yield
        return
    with get_client(sync_client=True) as client:
        try:  # a server logs what it refuses: the limit is asked for before it is made
            client.read_global_concurrency_limit_by_name(LIMIT)
        except ObjectNotFound:
            with contextlib.suppress(ObjectAlreadyExists):  # another training has just made it
                client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=LIMIT, limit=1))
    with concurrency(LIMIT, occupy=1, lease_duration=LEASE_SECONDS):
        yield
