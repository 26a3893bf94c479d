"""The torch device that an engine's settings name, and a process made ready for models on a CPU."""

from __future__ import annotations

import ctypes
import os
import sys

import torch

from tasks.settings import EngineSettings

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # glibc's malloc.h


def device_of(engine: EngineSettings) -> torch.device:
    """``engine.device``; where it is empty a GPU, else the CPU."""
    return torch.device(engine.device or ("cuda" if torch.cuda.is_available() else "cpu"))


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare_process(engine: EngineSettings) -> None:
    """Shares the cores among the engine's workers, and keeps freed memory for the next tensors."""
    torch.set_num_threads(max(1, cores() // max(1, engine.workers)))
    keep_memory()


def keep_memory() -> None:
    """Tells glibc to keep freed memory for the next tensors: half of a step on a CPU goes into page faults otherwise.

    The same as MALLOC_MMAP_MAX_=0 and MALLOC_TRIM_THRESHOLD_ in the environment, for a process that runs already.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt is not None:
            mallopt(_MMAP_MAX, 0)
            mallopt(_TRIM_THRESHOLD, 2**31 - 1)
