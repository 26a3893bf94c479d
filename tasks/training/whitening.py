"""Image tokens made easy to learn from: centred, decorrelated, of unit variance, and fewer components."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from models import RAM, Tag2Text, Tagger
from tasks.training.data import PictureImages, TokenImages

SAMPLE = 256  # pictures that the statistics come from
QUERY_SHRINKAGE = 0.1  # of the mean variance
LEAST_SHARE = 1e-6  # of the largest variance: smaller components are noise


@dataclass(frozen=True)
class Whitening:
    """An affine map that makes vectors easy to learn from: (.., C) -> (.., K).

    Image tokens differ in scale by channel by orders of magnitude, and text embeddings share most of their direction;
    heads that read them as they are learn slowly. A head is trained on whitened vectors and then widened: the map is
    folded into the weights that read them, so that the model takes plain ones and has no layer more than before.
    """

    mean: Tensor  # (C,)
    forward: Tensor  # (K, C), or (C,) where each channel is only scaled
    inverse: Tensor  # (C, K), or (C,); forward @ inverse = 1

    @classmethod
    def scaling(cls, vectors: Tensor) -> Whitening:
        """Each channel of ``vectors`` (rows, C) centred and divided by its deviation; one that hardly varies is not
        blown up."""
        deviation = vectors.std(0)
        deviation = deviation + 0.15 * deviation.mean() + 1e-6
        return cls(vectors.mean(0), 1 / deviation, deviation)

    @classmethod
    def components(cls, vectors: Tensor, count: int) -> Whitening:
        """The first ``count`` principal components of ``vectors`` (rows, C), each divided by its deviation."""
        mean = vectors.double().mean(0)
        centred = vectors - mean.float()
        variances, axes = torch.linalg.eigh((centred.T @ centred).double() / len(vectors))
        kept = axes.flip(1)[:, :count]
        deviations = variances.flip(0)[:count].clamp(min=float(variances[-1]) * LEAST_SHARE + 1e-12).sqrt()
        return cls(mean.float(), (kept / deviations).T.float().contiguous(), (kept * deviations).float().contiguous())

    @classmethod
    def of_queries(cls, queries: Tensor) -> Whitening:
        """For label queries (T, D): all directions, the small ones shrunk; whitened queries have norm sqrt(D) / 2."""
        queries = queries.double()
        mean = queries.mean(0)
        covariance = (queries - mean).T @ (queries - mean) / len(queries)
        shrunk = covariance + QUERY_SHRINKAGE * covariance.diagonal().mean() * torch.eye(len(covariance)).double()
        variances, axes = torch.linalg.eigh(shrunk)
        forward = axes @ (variances.rsqrt()[:, None] * axes.T)
        norm = ((queries - mean) @ forward.T).norm(dim=1).mean()
        forward = forward * (queries.shape[1] ** 0.5 / 2 / norm)
        return cls(mean.float(), forward.float(), torch.linalg.inv(forward).float())

    @classmethod
    @torch.no_grad()  # not inference mode: the map is part of an end-to-end training's graph
    def of_tokens(cls, images: TokenImages | PictureImages, components: int, model: Tagger | None = None) -> Whitening:
        """For image tokens, from some of the whole pictures; ``model`` encodes them where they are not stored.

        ``components`` 0 only scales the channels.
        """
        chosen = np.unique(np.linspace(0, len(images) - 1, SAMPLE).astype(np.int64))
        rows = []
        for batch in images.whole(np.array_split(chosen, math.ceil(len(chosen) / 32))):
            if model is not None and batch.ndim == 4:
                batch = model.eval().encode_image(batch.to(next(model.parameters()).device)).cpu()
            rows.append(batch.flatten(0, 1))
        tokens = torch.cat(rows)
        return cls.components(tokens, components) if components else cls.scaling(tokens)

    def to(self, device: torch.device) -> Whitening:
        return Whitening(self.mean.to(device), self.forward.to(device), self.inverse.to(device))

    def __call__(self, vectors: Tensor) -> Tensor:
        return _apply(vectors - self.mean, self.forward)

    @torch.no_grad()
    def narrow(self, layers: Sequence[nn.Linear], fresh: bool) -> None:
        """Makes ``layers`` read whitened vectors: with ``fresh`` weights, or those they have, carried over."""
        for layer in layers:
            bias = layer.bias + layer.weight @ self.mean
            weight = layer.weight * self.inverse if self.inverse.ndim == 1 else layer.weight @ self.inverse
            if fresh:
                start = nn.Linear(len(self.forward), layer.out_features)
                weight, bias = start.weight.to(weight), start.bias.to(bias)
            _set(layer, weight, bias)

    @torch.no_grad()
    def widen(self, layers: Sequence[nn.Linear]) -> None:
        """Makes ``layers`` read plain vectors again, with the same results."""
        for layer in layers:
            weight = layer.weight * self.forward if self.forward.ndim == 1 else layer.weight @ self.forward
            _set(layer, weight, layer.bias - weight @ self.mean)


def _apply(vectors: Tensor, forward: Tensor) -> Tensor:
    return vectors * forward if forward.ndim == 1 else vectors @ forward.T


def query_readers(model: RAM) -> list[nn.Linear]:
    """The layers that read label queries."""
    layers = [layer for layer in (model.text_classifier, model.token_classifier) if layer is not None]
    return [model.label_projection, *layers] if model.config.decoder_layers else layers


def token_readers(model: Tagger) -> list[nn.Linear]:
    """The layers that read image tokens as the encoder makes them, each once."""
    if isinstance(model, RAM):
        return [model.image_projection]
    layers = [*model.recognition_decoder.encoder.layer]
    if model.captioner is not None:
        layers += model.captioner.tag_encoder.encoder.layer
    attentions = [layer.crossattention.self for layer in layers]
    readers = [reader for attention in attentions for reader in (attention.key, attention.value)]
    if isinstance(model, Tag2Text) and model.token_classifier is not None:
        readers.append(model.token_classifier)
    return list(dict.fromkeys(readers))  # the captioner shares its first layers' with the recognition decoder


def _set(layer: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    layer.weight = nn.Parameter(weight.contiguous())
    layer.bias = nn.Parameter(bias)
    layer.in_features = weight.shape[1]
