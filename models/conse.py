"""ConSE (Norouzi et al. 2014, arXiv 1312.5650): an ImageNet classifier as a teacher in the space of the label queries.

An image's vector is the mean of the class names' text embeddings, weighted by the classifier's probabilities of its
top classes. It needs no image-text model, and any label's text embedding can be compared with it: a zero-shot tagger.
"""

from __future__ import annotations

from typing import Any, Literal

import timm
import torch
import torch.nn.functional as F
from timm.data.imagenet_info import ImageNetInfo
from torch import Tensor, nn

from models import label_queries
from models.image_encoder import ImageEncoder, load_by_order, packaged_weights
from models.ram import RAM
from models.weights import try_hub_once

NAME_TEMPERATURE = 0.05  # how far a label may be from a class in words
CLASS_TEMPERATURE = 2.0  # the classifier is too sure of things that are not photographs


class ConSE(nn.Module):
    """The teacher for one image encoder that has an ImageNet-1k classifier, and one text encoder.

    ``top`` classes count for an image. All its methods take image tokens (B, 1 + N, C) of *this* encoder, so that
    stored features serve; :meth:`encode_image` makes them from normalised images.
    """

    class_embeddings: Tensor

    def __init__(
        self,
        image_encoder: str = "tf_efficientnet_lite0",
        text_encoder: str = label_queries.MINILM,
        image_size: int = 224,
        top: int = 10,
    ) -> None:
        super().__init__()
        self.image_encoder = ImageEncoder(image_encoder, image_size).load_pretrained()
        self.classifier = imagenet_classifier(image_encoder)
        self.top = top
        self.class_names = imagenet_names()
        self.register_buffer("class_embeddings", label_queries.build(self.class_names, text_encoder))
        self.requires_grad_(False).eval()

    def encode_image(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) -> image tokens (B, 1 + N, C)."""
        return self.image_encoder(images)

    def forward(self, image_tokens: Tensor) -> Tensor:
        """The vectors (B, D) of whole images, L2-normalised."""
        return self._vectors(image_tokens[:, 0])

    def scores(self, image_tokens: Tensor, queries: Tensor, pooling: Literal["mean", "max"] = "mean") -> Tensor:
        """Cosine similarities (B, T), -1..1, to label queries (T, D) of the same text encoder.

        ``max`` compares every spatial token and takes the best, which finds small things; ``mean`` the whole image.
        """
        if pooling == "mean":
            return self(image_tokens) @ queries.T
        return (self._vectors(image_tokens[:, 1:]) @ queries.T).amax(1)

    @torch.no_grad()
    def class_evidence(self, image_tokens: Tensor, queries: Tensor) -> Tensor:
        """How probable labels (T, D) are by the classes nearest to them in words, 0..1: (B, T).

        Each label is a mixture of classes by the similarity of their names; of an image's tokens the one that shows
        most of it counts.
        """
        mixture = (queries @ self.class_embeddings.T / NAME_TEMPERATURE).softmax(-1)
        shown = (self.classifier(image_tokens[:, 1:]) / CLASS_TEMPERATURE).softmax(-1)
        return (shown @ mixture.T).amax(1)

    @torch.no_grad()
    def _vectors(self, features: Tensor) -> Tensor:
        probabilities = self.classifier(features).softmax(-1)
        top, classes = probabilities.topk(self.top, dim=-1)
        weights = torch.zeros_like(probabilities).scatter(-1, classes, top)
        return F.normalize(weights @ self.class_embeddings, dim=-1)


def imagenet_names() -> list[str]:
    """The 1,000 classes of ImageNet-1k, each by its first synonym, which says it best (a tench, not Tinca tinca)."""
    return [name.split(",")[0].strip() for name in ImageNetInfo("imagenet-1k").label_descriptions()]


def imagenet_classifier(name: str) -> nn.Module:
    """The pretrained classifier of a timm model, over its pooled features."""
    weights = packaged_weights(name)
    if weights is None:
        try_hub_once()
    model: Any = timm.create_model(name, pretrained=weights is None)
    if weights is not None:
        load_by_order(model, weights)
    if model.num_classes != 1000:
        raise ValueError(f"ConSE needs a classifier of the 1,000 ImageNet classes; '{name}' has {model.num_classes}")
    classifier: nn.Module = model.get_classifier()
    return classifier


def open_logits(model: RAM, teacher: ConSE, image_tokens: Tensor, queries: Tensor) -> Tensor:
    """Logits (B, T) for labels (T, D) that ``model`` was not trained on: its own, and the teacher's log-evidence.

    A tagger that learnt a few hundred tags generalises little to others; the classifier knows a thousand more things.
    """
    return model.tag_logits(image_tokens, queries) + (teacher.class_evidence(image_tokens, queries) + 1e-6).log()
