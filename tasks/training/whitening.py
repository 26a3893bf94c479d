"""Image tokens made easy to learn from: centred, decorrelated, of unit variance, and fewer components."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from models import RAM, Tagger
from tasks.training.data import PictureImages, TokenImages

SAMPLE = 512  # pictures that the statistics come from
LEAST_SHARE = 1e-6  # of the largest variance: smaller components are noise


@dataclass(frozen=True)
class Whitening:
    """Principal components of the image tokens, each divided by its deviation: (.., C) -> (.., K).

    The channels of an image encoder are correlated and differ by orders of magnitude; heads that read them as they are
    learn slowly. A head is trained on whitened tokens and then widened: the map is folded into the weights that read
    the tokens, so that the model takes plain ones and has no layer more than the published architecture.
    """

    mean: Tensor  # (C,)
    forward: Tensor  # (K, C)
    inverse: Tensor  # (C, K); forward @ inverse = 1

    @classmethod
    @torch.inference_mode()
    def measure(cls, images: TokenImages | PictureImages, components: int, model: Tagger | None = None) -> Whitening:
        """From some of the whole pictures; ``model`` encodes them where they are not stored as tokens."""
        chosen = np.unique(np.linspace(0, len(images) - 1, SAMPLE).astype(np.int64))
        rows = []
        for batch in images.whole(np.array_split(chosen, math.ceil(len(chosen) / 32))):
            if model is not None and batch.ndim == 4:
                batch = model.eval().encode_image(batch.to(next(model.parameters()).device)).cpu()
            rows.append(batch.flatten(0, 1))
        tokens = torch.cat(rows).double()
        mean = tokens.mean(0)
        variances, vectors = torch.linalg.eigh((tokens - mean).T @ (tokens - mean) / len(tokens))
        kept = vectors.flip(1)[:, :components]
        deviations = variances.flip(0)[:components].clamp(min=float(variances[-1]) * LEAST_SHARE + 1e-12).sqrt()
        return cls(
            mean.float().clone(), (kept / deviations).T.float().contiguous(), (kept * deviations).float().contiguous()
        )

    def to(self, device: torch.device) -> Whitening:
        return Whitening(self.mean.to(device), self.forward.to(device), self.inverse.to(device))

    def __call__(self, tokens: Tensor) -> Tensor:
        return (tokens - self.mean) @ self.forward.T

    @torch.no_grad()
    def narrow(self, model: Tagger, fresh: bool) -> None:
        """Makes ``model`` read whitened tokens: ``fresh`` weights, or those it has, expressed in the components."""
        width = len(self.forward)
        for layer in token_readers(model):
            bias = layer.bias + layer.weight @ self.mean
            weight = layer.weight @ self.inverse
            if fresh:
                start = nn.Linear(width, layer.out_features)
                weight, bias = start.weight.to(weight), start.bias.to(bias)
            _set(layer, weight, bias)

    @torch.no_grad()
    def widen(self, model: Tagger) -> None:
        """Makes ``model`` read plain tokens again, with the same results."""
        for layer in token_readers(model):
            weight = layer.weight @ self.forward
            _set(layer, weight, layer.bias - weight @ self.mean)


def token_readers(model: Tagger) -> list[nn.Linear]:
    """The layers that read image tokens as the encoder makes them, each once."""
    if isinstance(model, RAM):
        return [model.image_projection]
    layers = [*model.recognition_decoder.encoder.layer]
    if model.captioner is not None:
        layers += model.captioner.tag_encoder.encoder.layer
    attentions = [layer.crossattention.self for layer in layers]
    # the captioner shares its first layers' with the recognition decoder
    return list(dict.fromkeys(each for attention in attentions for each in (attention.key, attention.value)))


def _set(layer: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    layer.weight = nn.Parameter(weight.contiguous())
    layer.bias = nn.Parameter(bias)
    layer.in_features = weight.shape[1]
