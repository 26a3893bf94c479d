"""What a teacher tells RAM about labels that no caption names: a class a teacher, of one shape.

``conse``: the projected mean token is to meet the ConSE vector of its image. ``clip``: it is to meet the image feature
of the CLIP whose text side made the label queries (RAM section 3.3). ``classes``: the names of ImageNet's classes are
asked for as label queries, and the answer is to be the classifier's probability where in the picture it is highest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from models import TaggerConfig, label_queries, losses
from models.clip import CLIP
from models.conse import ConSE, imagenet_names
from models.image_encoder import Preprocessing
from models.tagger import TaggerOutput
from tasks.training.data import TokenImages
from tasks.training.whitening import Whitening

CLASSES_A_STEP = 32  # of the 1,000, by chance: all of them would cost more than the tags


class Question(NamedTuple):
    """What a step asks a model: further label ``queries`` (E, D), if any; ``loss`` tells how far its output is from
    what the teacher said about the images."""

    queries: Tensor | None
    loss: Callable[[TaggerOutput, Tensor], Tensor]


class Teacher(ABC):
    """A teacher for students of one configuration: in the space of their label queries, or with their encoder's
    classifier."""

    model: nn.Module

    def to(self, device: torch.device) -> Teacher:
        self.model.to(device)
        return self

    @abstractmethod
    def store(self, images: TokenImages, views: Iterator[tuple[int, list[Image.Image]]], file: Path) -> None:
        """Writes what is taught about each row of ``images`` into ``file``, as float16; ``views`` are the pictures that
        were encoded, see :func:`tasks.training.data.stored_views`."""

    @abstractmethod
    def of_pictures(self, images: Tensor) -> Tensor:
        """What is taught about pictures (B, 3, H, W) as the student sees them: the same crop and mirroring."""

    @abstractmethod
    def question(self, chance: torch.Generator, language: Whitening | None) -> Question:
        """What the next step asks of a model whose label queries went through ``language``."""


class ConseVectors(Teacher):
    """ConSE says a vector (D,) of each image."""

    def __init__(self, config: TaggerConfig) -> None:
        self.model: ConSE = ConSE(config.image_encoder, config.text_encoder)

    def store(self, images: TokenImages, views: Iterator[tuple[int, list[Image.Image]]], file: Path) -> None:
        images.mapped(self._of_tokens, file)

    @torch.inference_mode()
    def of_pictures(self, images: Tensor) -> Tensor:
        return self._of_tokens(self.model.encode_image(images))

    def question(self, chance: torch.Generator, language: Whitening | None) -> Question:
        return Question(None, _embedding_loss)

    @torch.inference_mode()
    def _of_tokens(self, image_tokens: Tensor) -> Tensor:
        """Of plain image tokens (B, 1 + N, C)."""
        return self.model(image_tokens)


class ImagenetClasses(ConseVectors):
    """The classifier of the student's encoder says probabilities (1000,) of each image."""

    def question(self, chance: torch.Generator, language: Whitening | None) -> Question:
        if language is None:
            raise TypeError("the classes are asked for by label queries that were whitened")
        embeddings = self.model.class_embeddings
        chosen = torch.randperm(len(embeddings), generator=chance)[:CLASSES_A_STEP].to(embeddings.device)

        def loss(output: TaggerOutput, said: Tensor) -> Tensor:
            if output.extra_logits is None:
                raise TypeError("the model was asked for further labels and gave none")
            difference = F.binary_cross_entropy_with_logits(output.extra_logits, said[:, chosen], reduction="sum")
            return difference / len(said)

        return Question(language(embeddings[chosen]), loss)

    @torch.inference_mode()
    def _of_tokens(self, image_tokens: Tensor) -> Tensor:
        return self.model.classifier(image_tokens[:, 1:]).softmax(-1).amax(1)


class ClipFeatures(Teacher):
    """A CLIP says its image feature (D,) of each picture."""

    def __init__(self, config: TaggerConfig) -> None:
        self.model: CLIP = CLIP(config.text_encoder)
        self.student = Preprocessing(config.image_size, config.image_mean, config.image_std)

    def store(self, images: TokenImages, views: Iterator[tuple[int, list[Image.Image]]], file: Path) -> None:
        prepare = self.model.preprocessing.transform()
        with file.open("wb") as stored:
            for row, pictures in views:
                features = self.model(torch.stack([prepare(picture) for picture in pictures])).numpy()
                written = features.astype(np.float16).tobytes()
                stored.seek(row * len(written) // len(pictures))
                stored.write(written)

    def of_pictures(self, images: Tensor) -> Tensor:
        return self.model(self.model.view(images, self.student))

    def question(self, chance: torch.Generator, language: Whitening | None) -> Question:
        return Question(None, _embedding_loss)


TEACHERS: dict[str, type[ConseVectors | ClipFeatures]] = {
    "conse": ConseVectors,
    "classes": ImagenetClasses,
    "clip": ClipFeatures,
}


def teacher_of(kind: str, config: TaggerConfig) -> Teacher:
    """The teacher of that kind for the model of ``config``."""
    return TEACHERS[kind](config)


def _embedding_loss(output: TaggerOutput, said: Tensor) -> Tensor:
    if output.distillation_embedding is None:
        raise TypeError("only RAM is distilled into")
    return losses.distillation_loss(output.distillation_embedding, said)


def class_queries(text_encoder: str) -> Tensor:
    """Label queries (1000, D) of ImageNet's classes: what everyday nouns look like in this text encoder's space."""
    prompts = ["a photo of a {}."] if text_encoder.startswith(label_queries.OPEN_CLIP) else None  # not all eighty
    return label_queries.build(imagenet_names(), text_encoder, prompts)
