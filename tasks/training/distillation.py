"""What a teacher tells RAM about labels that no caption names.

``conse``: the projected mean token is to meet the ConSE vector of its image. ``clip``: it is to meet the image feature
of the CLIP whose text side made the label queries (RAM section 3.3). ``classes``: the names of ImageNet's classes are
asked for as label queries, and the answer is to be the classifier's probability where in the picture it is highest.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models import TaggerConfig, label_queries, losses
from models.clip import CLIP
from models.conse import ConSE, imagenet_names
from models.image_encoder import Preprocessing
from models.tagger import TaggerOutput
from tasks.training.whitening import Whitening

CLASSES_A_STEP = 32  # of the 1,000, by chance: all of them would cost more than the tags


class Teacher:
    """A teacher of ``kind`` (conse, classes or clip) for students that see pictures in a certain way."""

    def __init__(self, kind: str, model: ConSE | CLIP, student: Preprocessing) -> None:
        self.kind = kind
        self.model = model
        self.student = student

    @classmethod
    def of(cls, kind: str, config: TaggerConfig) -> Teacher:
        """For the model of ``config``: in the space of its label queries, or with its image encoder's classifier."""
        student = Preprocessing(config.image_size, config.image_mean, config.image_std)
        if kind == "clip":
            return cls(kind, CLIP(config.text_encoder), student)
        return cls(kind, ConSE(config.image_encoder, config.text_encoder), student)

    def to(self, device: torch.device) -> Teacher:
        self.model.to(device)
        return self

    @torch.inference_mode()
    def of_tokens(self, image_tokens: Tensor) -> Tensor:
        """What ConSE teaches about plain image tokens (B, 1 + N, C): vectors (B, D) or probabilities (B, 1000)."""
        if isinstance(self.model, CLIP):
            raise TypeError("CLIP looks at pictures")
        if self.kind == "conse":
            return self.model(image_tokens)
        return self.model.classifier(image_tokens[:, 1:]).softmax(-1).amax(1)

    def of_pictures(self, images: Tensor) -> Tensor:
        """What is taught about pictures (B, 3, H, W) as the student sees them: the same crop and mirroring."""
        if isinstance(self.model, CLIP):
            return self.model(self.model.view(images, self.student))
        with torch.inference_mode():
            return self.of_tokens(self.model.encode_image(images))

    def choose(self, chance: torch.Generator) -> Tensor | None:
        """The classes that a step asks for, by chance; None where the teacher asks for none."""
        if self.kind != "classes" or isinstance(self.model, CLIP):
            return None
        embeddings = self.model.class_embeddings
        return torch.randperm(len(embeddings), generator=chance)[:CLASSES_A_STEP].to(embeddings.device)

    def queries(self, chosen: Tensor, language: Whitening) -> Tensor:
        """The label queries of the ``chosen`` classes, for a model whose queries went through ``language``."""
        if isinstance(self.model, CLIP):
            raise TypeError("CLIP asks for no classes")
        return language(self.model.class_embeddings[chosen])

    def loss(self, output: TaggerOutput, said: Tensor, chosen: Tensor | None) -> Tensor:
        """How far a model's ``output`` is from what was ``said`` about its images."""
        if chosen is None or output.extra_logits is None:
            if output.distillation_embedding is None:
                raise TypeError("only RAM is distilled into")
            return losses.distillation_loss(output.distillation_embedding, said)
        difference = F.binary_cross_entropy_with_logits(output.extra_logits, said[:, chosen], reduction="sum")
        return difference / len(said)


def class_queries(text_encoder: str) -> Tensor:
    """Label queries (1000, D) of ImageNet's classes: what everyday nouns look like in this text encoder's space."""
    prompts = ["a photo of a {}."] if text_encoder.startswith(label_queries.OPEN_CLIP) else None  # not all eighty
    return label_queries.build(imagenet_names(), text_encoder, prompts)
