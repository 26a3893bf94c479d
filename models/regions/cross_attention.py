"""Regions from the tagger's own cross-attention: no detector and no weights from outside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from models.regions.proposer import Box, Proposal
from models.tagger import Tagger


class CrossAttentionProposer:
    """Boxes round the places that a tag's label query attends to.

    The attention map is enlarged ``zoom`` times (bilinear) and cut at ``cut`` of the way from its least to its greatest
    value; every connected piece is a box, and its score is its share of the attention above the cut. At most
    ``max_regions`` a tag. A map without any contrast gives no box.
    """

    def __init__(self, model: Tagger, max_regions: int = 2, cut: float = 0.5, zoom: int = 4) -> None:
        self.model = model
        self.max_regions = max_regions
        self.cut = cut
        self.zoom = zoom

    @torch.inference_mode()
    def propose(self, images: Tensor, tag_ids: Sequence[Sequence[int]]) -> list[list[Proposal]]:
        """``images`` are image tokens (B, 1 + N, C) of the tagger's encoder; ``tag_ids`` are places in its labels."""
        # every image has its own number of tags: repeat tag 0 up to the longest list, and leave it out again
        longest = max(map(len, tag_ids), default=0)
        if not longest:
            return [[] for _ in tag_ids]
        padded = torch.tensor([[*ids, *[0] * (longest - len(ids))] for ids in tag_ids], device=images.device)
        maps = self.model.tag_attention(images, padded)
        maps = F.interpolate(maps, scale_factor=self.zoom, mode="bilinear", align_corners=False).float().cpu()
        return [
            [
                Proposal(tag_id, box, score)
                for tag_id, attention in zip(ids, image_maps.numpy(), strict=False)
                for box, score in self._boxes(attention)
            ]
            for ids, image_maps in zip(tag_ids, maps, strict=True)
        ]

    def _boxes(self, attention: NDArray[np.float32]) -> list[tuple[Box, float]]:
        low, high = float(attention.min()), float(attention.max())
        # not ">": a map of NaN gives no box either
        if not high - low > 1e-6 * high:
            return []
        above = attention - (low + self.cut * (high - low))
        pieces, count = ndimage.label(above > 0, structure=np.ones((3, 3)))
        masses = ndimage.sum_labels(above, pieces, range(1, count + 1))
        places = ndimage.find_objects(pieces)
        boxes = []
        height, width = attention.shape
        for piece in np.argsort(-masses, kind="stable")[: self.max_regions]:
            rows, columns = places[piece]
            box = (columns.start / width, rows.start / height, columns.stop / width, rows.stop / height)
            boxes.append((box, float(masses[piece] / masses.sum())))
        return boxes
