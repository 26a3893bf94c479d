"""The torch device that an executor's settings name, and a process made ready for models on a CPU."""

from __future__ import annotations

import torch

from tasks.machine.allocator import keep_memory
from tasks.machine.cores import cores
from tasks.settings.executor import ExecutorSettings


def device_of(executor: ExecutorSettings) -> torch.device:
    """``executor.device``; where it is empty a GPU, else the CPU."""
    return torch.device(executor.device or ("cuda" if torch.cuda.is_available() else "cpu"))


def prepare_process(executor: ExecutorSettings) -> None:
    """Shares the cores among the executor's workers, and keeps freed memory for the next tensors."""
    torch.set_num_threads(max(1, cores() // max(1, executor.workers)))
    keep_memory()
