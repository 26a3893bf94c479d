"""The training loop that all trainings share, under accelerate.

AdamW without decay on norms and biases, a warm-up and a decay of the learning rate, clipped gradients, mixed
precision, and where wanted a running average of the weights. A step is one batch, whatever share of it this process
computes and in how many pieces: losses are divided by what the whole batch holds. The order of the data and every draw
follow from the seed and the epoch alone, and a checkpoint is written after each epoch: a training that was killed goes
on with the same curve.
"""

from __future__ import annotations

import itertools
import math
import os
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
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

from models import RAM, Tagger, losses
from models.tagger import TaggerOutput
from tasks.settings.training import TrainSettings
from tasks.training.data import Examples, Indices, TokenImages
from tasks.training.distillation import Teacher
from tasks.training.whitening import Whitening

CHECKPOINT = "checkpoint.pt"
WARM_UP_SHARE = 0.05
DECAY_AN_EPOCH = 0.9  # of the learning rate, RAM's pretraining
CLIP_NORM = 1.0
TAGGING_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "asymmetric": losses.asymmetric_loss,
    "binary": losses.binary_cross_entropy,
}


class TrainingError(RuntimeError):
    """A training that cannot go on; the message names the step and the images."""


@dataclass(frozen=True)
class LogRow:
    """A figure of a training: the mean of a loss over an epoch, say."""

    step: int
    epoch: float
    name: str
    value: float


def fit(
    model: Tagger,
    examples: Examples,
    settings: TrainSettings,
    folder: Path,
    whitening: Whitening,
    language: Whitening | None,
    progress: Callable[[int, int], None],
) -> list[LogRow]:
    """Trains ``model`` in place, on its device, for ``settings.epochs``; returns the curve.

    The model reads tokens that went through ``whitening``, and RAM label queries that went through ``language``.
    Started by ``torchrun``, processes share each batch. A checkpoint in ``folder`` is gone on from; it is left there,
    for the caller to remove once the model is saved. ``progress`` gets the steps done and their number. Raises
    :class:`TrainingError` where the loss is not finite.
    """
    device = next(model.parameters()).device
    accelerator = _accelerator(settings, device)
    if settings.frozen_encoder:
        model.image_encoder.requires_grad_(False)
    teacher = _teacher(model, settings)
    optimizer = torch.optim.AdamW(parameter_groups(model, settings.weight_decay), lr=settings.learning_rate)
    average = _Average(model, settings.average) if settings.average else None
    steps_an_epoch = math.ceil(len(examples.image_ids) / settings.batch_size)
    total_steps = steps_an_epoch * settings.epochs
    log: list[LogRow] = []
    start = _resume(folder / CHECKPOINT, model, optimizer, average, log)
    student, optimizer = accelerator.prepare(Student(model, whitening, settings.input_dropout), optimizer)
    student.train()
    for epoch in range(start, settings.epochs):
        seed = settings.seed * 1_000_003 + epoch
        torch.manual_seed(seed + accelerator.process_index)
        order = data_order(len(examples.image_ids), settings.batch_size, seed, examples.weights)
        owned = [_own(len(indices), settings.pieces, accelerator) for indices in order]
        stream = _stream(examples, order, owned, seed, teacher)
        captions, classes = random.Random(seed), torch.Generator().manual_seed(seed)
        sums: dict[str, float] = defaultdict(float)
        for number, (indices, pieces) in enumerate(zip(order, owned, strict=True)):
            step = epoch * steps_an_epoch + number
            rate = settings.learning_rate * schedule(step, total_steps, steps_an_epoch, settings)
            for group in optimizer.param_groups:
                group["lr"] = rate
            batch = Batch.of(examples, indices, model, captions)
            chosen = teacher.choose(classes) if teacher is not None else None
            asked = teacher.queries(chosen, language) if teacher and language and chosen is not None else None
            for piece in pieces:
                images, said = next(stream)
                with nullcontext() if piece is pieces[-1] else accelerator.no_sync(student):
                    output = student(images.to(device), *batch.words_of(piece, device), asked)
                    parts = _losses(output, batch, piece, settings)
                    if teacher is not None:
                        said = teacher.of_pictures(images.to(device)) if said is None else said.to(device)
                        share = settings.distillation_weight * piece.share
                        parts["distillation"] = share * teacher.loss(output, said, chosen)
                    whole = _summed(parts, accelerator)
                    values = {name: value.item() for name, value in whole.items()}
                    if not all(map(math.isfinite, values.values())):
                        raise TrainingError(_not_finite(values, step, epoch, examples, indices, folder))
                    balance = losses.balance(whole["tagging"], whole["caption"]) if "caption" in whole else None
                    total = losses.total_loss(
                        parts["tagging"], parts.get("caption"), parts.get("distillation"), balance
                    )
                    accelerator.backward(total * accelerator.num_processes)  # gradients are averaged over processes
                for name, value in values.items():
                    sums[name] += value
            accelerator.clip_grad_norm_(student.parameters(), CLIP_NORM)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if average is not None:
                average.update()
            progress(step + 1, total_steps)
        done = (epoch + 1) * steps_an_epoch
        log += [LogRow(done, epoch + 1.0, name, value / steps_an_epoch) for name, value in sums.items()]
        log.append(LogRow(done, epoch + 1.0, "learning_rate", rate))
        if accelerator.is_main_process:
            _save(folder / CHECKPOINT, model, optimizer, average, epoch + 1, log)
        accelerator.wait_for_everyone()
    if average is not None:
        average.finish()
    model.eval()
    return log


