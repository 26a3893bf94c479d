"""Where in a picture a tag is: region proposers, and what a tagger makes of a region.

proposer = CrossAttentionProposer(model)
proposals = proposer.propose(image_tokens, [[3, 17], [5]])            # a list an image
tokens = region_tokens(image_tokens, image_of_region, boxes)          # (R, 10, C)
features = region_features(tokens)                                    # (R, C), L2-normalised
scores = region_scores(model, tokens, tag_of_region)                  # (R,), probabilities
"""

from __future__ import annotations

from models.regions.cross_attention import CrossAttentionProposer
from models.regions.features import region_features, region_scores, region_tokens
from models.regions.grounding_dino import GroundingDinoProposer
from models.regions.onnx_detector import OnnxDetectorProposer, read_classes
from models.regions.proposer import Box, Proposal

__all__ = [
    "Box",
    "CrossAttentionProposer",
    "GroundingDinoProposer",
    "OnnxDetectorProposer",
    "Proposal",
    "read_classes",
    "region_features",
    "region_scores",
    "region_tokens",
]
