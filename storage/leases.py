"""Leases: a running stage tells which files of a store it counts on, so that garbage collection leaves them alone.

A lease is a file below ``.leases/`` that its run renews; one that is not renewed any more belongs to a run that was
killed, and counts for nothing. Ages are differences of times that the store itself gave to files, so that no two
machines need the same clock. A collection holds a lease too: both sides write theirs first and look for others then,
so at least one of them sees the other.

A run that was paused (a laptop that slept) is taken for dead, and goes on all the same: it has to :func:`confirm` its
lease, and to look whether its files are still there, before it publishes them.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from pydantic import TypeAdapter

from storage.store import Store, StoreError

RENEWED_EVERY = 20.0
DEAD_AFTER = 120.0
FOLDER = ".leases"
COLLECTING = "collecting"


@dataclass
class Lease:
    """What a run counts on: ``who`` it is, and keys by artifact; None while it plans: anything.

    ``begun`` is when it was first written, by the store's clock; None where that is not known.
    """

    who: str
    keys: Mapping[str, frozenset[str]] | None = None
    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    begun: datetime | None = None

    def spares(self, artifact: str, key: str) -> bool:
        """Whether a part, a snapshot or a model may be needed by the run."""
        return self.keys is None or key in self.keys.get(artifact, ())

    def counts_on(self, key: str) -> bool:
        """Whether the run may need a file of this key, of whatever artifact."""
        return self.keys is None or any(key in listed for listed in self.keys.values())


@dataclass
class Collection:
    """A collection under way, and the leases of the ``others`` that were running when it began."""

    own: _Renewal
    others: list[Lease]

    def check(self) -> None:
        """Raises StoreError where the collection was paused so long that runs have begun which do not know of it."""
        if self.own.lapsed:
            raise StoreError("the collection was paused for minutes, and runs may have begun since: collect again")


@contextlib.contextmanager
def leased(store: Store, who: str) -> Iterator[Lease]:
    """Holds a lease on everything. The caller narrows it with :func:`narrow` once its plan stands.

    Waits while a collection is under way.
    """
    with _held(store, Lease(who)) as renewal:
        confirm(store, renewal.lease)
        yield renewal.lease


@contextlib.contextmanager
def collecting(store: Store) -> Iterator[Collection]:
    """Holds the lease of a collection.

    Raises StoreError where another collection is at it.
    """
    with _held(store, Lease(COLLECTING, {})) as renewal:
        others = [lease for lease in living(store) if lease.name != renewal.lease.name]
        if any(lease.who == COLLECTING for lease in others):
            raise StoreError(f"garbage of the store {store.url} is being collected already: wait until that has ended")
        yield Collection(renewal, others)


def narrow(store: Store, lease: Lease, keys: Mapping[str, frozenset[str]]) -> None:
    """From now on the run counts on these keys only."""
    lease.keys = keys
    _write(store, lease)


def confirm(store: Store, lease: Lease) -> None:
    """Renews a lease, and waits for the end of a collection that may have taken it for a dead one's.

    What is there afterwards stays; what is not was removed before.
    """
    _write(store, lease)
    while any(other.who == COLLECTING for other in living(store)):
        time.sleep(0.5)
        _write(store, lease)


def living(store: Store) -> list[Lease]:
    """The leases that are being renewed. A file that is no lease counts as one on everything, while it is new."""
    written = {name: _changed(store, f"{FOLDER}/{name}") for name in store.names(FOLDER) if name.endswith(".json")}
    if not written:
        return []
    time_there = now(store)
    found = (_read(store, name) for name, renewed in written.items() if renewed and _is_new(renewed, time_there))
    return [lease for lease in found if lease is not None]


def now(store: Store) -> datetime:
    """The time by the clock that dates the store's files."""
    probe = f"{FOLDER}/now-{uuid.uuid4().hex}"
    store.write_text(probe, "")
    changed = _changed(store, probe)
    store.remove(probe)
    if changed is None:
        raise StoreError(f"the store {store.url} lost a file that was just written: {probe}")
    return changed


class _Renewal:
    """Writes a lease now, and again and again until it is over."""

    def __init__(self, store: Store, lease: Lease) -> None:
        self.lease = lease
        self._store = store
        self._over = threading.Event()
        self._interrupted = False
        self._renew()
        lease.begun = _changed(store, _file(lease))
        self._thread = threading.Thread(target=self._keep_on, daemon=True, name="lease")
        self._thread.start()

    @property
    def lapsed(self) -> bool:
        """Whether others may have taken the lease for that of a killed run at some time."""
        return self._interrupted or time.time() - self._renewed > DEAD_AFTER

    def end(self) -> None:
        self._over.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            self._store.remove(_file(self.lease))

    def _keep_on(self) -> None:
        while not self._over.wait(RENEWED_EVERY):
            self._interrupted = self.lapsed
            with contextlib.suppress(OSError):  # a store that is away for a moment: the next time will do
                self._renew()

    def _renew(self) -> None:
        before = time.time()  # a clock that goes on while the machine sleeps
        _write(self._store, self.lease)
        self._renewed = before


@contextlib.contextmanager
def _held(store: Store, lease: Lease) -> Iterator[_Renewal]:
    renewal = _Renewal(store, lease)
    try:
        yield renewal
    finally:
        renewal.end()


def _file(lease: Lease) -> str:
    return f"{FOLDER}/{lease.name}.json"


def _write(store: Store, lease: Lease) -> None:
    store.write_json(_file(lease), _LEASE.dump_python(lease, mode="json"))


def _read(store: Store, name: str) -> Lease | None:
    """The lease in a file; None where its run has just ended."""
    try:
        text = store.read_text(f"{FOLDER}/{name}")
        if text is None:
            return None
        lease = _LEASE.validate_json(text)
    except (OSError, ValueError, StoreError):
        lease = Lease(f"stage whose lease cannot be read ({FOLDER}/{name})")
    return replace(lease, name=name.removesuffix(".json"))


def _is_new(renewed: datetime, now: datetime) -> bool:
    return abs(now - renewed) <= timedelta(seconds=DEAD_AFTER)  # no run renews a file of tomorrow


def _changed(store: Store, name: str) -> datetime | None:
    try:
        changed: datetime = store.fs.modified(f"{store.root}/{name}")
    except FileNotFoundError:  # its run has just ended
        return None
    return changed


_LEASE = TypeAdapter(Lease)
