"""The solver ``gradient``: the training loop that all objectives share, under accelerate.

AdamW without decay on norms and biases, a warm-up and a decay of the learning rate, clipped gradients, mixed
precision, and where wanted a running average of the weights. A step is one batch, whatever share of it this process
computes and in how many pieces: losses are divided by what the whole batch holds. The order of the data and every draw
follow from the seed and the epoch alone, and a checkpoint is written after each epoch: a training that was killed goes
on with the same curve.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models import Tagger, losses
from models.tagger import TaggerOutput
from tasks.settings.training import TrainSettings
from tasks.training.ids import Indices
from tasks.training.objectives import Epoch, Piece, objectives_of
from tasks.training.student import Student
from tasks.training.task import LogRow, Solved, Task

CHECKPOINT = "checkpoint.pt"
WARM_UP_SHARE = 0.05
DECAY_AN_EPOCH = 0.9  # of the learning rate, RAM's pretraining
CLIP_NORM = 1.0


class TrainingError(RuntimeError):
    """A training that cannot go on; the message names the step and the images."""


def solve(task: Task, progress: Callable[[int, int], None]) -> Solved:
    """A :data:`~tasks.training.task.Solver`, for ``epochs`` of the settings.

    Started by ``torchrun``, processes share each batch. A checkpoint in the task's folder is gone on from; it is left
    there, for the caller to remove once the model is saved. Raises :class:`TrainingError` where the loss is not finite.
    """
    return Solved(_Descent(task).run(progress))


@dataclass(frozen=True)
class _Step:
    """Where a training stands: the ``images`` of this step's batch, and which of them this process computes."""

    number: int
    epoch: int
    images: Indices
    pieces: Sequence[Piece]


