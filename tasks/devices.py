"""The torch device that an engine's settings name, and a process made ready for models on a CPU."""

from __future__ import annotations

import os

import torch

from tasks.memory import keep_memory
from tasks.settings import EngineSettings


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
