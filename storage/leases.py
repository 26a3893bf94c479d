"""Leases: a running stage tells which files of a store it counts on, so that garbage collection leaves them alone.

A lease is a file below ``.leases/`` that its run renews; one that is not renewed any more belongs to a run that was
killed, and counts for nothing. Ages are differences of times that the store itself gave to files, so that no two
machines need the same clock. A collection holds a lease too: both sides write theirs first and look for others then,
so at least one of them sees the other.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from storage.store import Store, StoreError

RENEWED_EVERY = 20.0
DEAD_AFTER = 120.0
FOLDER = ".leases"
COLLECTING = "collecting"


@dataclass
class Lease:
    """What a run counts on: ``who`` it is, and keys by artifact; None while it plans: anything."""

    who: str
    keys: Mapping[str, frozenset[str]] | None = None
    name: str = field(default_factory=lambda: uuid.uuid4().hex)

    def spares(self, artifact: str, key: str) -> bool:
        """Whether a part, a snapshot or a model may be needed by the run."""
        return self.keys is None or key in self.keys.get(artifact, ())


@contextlib.contextmanager
def leased(store: Store, who: str) -> Iterator[Lease]:
    """Holds a lease on everything. The caller narrows it with :func:`narrow` once its plan stands.

    Waits while a collection is under way.
    """
    with _held(store, Lease(who)) as lease:
        while any(other.who == COLLECTING for other in living(store)):
            time.sleep(0.5)
        yield lease


@contextlib.contextmanager
def collecting(store: Store) -> Iterator[list[Lease]]:
    """Holds the lease of a collection; gives those of the runs under way.

    Raises StoreError where another collection is at it.
    """
    own = Lease(COLLECTING, {})
    with _held(store, own):
        others = [lease for lease in living(store) if lease.name != own.name]
        if any(lease.who == COLLECTING for lease in others):
            raise StoreError(f"garbage of the store {store.url} is being collected already: wait until that has ended")
        yield others


def narrow(store: Store, lease: Lease, keys: Mapping[str, frozenset[str]]) -> None:
    """From now on the run counts on these keys only."""
    lease.keys = keys
    _write(store, lease)


def living(store: Store) -> list[Lease]:
    """The leases that are being renewed."""
    found = {name: _changed(store, f"{FOLDER}/{name}") for name in store.names(FOLDER) if name.endswith(".json")}
    if not found:
        return []
    probe = f"{FOLDER}/now-{uuid.uuid4().hex}"
    store.write_text(probe, "")
    now = _changed(store, probe)
    store.remove(probe)
    leases = []
    for name, renewed in found.items():
        if renewed is None or now is None:
            continue
        if (now - renewed).total_seconds() > DEAD_AFTER:
            store.remove(f"{FOLDER}/{name}")
            continue
        value = store.read_json(f"{FOLDER}/{name}")
        if value is not None:
            keys = value["keys"]
            pinned = None if keys is None else {artifact: frozenset(listed) for artifact, listed in keys.items()}
            leases.append(Lease(value["who"], pinned, name.removesuffix(".json")))
    return leases


@contextlib.contextmanager
def _held(store: Store, lease: Lease) -> Iterator[Lease]:
    over = threading.Event()

    def renew() -> None:
        while not over.wait(RENEWED_EVERY):
            with contextlib.suppress(OSError):  # a store that is away for a moment: the next time will do
                _write(store, lease)

    _write(store, lease)
    thread = threading.Thread(target=renew, daemon=True, name="lease")
    thread.start()
    try:
        yield lease
    finally:
        over.set()
        thread.join()
        with contextlib.suppress(OSError):
            store.remove(f"{FOLDER}/{lease.name}.json")


def _write(store: Store, lease: Lease) -> None:
    keys = None if lease.keys is None else {artifact: sorted(listed) for artifact, listed in lease.keys.items()}
    store.write_json(f"{FOLDER}/{lease.name}.json", {"who": lease.who, "keys": keys})


def _changed(store: Store, name: str) -> datetime | None:
    try:
        changed: datetime = store.fs.modified(f"{store.root}/{name}")
    except FileNotFoundError:  # its run has just ended
        return None
    return changed