class Student(nn.Module):
    """A model behind its whitening, as one module: what runs in parallel and in mixed precision is its ``forward``."""

    def __init__(self, model: Tagger, whitening: Whitening, input_dropout: float) -> None:
        super().__init__()
        self.model = model
        self.whitening = whitening
        self.input_dropout = input_dropout

    def forward(
        self, images: Tensor, caption_ids: Tensor | None, tag_token_ids: Tensor | None, extra_queries: Tensor | None
    ) -> TaggerOutput:
        tokens = F.dropout(read(self.model, images, self.whitening), self.input_dropout, self.training)
        output: TaggerOutput = self.model(tokens, caption_ids, tag_token_ids, extra_queries)
        return output


@dataclass(frozen=True)
class Piece:
    """The images of a batch that a process computes at once: ``places`` within the batch, and their share of it.

    A process for which nothing is left computes the batch's first image, at a share of 0.
    """

    places: Indices
    share: float


@dataclass(frozen=True)
class Batch:
    """What is taught about a batch of images."""

    targets: Tensor  # (B, tags)
    caption_ids: Tensor | None = None  # (B, L), with a captioner
    tag_token_ids: Tensor | None = None
    words: Tensor | None = None  # (B,), that each caption's loss is over

    @classmethod
    def of(cls, examples: Examples, indices: Indices, model: Tagger, chance: random.Random) -> Batch:
        targets = torch.from_numpy(examples.targets[indices].toarray())
        if model.captioner is None or model.tokenizer is None or not examples.captions:
            return cls(targets)
        texts, tags = examples.caption_choice(indices, chance)
        caption_ids = model.tokenizer.captions(texts)
        words = (caption_ids[:, 1:] != model.captioner.config.pad_id).sum(1)
        return cls(targets, caption_ids, model.tag_token_ids(tags), words)

    def words_of(self, piece: Piece, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
        """Captions and tags of the images of ``piece``, as a tagger takes them."""
        if self.caption_ids is None or self.tag_token_ids is None:
            return None, None
        return self.caption_ids[piece.places].to(device), self.tag_token_ids[piece.places].to(device)

    def word_share(self, piece: Piece) -> float:
        """How many of the batch's words are in ``piece``."""
        if self.words is None or not piece.share:
            return 0.0
        return float(self.words[piece.places].sum() / self.words.sum())


def read(model: Tagger, images: Tensor, whitening: Whitening) -> Tensor:
    """What the heads read: whitened tokens. Stored ones are whitened already; pictures are encoded first."""
    images = images.to(next(model.parameters()).device)
    return whitening(model.encode_image(images)) if images.ndim == 4 else images


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
        {"params": [each for each in trained if each.ndim > 1], "weight_decay": weight_decay},
        {"params": [each for each in trained if each.ndim <= 1], "weight_decay": 0.0},
    ]


def _accelerator(settings: TrainSettings, device: torch.device) -> Accelerator:
    AcceleratorState._reset_state()  # another training of this process may have had another precision
    on_cpu = device.type == "cpu"
    return Accelerator(cpu=on_cpu, mixed_precision=settings.mixed_precision, device_placement=False)


