"""CLIP by any open_clip model: the image side, in whose space the label queries of the same model lie."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.v2.functional import normalize

from models.image_encoder import Preprocessing
from models.label_queries import OPEN_CLIP, open_clip_model


class CLIP(nn.Module):
    """The image encoder of ``text_encoder``, named as in :mod:`models.label_queries` (``open_clip:ViT-B-16``)."""

    def __init__(self, text_encoder: str) -> None:
        super().__init__()
        if not text_encoder.startswith(OPEN_CLIP):
            raise ValueError(f"'{text_encoder}' is no CLIP: say open_clip:MODEL or open_clip:MODEL:PRETRAINED")
        self.model = open_clip_model(text_encoder).requires_grad_(False)
        known = self.model.visual.preprocess_cfg
        size = known["size"] if isinstance(known["size"], int) else known["size"][0]
        self.preprocessing = Preprocessing(size, tuple(known["mean"]), tuple(known["std"]))

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, size, size), normalised as :attr:`preprocessing` does -> features (B, D), not normalised."""
        features: Tensor = self.model.encode_image(images)
        return features

    def view(self, images: Tensor, theirs: Preprocessing) -> Tensor:
        """The same pictures as another model saw, (B, 3, H, W) normalised its way, at CLIP's size and its own way."""
        std, mean = torch.tensor(theirs.std), torch.tensor(theirs.mean)
        plain = images * std[:, None, None].to(images) + mean[:, None, None].to(images)
        size = [self.preprocessing.image_size] * 2
        resized = F.interpolate(plain, size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        return normalize(resized, list(self.preprocessing.mean), list(self.preprocessing.std))
