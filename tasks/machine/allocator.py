"""How a process treats memory that its tensors have left."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # glibc's malloc.h


def keep_memory() -> None:
    """Tells glibc to keep freed memory for the next tensors: half of a step on a CPU goes into page faults otherwise.

    To be called before threads are started, which would get arenas of their own that give memory back all the same:
    images were encoded at half the rate in such a thread. Like MALLOC_MMAP_MAX_=0, MALLOC_TRIM_THRESHOLD_ and
    MALLOC_ARENA_MAX=1 in the environment, for a process that runs already.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt is not None:
            mallopt(_MMAP_MAX, 0)
            mallopt(_TRIM_THRESHOLD, 2**31 - 1)
            mallopt(_ARENA_MAX, 1)
