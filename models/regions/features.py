"""What a tagger makes of a region, from the image tokens that it has already: no crop is encoded anew."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from models.image_encoder import grid_side
from models.tagger import Tagger

SIDE = 3  # a region becomes SIDE x SIDE tokens


def region_tokens(image_tokens: Tensor, image_of_region: Tensor, boxes: Tensor) -> Tensor:
    """Tokens of R regions (R, 1 + 9, C), the mean first, by RoIAlign (He et al. 2017) from image tokens (B, 1 + N, C).

    ``image_of_region`` (R,) are places in the batch, ``boxes`` (R, 4) are x0, y0, x1, y1 in shares of the picture.
    The result can stand wherever image tokens can.
    """
    side = grid_side(image_tokens.shape[1] - 1)
    grid = image_tokens[:, 1:].transpose(1, 2).unflatten(2, (side, side))
    rois = torch.cat([image_of_region[:, None].to(boxes), boxes * side], dim=1).to(grid)
    spatial = roi_align(grid, rois, SIDE, aligned=True).flatten(2).transpose(1, 2)
    return torch.cat([spatial.mean(1, keepdim=True), spatial], dim=1)


def region_features(tokens: Tensor) -> Tensor:
    """Region tokens (R, 1 + 9, C) -> L2-normalised features (R, C)."""
    return F.normalize(tokens[:, 0], dim=-1)


@torch.inference_mode()
def region_scores(model: Tagger, tokens: Tensor, tag_ids: Tensor) -> Tensor:
    """The tagger's probability (R,) of each region's own tag (R,), given the region alone."""
    return model.tag_logits(tokens, tag_ids=tag_ids[:, None]).sigmoid()[:, 0]
