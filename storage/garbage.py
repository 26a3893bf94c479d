"""What a store holds that nothing needs any more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from storage.leases import Lease
from storage.store import TEMPORARY, Snapshot, Store


@dataclass(frozen=True)
class Garbage:
    """A file, or the folder of a model, within a store. ``what`` is snapshot, part, model or temporary file."""

    what: str
    path: str  # below the store
    bytes: int


def find(store: Store, keep: int, leases: Iterable[Lease] = ()) -> list[Garbage]:
    """All that neither the latest nor the newest ``keep`` snapshots of any artifact need, nor what they were made from,
    nor what runs under way count on (``leases``).

    Unfinished trainings are not garbage: the next run goes on with them.
    """
    leases = list(leases)
    artifacts = store.artifacts()
    snapshots = {name: store.snapshots(name) for name in artifacts}
    needed = _needed(store, snapshots, keep)
    found: list[Garbage] = []
    for name in artifacts:
        kept = needed[name]
        parts = {part.key for snapshot in kept.values() for part in snapshot.parts}
        for path, size in _files(store, name):
            folder, _, rest = path.removeprefix(f"{name}/").partition("/")
            key = rest.partition("/")[0].removesuffix(".json").removesuffix(".parquet")
            if path.rsplit("/", 1)[-1].startswith(TEMPORARY):
                if not leases:  # else it may be a file that is being written
                    found.append(Garbage("temporary file", path, size))
            elif any(lease.spares(name, key) for lease in leases):
                continue
            elif folder == "snapshots" and key not in kept:
                found.append(Garbage("snapshot", path, size))
            elif folder == "parts" and key not in parts:
                found.append(Garbage("part", path, size))
            elif folder == "models" and key not in kept:
                found.append(Garbage("model", path, size))
    return sorted(
        found, key=lambda one: (one.what != "snapshot", one.path)
    )  # a reader finds no part less than it lists


def remove(store: Store, garbage: Iterable[Garbage]) -> None:
    """Removes what :func:`find` found."""
    for one in garbage:
        store.fs.rm(f"{store.root}/{one.path}")


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


def _files(store: Store, artifact: str) -> Iterator[tuple[str, int]]:
    """The files of an artifact below the store, with their sizes."""
    for path, entry in store.fs.find(f"{store.root}/{artifact}", detail=True).items():
        yield path.removeprefix(f"{store.root}/"), int(entry["size"])
