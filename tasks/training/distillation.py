"""What an ImageNet classifier teaches RAM about labels that no caption names.

``conse``: the projected mean token is to meet the ConSE vector of its image (the paper distils CLIP's image feature in
the same way, RAM section 3.3). ``classes``: the names of ImageNet's classes are asked for as label queries, and the
answer is to be the classifier's probability where in the picture it is highest.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from models import label_queries, losses
from models.conse import ConSE, imagenet_names
from models.tagger import TaggerOutput
from tasks.training.whitening import Whitening

CLASSES_A_STEP = 32  # of the 1,000, by chance: all of them would cost more than the tags


class Teacher:
    """The classifier of ``image_encoder`` in the text space of ``text_encoder``."""

    def __init__(self, kind: Literal["conse", "classes"], image_encoder: str, text_encoder: str) -> None:
        self.kind = kind
        self.conse = ConSE(image_encoder, text_encoder)

    def to(self, device: torch.device) -> Teacher:
        self.conse.to(device)
        return self

    @torch.inference_mode()
    def __call__(self, image_tokens: Tensor) -> Tensor:
        """What is taught about plain image tokens (B, 1 + N, C): vectors (B, D) or probabilities (B, 1000)."""
        if self.kind == "conse":
            return self.conse(image_tokens)
        return self.conse.classifier(image_tokens[:, 1:]).softmax(-1).amax(1)

    def choose(self) -> Tensor | None:
        """The classes that a step asks for, by chance; None where the teacher asks for none."""
        if self.kind == "conse":
            return None
        embeddings = self.conse.class_embeddings
        return torch.randperm(len(embeddings), device=embeddings.device)[:CLASSES_A_STEP]

    def queries(self, chosen: Tensor, language: Whitening) -> Tensor:
        """The label queries of the ``chosen`` classes, for a model whose queries went through ``language``."""
        return language(self.conse.class_embeddings[chosen])

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
    return label_queries.build(imagenet_names(), text_encoder)
