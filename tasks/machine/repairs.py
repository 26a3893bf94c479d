"""Damaged parts, computed again by the run that meets them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from storage.store import DamagedPartError, Store

T = TypeVar("T")
MOST_REPAIRS = 100  # in one run: a failing disk has many


def repairing(store: Store, call: Callable[[], T], tell: Callable[[str], None]) -> T:
    """Calls again where a damaged part was found: it is removed, so that the stage that makes it computes it again."""
    for _ in range(MOST_REPAIRS):
        try:
            return call()
        except DamagedPartError as error:
            store.remove_part(error.artifact, error.part)
            tell(str(error))
    return call()
