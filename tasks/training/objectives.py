"""What a model is taught towards, a class an objective: tags, captions, and what a teacher says.

All have one shape. An objective looks at each batch once, as what is drawn is drawn for the whole batch, says what the
model is asked beyond its tags, and measures each piece of the batch, whatever process computes it.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from models import RAM, CaptionTokenizer, Tagger, losses
from models.tagger import TaggerOutput
from tasks.settings.training import TrainSettings
from tasks.training.data import Examples, TokenImages
from tasks.training.distillation import Question, Teacher, teacher_of
from tasks.training.ids import Indices
from tasks.training.student import Student

if TYPE_CHECKING:
    from models.captioner import Captioner

TAGGING_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "asymmetric": losses.asymmetric_loss,
    "binary": losses.binary_cross_entropy,
}


@dataclass(frozen=True)
class Piece:
    """The images of a batch that a process computes at once: ``places`` within the batch, and their share of it.

    A process for which nothing is left computes the batch's first image, at a share of 0.
    """

    places: Indices
    share: float


@dataclass(frozen=True)
class Epoch:
    """A pass over the images. ``order`` are the images of each batch, ``pieces`` those that this process computes, one
    after the other, to be gone through once; whatever is drawn follows from ``seed``."""

    seed: int
    order: Sequence[Indices]
    pieces: Iterable[Indices]


class Objective(Protocol):
    """One part of the loss, under ``name`` in the log."""

    name: str

    def begin(self, epoch: Epoch) -> None:
        """An epoch begins: here is what to draw by."""
        return None

    @abstractmethod
    def take(self, images: Indices) -> None:
        """The next batch: the places of its images among the examples."""

    def asks(self, piece: Piece) -> dict[str, Tensor]:
        """What the model is asked beyond its tags: further arguments of :meth:`models.Tagger.forward`."""
        return {}

    @abstractmethod
    def loss(self, output: TaggerOutput, piece: Piece, images: Tensor) -> Tensor:
        """This piece's share of the batch's loss, a scalar. ``images`` are pictures or tokens, as the model got them.

        Called once a piece, in their order.
        """


class Tagging(Objective):
    """The tags of the examples, summed over the tags and averaged over the images."""

    name = "tagging"

    def __init__(self, examples: Examples, measure: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.examples = examples
        self.measure = measure

    def take(self, images: Indices) -> None:
        self.targets = torch.from_numpy(self.examples.targets[images].toarray())  # (B, tags)

    def loss(self, output: TaggerOutput, piece: Piece, images: Tensor) -> Tensor:
        targets = self.targets[piece.places].to(output.tag_logits.device)
        summed = self.measure(output.tag_logits, targets)
        return summed / len(self.targets) if piece.share else summed * 0


class Captioning(Objective):
    """One of each image's captions, by chance, averaged over the batch's words; images without one take no part."""

    name = "caption"

    def __init__(self, examples: Examples, model: Tagger, captioner: Captioner, tokenizer: CaptionTokenizer) -> None:
        self.examples = examples
        self.tag_token_ids = model.tag_token_ids
        self.pad_id = captioner.config.pad_id
        self.tokenizer = tokenizer

    def begin(self, epoch: Epoch) -> None:
        self.chance = random.Random(epoch.seed)

    def take(self, images: Indices) -> None:
        texts, tags = self.examples.caption_choice(images, self.chance)
        caption_ids = self.tokenizer.captions(texts)  # (B, L)
        caption_ids[torch.tensor([not text for text in texts]), 1:] = self.pad_id
        self.asked = {"caption_ids": caption_ids, "tag_token_ids": self.tag_token_ids(tags)}
        self.words = (caption_ids[:, 1:] != self.pad_id).sum(1)  # (B,), that each caption's loss is over

    def asks(self, piece: Piece) -> dict[str, Tensor]:
        return {name: ids[piece.places] for name, ids in self.asked.items()}

    def loss(self, output: TaggerOutput, piece: Piece, images: Tensor) -> Tensor:
        if output.caption_loss is None:
            raise TypeError("the model was asked for captions and gave none")
        share = float(self.words[piece.places].sum() / self.words.sum().clamp(min=1)) if piece.share else 0.0
        return output.caption_loss * share


class Distillation(Objective):
    """What a teacher says of the same view of each image, stored with its tokens or asked for now."""

    name = "distillation"

    def __init__(self, examples: Examples, teacher: Teacher, student: Student, weight: float) -> None:
        self.images = examples.images
        self.teacher = teacher
        self.language = student.queries
        self.weight = weight

    def begin(self, epoch: Epoch) -> None:
        self.chance = torch.Generator().manual_seed(epoch.seed)
        self.stored: Iterator[Tensor] | None = None
        if isinstance(self.images, TokenImages):
            self.stored = self.images.taught(epoch.order, epoch.seed, epoch.pieces)

    def take(self, images: Indices) -> None:
        self.question: Question = self.teacher.question(self.chance, self.language)

    def asks(self, piece: Piece) -> dict[str, Tensor]:
        return {} if self.question.queries is None else {"extra_queries": self.question.queries}

    def loss(self, output: TaggerOutput, piece: Piece, images: Tensor) -> Tensor:
        said = self.teacher.of_pictures(images) if self.stored is None else next(self.stored).to(images.device)
        return self.weight * piece.share * self.question.loss(output, said)


def objectives_of(student: Student, examples: Examples, settings: TrainSettings) -> list[Objective]:
    """What ``settings`` ask of a student that can do it."""
    model = student.model
    objectives: list[Objective] = [Tagging(examples, TAGGING_LOSSES[settings.tagging_loss])]
    if model.captioner is not None and model.tokenizer is not None and examples.captions is not None:
        objectives.append(Captioning(examples, model, model.captioner, model.tokenizer))
    if settings.distillation != "none" and isinstance(model, RAM):
        teacher = teacher_of(settings.distillation, model.config).to(student.device)
        objectives.append(Distillation(examples, teacher, student, settings.distillation_weight))
    return objectives
