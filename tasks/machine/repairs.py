"""Damaged parts, computed again by the run that meets them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from storage.store import DamagedPartError, Store

T = TypeVar("T")
MOST_REPAIRS = 100  # in one run: a failing disk has many


def repairing(store: Store, call: Callable[[], T], tell: Callable[[str], None]) -> T:
    """Calls again where damage was found, so that the stage that made the part or the model computes it again.

    Raises DamagedPartError where that stage is none of the call's: the same file is met a second time.
    """
    met: set[str] = set()
    while True:
        try:
            return call()
        except DamagedPartError as error:
            if error.file in met or len(met) == MOST_REPAIRS:
                raise
            met.add(error.file)
            store.discard(error)
            tell(str(error))
