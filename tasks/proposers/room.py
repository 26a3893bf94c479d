"""All region proposers, those of installed packages among them."""

from __future__ import annotations

from tasks.proposers.base import ProposerSettings
from tasks.proposers.cross_attention import CrossAttention
from tasks.proposers.grounding_dino import GroundingDino
from tasks.proposers.onnx_detector import OnnxDetector
from tasks.settings.rooms import Room

PROPOSERS = Room(
    "region proposer", "ram_engine.proposers", ProposerSettings, (CrossAttention, GroundingDino, OnnxDetector)
)
