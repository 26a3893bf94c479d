"""What a solver gets and gives: a training as all solvers see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.settings.training import TrainSettings
from tasks.training.data import Examples, TagColumns
from tasks.training.student import Student


@dataclass(frozen=True)
class LogRow:
    """A figure of a training: the mean of a loss over an epoch, say."""

    step: int
    epoch: float
    name: str
    value: float


@dataclass(frozen=True)
class Task:
    """A ``student`` to be taught ``examples`` of ``tags``, in place; ``folder`` is its own."""

    student: Student
    examples: Examples
    tags: TagColumns
    settings: TrainSettings
    folder: Path


@dataclass(frozen=True)
class Unseen:
    """What a model says of images that it did not learn from, and what these name: (images, tags)."""

    logits: NDArray[np.float32]
    named: NDArray[np.bool_]


@dataclass(frozen=True)
class Solved:
    """The curve of a training, and what the model says of its own images, each left out, where the solver knows."""

    log: list[LogRow]
    left_out: Unseen | None = None


Solver = Callable[[Task, Callable[[int, int], None]], Solved]
"""Trains a task's student on its device; gets what to tell of steps done and their number.

Processes that share a training all call it; what it returns counts in the first.
"""
