"""The solver ``ridge``: the model becomes the ridge regression of its examples, in closed form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from models import label_queries
from tasks.training import ridge
from tasks.training.parallel import is_first_process
from tasks.training.task import LogRow, Solved, Task, Unseen
from tasks.training.whitening import token_readers


@torch.no_grad()
def solve(task: Task, progress: Callable[[int, int], None]) -> Solved:
    """A :data:`~tasks.training.task.Solver`. Saves what leaves an image out beside the model; the curve is of the
    penalties. The images that are left out are far more than any that could be held out."""
    if not is_first_process():
        return Solved([])
    student = task.student
    solution = ridge.solve(task.examples, label_queries.build(task.tags.query_texts, task.settings.text_encoder))
    (reader,) = token_readers(student.model)
    reader.weight.copy_(solution.ridge.weight)
    reader.bias.copy_(solution.ridge.bias)
    solution.ridge.of_plain(student.tokens.to(torch.device("cpu"))).save(task.folder)
    log = [LogRow(at, at, "left_out_error", error) for at, error in enumerate(solution.errors, 1)]
    examples = task.examples
    captioned = np.ones(len(solution.rows), bool) if examples.bare is None else ~examples.bare[solution.rows]
    if not captioned.any():
        return Solved(log)
    rows = solution.rows[captioned]
    return Solved(log, Unseen(solution.logits[captioned], examples.targets[rows].toarray() > 0))
