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

from models import RAM, label_queries, losses
from models.conse import ConSE, imagenet_names
from tasks.training.whitening import Whitening

CLASSES_A_STEP = 64  # of the 1,000, by chance: all of them would cost more than the tags


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

    def loss(self, model: RAM, tokens: Tensor, said: Tensor, language: Whitening) -> Tensor:
        """How far ``model``'s answers for the tokens that it reads are from what was ``said`` about them.

        The model reads label queries that went through ``language``.
        """
        if self.kind == "conse":
            return losses.distillation_loss(model.distillation_embedding(tokens), said)
        chosen = torch.randperm(said.shape[1], device=said.device)[:CLASSES_A_STEP]
        logits = model.tag_logits(tokens, language(self.conse.class_embeddings[chosen]))
        return F.binary_cross_entropy_with_logits(logits, said[:, chosen], reduction="sum") / len(said)


def class_queries(text_encoder: str) -> Tensor:
    """Label queries (1000, D) of ImageNet's classes: what everyday nouns look like in this text encoder's space."""
    return label_queries.build(imagenet_names(), text_encoder)
