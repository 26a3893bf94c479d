"""What a store holds that nothing needs any more."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from storage import damage
from storage.leases import DEAD_AFTER, FOLDER, Lease, now
from storage.store import TEMPORARY, Snapshot, Store

TRAINING = "training"


@dataclass(frozen=True)
class Garbage:
    """A file, or the folder of a model. ``what`` is snapshot, part, model, note, temporary file or training."""

    what: str
    path: str  # below the store; of an unfinished training the whole path on this machine
    bytes: int


def find(store: Store, keep: int, leases: Collection[Lease] = ()) -> list[Garbage]:
    """All that neither the latest nor the newest ``keep`` snapshots of any artifact need, nor what they were made from,
    nor what runs under way count on (``leases``).

    A temporary file is garbage when nobody has written to it for two minutes, nor since the oldest of those runs began.
    An unfinished training stays while the next run may go on with it, see :func:`_trainings`.
    """
    snapshots = {name: store.snapshots(name) for name in store.artifacts()}
    needed = _needed(store, snapshots, keep)
    parts = {name: {part.key for one in kept.values() for part in one.parts} for name, kept in needed.items()}
    files = dict(_files(store))
    oldest = _oldest_in_use(store, leases)
    found: list[Garbage] = []
    for path, size in files.items():
        artifact, folder, name = (*path.split("/", 2), "", "")[:3]
        key = name.partition("/")[0].removesuffix(".json").removesuffix(".parquet")
        if path.rsplit("/", 1)[-1].startswith(TEMPORARY) or artifact == FOLDER:
            if _written_before(store, path, oldest):
                found.append(Garbage("temporary file", path, size))
        elif artifact == damage.FOLDER:
            of, _, damaged = folder.removesuffix(".json").partition("@")
            if f"{of}/parts/{damaged}.parquet" not in files:
                found.append(Garbage("note", path, size))
        elif artifact not in needed or any(lease.spares(artifact, key) for lease in leases):
            continue
        elif folder == "snapshots" and key not in needed[artifact]:
            found.append(Garbage("snapshot", path, size))
        elif folder == "parts" and key not in parts[artifact]:
            found.append(Garbage("part", path, size))
        elif folder == "models" and key not in needed[artifact]:
            found.append(Garbage("model", path, size))
    found += _trainings(store, [one for versions in snapshots.values() for one in versions], leases)
    return sorted(
        found, key=lambda one: (one.what != "snapshot", one.path)
    )  # a reader finds no part less than it lists


def remove(store: Store, garbage: Iterable[Garbage], check: Callable[[], None] = lambda: None) -> None:
    """Removes what :func:`find` found; ``check`` is called before each, and raises where it must not go on."""
    for one in garbage:
        check()
        if one.what == TRAINING:
            shutil.rmtree(one.path)
        else:
            store.fs.rm(f"{store.root}/{one.path}")


def _oldest_in_use(store: Store, leases: Iterable[Lease]) -> datetime | None:
    """The time before which no run that is under way has written anything; None where that is not known."""
    begun = [lease.begun for lease in leases]
    known = [one for one in begun if one is not None]
    return None if len(known) < len(begun) else min([now(store) - timedelta(seconds=DEAD_AFTER), *known])


def _written_before(store: Store, path: str, oldest: datetime | None) -> bool:
    try:
        return oldest is not None and store.fs.modified(f"{store.root}/{path}") < oldest
    except FileNotFoundError:  # it has its name by now
        return False


def _trainings(store: Store, snapshots: Iterable[Snapshot], leases: Iterable[Lease]) -> Iterator[Garbage]:
    """Unfinished trainings that no run goes on with: their stage has made a snapshot since, or has begun another."""
    newest: dict[str, float] = {}  # by stage
    for snapshot in snapshots:
        newest[snapshot.stage] = max(snapshot.created, newest.get(snapshot.stage, 0.0))
    idle = []
    for folder in store.unfinished_work():
        stage, _, key = folder.name.rpartition("-")
        if any(lease.counts_on(key) for lease in leases):
            newest[stage] = math.inf
        else:
            idle.append((max(path.stat().st_mtime for path in (folder, *folder.rglob("*"))), stage, folder))
    for changed, stage, folder in sorted(idle, reverse=True):
        if changed > newest.get(stage, 0.0):
            newest[stage] = changed
        else:
            yield Garbage(TRAINING, str(folder), sum(path.stat().st_size for path in folder.rglob("*")))


def _needed(store: Store, snapshots: dict[str, list[Snapshot]], keep: int) -> dict[str, dict[str, Snapshot]]:
    """By artifact and key the snapshots to be kept."""
    needed: dict[str, dict[str, Snapshot]] = {name: {} for name in snapshots}
    waiting = [one for versions in snapshots.values() for one in versions[:keep]]
    waiting += [one for name in snapshots if (one := store.snapshot(name)) is not None]
    while waiting:
        snapshot = waiting.pop()
        if snapshot.key in needed[snapshot.artifact]:
            continue
        needed[snapshot.artifact][snapshot.key] = snapshot
        for pinned in snapshot.inputs.values():
            name, key = pinned.artifact, pinned.key
            made_from = store.snapshot(name, key) if name in needed else None
            if made_from is not None:
                waiting.append(made_from)
    return needed


def _files(store: Store) -> Iterator[tuple[str, int]]:
    """The files of a store, by their paths below it, with their sizes."""
    for path, entry in store.fs.find(store.root, detail=True).items():
        yield path.removeprefix(f"{store.root}/"), int(entry["size"])
