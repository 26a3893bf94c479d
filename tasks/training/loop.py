"""The training loop that all trainings share.

AdamW without decay on norms and biases, linear warm-up and cosine decay of the learning rate, clipped gradients. The
order of the data and every draw follow from the seed and the epoch alone, and a checkpoint is written after each epoch:
a training that was killed goes on with the same curve.
"""

from __future__ import annotations

import itertools
import math
import os
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from models import RAM, Tagger, losses
from models.tagger import TaggerOutput
from tasks.settings import TrainSettings
from tasks.training.data import Examples, TokenImages
from tasks.training.distillation import Teacher
from tasks.training.whitening import Whitening

CHECKPOINT = "checkpoint.pt"
WARM_UP_SHARE = 0.05
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
    A checkpoint in ``folder`` is gone on from; it is left there, for the caller to remove once the model is saved.
    ``progress`` gets the steps done and their number. Raises :class:`TrainingError` where the loss is not finite.
    """
    device = next(model.parameters()).device
    if settings.frozen_encoder:
        model.image_encoder.requires_grad_(False)
    teacher = _teacher(model, settings)
    optimizer = torch.optim.AdamW(parameter_groups(model, settings.weight_decay), lr=settings.learning_rate)
    steps_an_epoch = math.ceil(len(examples.image_ids) / settings.batch_size)
    total_steps = steps_an_epoch * settings.epochs
    log: list[LogRow] = []
    start = _resume(folder / CHECKPOINT, model, optimizer, log)
    model.train()
    for epoch in range(start, settings.epochs):
        seed = settings.seed * 1_000_003 + epoch
        torch.manual_seed(seed)
        order = data_order(len(examples.image_ids), settings.batch_size, seed)
        captions = random.Random(seed)
        sums: dict[str, float] = defaultdict(float)
        said: Iterable[Tensor | None] = itertools.repeat(None, len(order))
        if teacher is not None and isinstance(examples.images, TokenImages):
            said = examples.images.taught(order, seed)
        batches = zip(order, examples.images.batches(order, seed), said, strict=True)
        for number, (indices, images, taught) in enumerate(batches):
            step = epoch * steps_an_epoch + number
            rate = settings.learning_rate * schedule(step, total_steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            tokens = F.dropout(read(model, images, whitening), settings.input_dropout)
            chosen = teacher.choose() if teacher is not None else None
            asked = teacher.queries(chosen, language) if teacher and language and chosen is not None else None
            output, parts = _losses(model, examples, indices, tokens, settings, captions, asked)
            if teacher is not None:
                if taught is None:
                    taught = teacher(teacher.conse.encode_image(images.to(device)))
                parts["distillation"] = settings.distillation_weight * teacher.loss(output, taught.to(device), chosen)
            total = losses.total_loss(parts["tagging"], parts.get("caption"), parts.get("distillation"))
            if not math.isfinite(total.item()):
                ids = ", ".join(examples.image_ids[at] for at in indices)
                raise TrainingError(
                    f"the loss is {total.item()} at step {step} (epoch {epoch + 1}): lower the learning rate, or look "
                    f"at the images of this batch: {ids}"
                )
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
            optimizer.step()
            for name, value in parts.items():
                sums[name] += value.item()
            progress(step + 1, total_steps)
        done = (epoch + 1) * steps_an_epoch
        log += [LogRow(done, epoch + 1.0, name, value / steps_an_epoch) for name, value in sums.items()]
        log.append(LogRow(done, epoch + 1.0, "learning_rate", rate))
        _save(folder / CHECKPOINT, model, optimizer, epoch + 1, log)
    model.eval()
    return log


def read(model: Tagger, images: Tensor, whitening: Whitening) -> Tensor:
    """What the heads read: whitened tokens. Stored ones are whitened already; pictures are encoded first."""
    images = images.to(next(model.parameters()).device)
    return whitening(model.encode_image(images)) if images.ndim == 4 else images


def schedule(step: int, total: int) -> float:
    """The share of the learning rate at ``step`` (0, 1, ..): linear warm-up, then half a cosine down to 0."""
    warm_up = max(1, round(total * WARM_UP_SHARE))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, total - warm_up)))


def data_order(count: int, batch_size: int, seed: int) -> list[NDArray[np.int64]]:
    """Every index once, in batches, in an order that follows from ``seed``."""
    order = np.random.default_rng(seed).permutation(count)
    return [order[at : at + batch_size] for at in range(0, count, batch_size)]


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trained parameters in two groups: weights with decay; norms, biases and other vectors without."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [each for each in trained if each.ndim > 1], "weight_decay": weight_decay},
        {"params": [each for each in trained if each.ndim <= 1], "weight_decay": 0.0},
    ]


def _losses(
    model: Tagger,
    examples: Examples,
    indices: NDArray[np.int64],
    tokens: Tensor,
    settings: TrainSettings,
    chance: random.Random,
    extra_queries: Tensor | None,
) -> tuple[TaggerOutput, dict[str, Tensor]]:
    """What the model says, and the parts of the loss: tagging is summed over the tags, averaged over the images."""
    caption_ids = tag_token_ids = None
    if model.captioner is not None and model.tokenizer is not None and examples.captions:
        texts, tags = examples.caption_choice(indices, chance)
        caption_ids = model.tokenizer.captions(texts).to(tokens.device)
        tag_token_ids = model.tag_token_ids(tags).to(tokens.device)
    output: TaggerOutput = model(tokens, caption_ids, tag_token_ids, extra_queries)
    targets = torch.from_numpy(examples.targets[indices].toarray()).to(tokens.device)
    parts = {"tagging": TAGGING_LOSSES[settings.tagging_loss](output.tag_logits, targets) / len(indices)}
    if output.caption_loss is not None:
        parts["caption"] = output.caption_loss
    return output, parts


def _teacher(model: Tagger, settings: TrainSettings) -> Teacher | None:
    if settings.distillation == "none" or not isinstance(model, RAM):
        return None
    device = next(model.parameters()).device
    return Teacher(settings.distillation, model.config.image_encoder, model.config.text_encoder).to(device)


def _save(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, epochs: int, log: Iterable[LogRow]) -> None:
    """Writes a checkpoint under another name first: a kill leaves the old one or the new one, whole."""
    temporary = path.with_suffix(".writing")
    state = {
        "model": _trained(model),
        "optimizer": optimizer.state_dict(),
        "epochs": epochs,
        "log": [(row.step, row.epoch, row.name, row.value) for row in log],
    }
    with open(temporary, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _resume(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, log: list[LogRow]) -> int:
    """Loads the checkpoint where there is one; the number of epochs that are done."""
    if not path.is_file():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"], strict=False)
    optimizer.load_state_dict(state["optimizer"])
    log.extend(LogRow(*row) for row in state["log"])
    return int(state["epochs"])


def _trained(model: nn.Module) -> dict[str, Tensor]:
    """The state without a frozen image encoder's."""
    encoder = "image_encoder."
    frozen = not any(each.requires_grad for name, each in model.named_parameters() if name.startswith(encoder))
    return {name: value for name, value in model.state_dict().items() if not (frozen and name.startswith(encoder))}
