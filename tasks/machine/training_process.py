"""Runs one training in a process of its own, so that it can be killed and limited, and leaves no memory behind.

Such processes are forked by a server that has loaded torch and the training code once (:mod:`..executors.fork_server`):
a small training would spend most of its time on imports otherwise. The server ends with the process that asked for it.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from storage import full_disk
from storage.names import SnapshotName
from storage.store import DamagedPartError, Part, Snapshot, Store
from tasks.executors.fork_server import fork_server
from tasks.executors.parents import exit_with_creator
from tasks.machine.dag import stage_named
from tasks.machine.inputs import Inputs
from tasks.machine.planning import PlanError
from tasks.settings.base import Settings
from tasks.settings.executor import ExecutorSettings

ORDERS = ".trainings"  # in a store: what machines that share trainings are asked to join


@dataclass(frozen=True)
class Order:
    """What to train: the stage, its settings and pinned inputs, and the folder that the model is made in."""

    stage: str
    rounds: int
    store: str
    settings: Settings
    executor: ExecutorSettings
    snapshots: Mapping[str, Snapshot]
    folder: str
    key: str


def told_to_others(store: Store, order: Order) -> AbstractContextManager[None]:
    """While it is open, the order lies in the store for the other machines of a training of several (:func:`join`)."""
    if order.executor.training_nodes == 1:
        return nullcontext()
    if not store.is_local:
        raise PlanError("training_nodes above 1 needs a store in a folder that all machines share, not one of objects")
    return _lying_there(store, order)


@contextmanager
def _lying_there(store: Store, order: Order) -> Iterator[None]:
    store.write_json(
        f"{ORDERS}/{order.stage}.json",
        {
            "attempt": uuid.uuid4().hex,
            "stage": order.stage,
            "rounds": order.rounds,
            "key": order.key,
            "settings": order.settings.model_dump(mode="json"),
            "executor": order.executor.model_dump(mode="json"),
            "snapshots": {alias: str(snapshot.name) for alias, snapshot in order.snapshots.items()},
        },
    )
    try:
        yield
    finally:
        store.remove(f"{ORDERS}/{order.stage}.json")


def join(store: Store, joined: set[str], tell: Callable[[str], None]) -> None:
    """Takes this machine's share in every training that asks for more machines, once; ``joined`` are their attempts."""
    for name in store.names(ORDERS):
        told = store.read_json(f"{ORDERS}/{name}")
        if told is None or told["attempt"] in joined:
            continue
        joined.add(told["attempt"])
        stage = stage_named(told["stage"], told["rounds"])
        executor = ExecutorSettings.model_validate(told["executor"])
        tell(f"joins {stage.name}, which is led from {executor.rendezvous}")
        named = {alias: SnapshotName.parse(name) for alias, name in told["snapshots"].items()}
        pinned = {alias: store.snapshot(name.artifact, name.key) for alias, name in named.items()}
        snapshots = {alias: snapshot for alias, snapshot in pinned.items() if snapshot is not None}
        settings = type(stage.declared.usual).model_validate(told["settings"])
        folder = store.work_folder(f"{stage.name}-{told['key']}")
        with suppress(FileNotFoundError):  # the leading machine has moved the finished model into its place
            stage.code().train(settings, Inputs(store, snapshots), executor, folder, lambda done, total, what: None)
        tell(f"{stage.name} is over")


@dataclass(frozen=True)
class Progress:
    """How far the training is."""

    done: int
    total: int
    what: str


def start(order: Order, log: Path) -> tuple[BaseProcess, Connection]:
    """Starts the training; its messages are :class:`Progress` and at the end the ``Part`` of its curves, or the
    ``DamagedPartError`` or ``FullDiskError`` that stopped it.

    Whatever it prints goes into ``log``.
    """
    context = fork_server()
    messages, sender = context.Pipe(duplex=False)
    process = context.Process(target=_train, args=(order, sender, str(log)), name=order.stage)
    process.start()
    sender.close()
    return process, messages


def _train(order: Order, messages: Connection, log: str) -> None:
    exit_with_creator()
    with open(log, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    from tasks.machine.devices import prepare_process  # torch only where a model is trained

    stage = stage_named(order.stage, order.rounds)
    store = Store(order.store, create=False)
    told = 0.0

    def progress(done: int, total: int, what: str) -> None:
        nonlocal told
        if time.monotonic() - told > 0.5 or done == total:
            told = time.monotonic()
            messages.send(Progress(done, total, what))

    prepare_process(order.executor)
    inputs = Inputs(store, order.snapshots)
    try:
        tables = stage.code().train(order.settings, inputs, order.executor, Path(order.folder), progress)
        # in place of what an earlier training of the same model left: a forced one may round otherwise
        part: Part = store.write_part(stage.writes[0], order.key, "", tables["training_log"], replace=True)
    except Exception as error:
        if reason := error if isinstance(error, DamagedPartError) else full_disk.of(error, Path(order.folder)):
            messages.send(reason)
        raise
    messages.send(part)