class _Descent:
    """A training by gradient descent that is under way."""

    def __init__(self, task: Task) -> None:
        settings, model = task.settings, task.student.model
        self.task = task
        self.settings = settings
        self.device = task.student.device
        self.accelerator = _accelerator(settings, self.device)
        if settings.frozen_encoder:
            model.image_encoder.requires_grad_(False)
        self.objectives = objectives_of(task.student, task.examples, settings)
        optimizer = torch.optim.AdamW(parameter_groups(model, settings.weight_decay), lr=settings.learning_rate)
        self.average = _Average(model, settings.average) if settings.average else None
        self.steps_an_epoch = math.ceil(len(task.examples.image_ids) / settings.batch_size)
        self.state = _State(task.folder / CHECKPOINT, model, optimizer, self.average)
        self.log: list[LogRow] = []
        self.done = self.state.resume(self.log)
        module = _Module(task.student, settings.input_dropout)
        self.module, self.optimizer = self.accelerator.prepare(module, optimizer)

    def run(self, progress: Callable[[int, int], None]) -> list[LogRow]:
        """All epochs that are not done yet; the curve."""
        self.module.train()
        for epoch in range(self.done, self.settings.epochs):
            self._epoch(epoch, progress)
            if self.accelerator.is_main_process:
                self.state.save(epoch + 1, self.log)
            self.accelerator.wait_for_everyone()
        if self.average is not None:
            self.average.finish()
        self.task.student.model.eval()
        return self.log

    def _epoch(self, number: int, progress: Callable[[int, int], None]) -> None:
        """A pass over the images, and its rows of the curve."""
        examples, settings = self.task.examples, self.settings
        seed = settings.seed * 1_000_003 + number
        torch.manual_seed(seed + self.accelerator.process_index)
        order = data_order(len(examples.image_ids), settings.batch_size, seed, examples.weights)
        for objective in self.objectives:
            objective.begin(Epoch(seed, order, self._mine(order)))
        stream = examples.images.batches(order, seed, self._mine(order))
        total = self.steps_an_epoch * settings.epochs
        sums: dict[str, float] = defaultdict(float)
        for at, images in enumerate(order):
            step = _Step(number * self.steps_an_epoch + at, number, images, self._pieces(len(images)))
            rate = settings.learning_rate * schedule(step.number, total, self.steps_an_epoch, settings)
            self._step(step, rate, stream, sums)
            progress(step.number + 1, total)
        done = (number + 1) * self.steps_an_epoch
        self.log += [LogRow(done, number + 1.0, name, value / self.steps_an_epoch) for name, value in sums.items()]
        self.log.append(LogRow(done, number + 1.0, "learning_rate", rate))

    def _pieces(self, count: int) -> list[Piece]:
        """What this process computes of a batch of ``count`` images."""
        process, processes = self.accelerator.process_index, self.accelerator.num_processes
        own = []
        for piece in range(self.settings.pieces):
            places = np.arange(count)[process + piece * processes :: self.settings.pieces * processes]
            own.append(Piece(places, len(places) / count) if len(places) else Piece(np.zeros(1, np.int64), 0.0))
        return own

    def _mine(self, order: Sequence[Indices]) -> Iterator[Indices]:
        """The images of each piece."""
        return (images[piece.places] for images in order for piece in self._pieces(len(images)))

    def _step(self, step: _Step, rate: float, stream: Iterator[Tensor], sums: dict[str, float]) -> None:
        """One batch; the parts of its loss are added to ``sums``."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        for objective in self.objectives:
            objective.take(step.images)
        for piece in step.pieces:
            with nullcontext() if piece is step.pieces[-1] else self.accelerator.no_sync(self.module):
                for name, value in self._learn(step, piece, next(stream).to(self.device)).items():
                    sums[name] += value
        self.accelerator.clip_grad_norm_(self.module.parameters(), CLIP_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update()

    def _learn(self, step: _Step, piece: Piece, images: Tensor) -> dict[str, float]:
        """The gradient of a piece; the parts of its loss over all processes."""
        asked = {name: ids.to(self.device) for goal in self.objectives for name, ids in goal.asks(piece).items()}
        output: TaggerOutput = self.module(images, **asked)
        parts = {objective.name: objective.loss(output, piece, images) for objective in self.objectives}
        whole = _summed(parts, self.accelerator)
        values = {name: value.item() for name, value in whole.items()}
        if not all(map(math.isfinite, values.values())):
            raise TrainingError(self._not_finite(values, step))
        captioned = values.get("caption", 0) > 0  # a batch may have no caption
        balance = losses.balance(whole["tagging"], whole["caption"]) if captioned else None
        total = losses.total_loss(parts["tagging"], parts.get("caption"), parts.get("distillation"), balance)
        self.accelerator.backward(total * self.accelerator.num_processes)  # gradients are averaged over processes
        return values

    def _not_finite(self, values: Mapping[str, float], step: _Step) -> str:
        wrong = ", ".join(f"{name} {value}" for name, value in values.items())
        where = f"at step {step.number} (epoch {step.epoch + 1})"
        kept = self.state.file
        last = f" The last good checkpoint is kept: {kept}." if kept.is_file() else ""
        ids = ", ".join(self.task.examples.image_ids[at] for at in step.images)
        return (
            f"the loss is not finite ({wrong}) {where}: lower the learning rate, or look at the images of this batch: "
            f"{ids}.{last}"
        )


class _Module(nn.Module):
    """A student as one module: what runs in parallel and in mixed precision is its ``forward``."""

    def __init__(self, student: Student, input_dropout: float) -> None:
        super().__init__()
        self.model = student.model
        self.student = student
        self.input_dropout = input_dropout

    def forward(self, images: Tensor, **asked: Tensor) -> TaggerOutput:
        tokens = F.dropout(self.student.read(images), self.input_dropout, self.training)
        output: TaggerOutput = self.model(tokens, **asked)
        return output


def schedule(step: int, total: int, an_epoch: int, settings: TrainSettings) -> float:
    """The share of the learning rate at ``step`` (0, 1, ..) of ``total``: a linear warm-up, then half a cosine down to
    0, or a tenth less after each epoch."""
    warm_up = settings.warm_up_steps or max(1, round(total * WARM_UP_SHARE))
    if step < warm_up:
        return (step + 1) / warm_up
    if settings.schedule == "decay":
        return DECAY_AN_EPOCH ** (step // an_epoch)
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, total - warm_up)))


def data_order(
    count: int, batch_size: int, seed: int, weights: NDArray[np.float64] | None = None
) -> list[NDArray[np.int64]]:
    """Every index once, in batches, in an order that follows from ``seed``; with ``weights`` (count,) as many indices,
    each as often as its weight asks for on average: an epoch is as long as ever."""
    chance = np.random.default_rng(seed)
    order = chance.permutation(count)
    if weights is not None:
        # systematic sampling: none comes more than once more or less often than its share
        edges = np.cumsum(weights[order]) / weights.sum()
        order = chance.permutation(order[np.searchsorted(edges, (np.arange(count) + chance.random()) / count)])
    return [order[at : at + batch_size] for at in range(0, count, batch_size)]


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trained parameters in two groups: weights with decay; norms, biases and other vectors without."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]


def _accelerator(settings: TrainSettings, device: torch.device) -> Accelerator:
    AcceleratorState._reset_state()  # another training of this process may have had another precision
    on_cpu = device.type == "cpu"
    return Accelerator(cpu=on_cpu, mixed_precision=settings.mixed_precision, device_placement=False)


def _summed(parts: dict[str, Tensor], accelerator: Accelerator) -> dict[str, Tensor]:
    """The parts of the loss over all processes, without gradient."""
    values: Any = torch.stack([part.detach() for part in parts.values()])
    if accelerator.num_processes > 1:
        values = accelerator.reduce(values)
    return dict(zip(parts, values, strict=True))


class _Average:
    """An exponential running average of a model's weights."""

    def __init__(self, model: Tagger, decay: float) -> None:
        self.model = model
        self.averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))

    def update(self) -> None:
        self.averaged.update_parameters(self.model)

    def finish(self) -> None:
        """Makes the average the model."""
        self.model.load_state_dict(self.averaged.module.state_dict())


class _State:
    """What a checkpoint ``file`` keeps: the model, the optimizer, the average and the curve."""

    def __init__(self, file: Path, model: Tagger, optimizer: torch.optim.Optimizer, average: _Average | None) -> None:
        self.file = file
        self.model = model
        self.optimizer = optimizer
        self.average = average

    def save(self, epochs: int, log: Iterable[LogRow]) -> None:
        """Writes a checkpoint under another name first: a kill leaves the old one or the new one, whole."""
        temporary = self.file.with_suffix(".writing")
        state = {
            "model": _trained(self.model),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.averaged.state_dict() if self.average is not None else None,
            "epochs": epochs,
            "log": [(row.step, row.epoch, row.name, row.value) for row in log],
        }
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.file)

    def resume(self, log: list[LogRow]) -> int:
        """Loads the checkpoint where there is one, and its curve into ``log``; the number of epochs that are done."""
        if not self.file.is_file():
            return 0
        state = torch.load(self.file, map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["model"], strict=False)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.averaged.load_state_dict(state["average"])
        log.extend(LogRow(*row) for row in state["log"])
        return int(state["epochs"])


def _trained(model: nn.Module) -> dict[str, Tensor]:
    """The state without a frozen image encoder's."""
    encoder = "image_encoder."
    frozen = not any(value.requires_grad for name, value in model.named_parameters() if name.startswith(encoder))
    return {name: value for name, value in model.state_dict().items() if not (frozen and name.startswith(encoder))}