def _own(count: int, pieces: int, accelerator: Accelerator) -> list[Piece]:
    """What this process computes of a batch of ``count`` images."""
    every, found = pieces * accelerator.num_processes, []
    for piece in range(pieces):
        places = np.arange(count)[accelerator.process_index + piece * accelerator.num_processes :: every]
        found.append(Piece(places, len(places) / count) if len(places) else Piece(np.zeros(1, np.int64), 0.0))
    return found


def _stream(
    examples: Examples, order: Sequence[Indices], owned: Sequence[Sequence[Piece]], seed: int, teacher: Teacher | None
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """The images of each piece, and what the teacher said of them where that is stored."""
    pieces = [indices[piece.places] for indices, own in zip(order, owned, strict=True) for piece in own]
    said: Iterable[Tensor | None] = itertools.repeat(None, len(pieces))
    if teacher is not None and isinstance(examples.images, TokenImages):
        said = examples.images.taught(order, seed, pieces)
    return zip(examples.images.batches(order, seed, pieces), said, strict=True)


def _losses(output: TaggerOutput, batch: Batch, piece: Piece, settings: TrainSettings) -> dict[str, Tensor]:
    """This piece's share of the batch's losses: tagging is summed over the tags and averaged over the images, captions
    are averaged over their words."""
    targets = batch.targets[piece.places].to(output.tag_logits.device)
    counted = len(targets) if piece.share else 0
    tagging = TAGGING_LOSSES[settings.tagging_loss](output.tag_logits, targets)
    parts = {"tagging": tagging / len(batch.targets) if counted else tagging * 0}
    if output.caption_loss is not None:
        parts["caption"] = output.caption_loss * batch.word_share(piece)
    return parts


def _summed(parts: dict[str, Tensor], accelerator: Accelerator) -> dict[str, Tensor]:
    """The parts of the loss over all processes, without gradient."""
    values: Any = torch.stack([part.detach() for part in parts.values()])
    if accelerator.num_processes > 1:
        values = accelerator.reduce(values)
    return dict(zip(parts, values, strict=True))


def _not_finite(
    values: dict[str, float], step: int, epoch: int, examples: Examples, indices: Indices, folder: Path
) -> str:
    wrong = ", ".join(f"{name} {value}" for name, value in values.items())
    kept = folder / CHECKPOINT
    last = f" The last good checkpoint is kept: {kept}." if kept.is_file() else ""
    ids = ", ".join(examples.image_ids[at] for at in indices)
    return (
        f"the loss is not finite ({wrong}) at step {step} (epoch {epoch + 1}): lower the learning rate, or look at the "
        f"images of this batch: {ids}.{last}"
    )


def _teacher(model: Tagger, settings: TrainSettings) -> Teacher | None:
    if settings.distillation == "none" or not isinstance(model, RAM):
        return None
    device = next(model.parameters()).device
    return Teacher.of(settings.distillation, model.config).to(device)


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


def _save(
    path: Path,
    model: Tagger,
    optimizer: torch.optim.Optimizer,
    average: _Average | None,
    epochs: int,
    log: Iterable[LogRow],
) -> None:
    """Writes a checkpoint under another name first: a kill leaves the old one or the new one, whole."""
    temporary = path.with_suffix(".writing")
    state = {
        "model": _trained(model),
        "optimizer": optimizer.state_dict(),
        "average": average.averaged.state_dict() if average is not None else None,
        "epochs": epochs,
        "log": [(row.step, row.epoch, row.name, row.value) for row in log],
    }
    with open(temporary, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _resume(
    path: Path, model: Tagger, optimizer: torch.optim.Optimizer, average: _Average | None, log: list[LogRow]
) -> int:
    """Loads the checkpoint where there is one; the number of epochs that are done."""
    if not path.is_file():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"], strict=False)
    optimizer.load_state_dict(state["optimizer"])
    if average is not None:
        average.averaged.load_state_dict(state["average"])
    log.extend(LogRow(*row) for row in state["log"])
    return int(state["epochs"])


def _trained(model: nn.Module) -> dict[str, Tensor]:
    """The state without a frozen image encoder's."""
    encoder = "image_encoder."
    frozen = not any(each.requires_grad for name, each in model.named_parameters() if name.startswith(encoder))
    return {name: value for name, value in model.state_dict().items() if not (frozen and name.startswith(encoder))}
