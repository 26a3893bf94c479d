"""Small models that the tests share, and the place of the shared data."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models import CaptionTokenizer, Label, Tagger, create_tagger, small_captioner, small_config

CAPTIONS = ["a red dog runs on the beach", "a cat sits on a chair and looks at the dog", "two dogs"]
LABELS = [Label("dog"), Label("cat"), Label("beach", "scene"), Label("red", "attribute", 0.3), Label("run", "action")]
SHARED = Path(os.environ.get("RAM_ENGINE_SHARED", "")) if os.environ.get("RAM_ENGINE_SHARED") else None

needs_shared = pytest.mark.skipif(SHARED is None, reason="RAM_ENGINE_SHARED is not set")


def fixture(kind: str) -> Path:
    assert SHARED is not None
    return SHARED / "parity" / f"{kind}_swin_b_224"


def small_tagger(architecture: str, seed: int = 0, decoder_layers: int = 2) -> Tagger:
    """A tagger with random weights, 64 wide, in float64 and eval mode: near-ties cannot flip a caption."""
    torch.manual_seed(seed)
    tokenizer = CaptionTokenizer.train(CAPTIONS)
    config = small_config(architecture, len(LABELS), hidden=64, captioner=small_captioner(tokenizer))  # type: ignore[arg-type]
    config = replace(config, decoder_layers=decoder_layers)
    queries = torch.randn(len(LABELS), 384) if architecture == "ram" else None
    model = create_tagger(config, LABELS, tokenizer, queries, pretrained_encoder=False)
    assert model.captioner is not None
    with torch.no_grad():  # as they start, all words are nearly as likely
        for parameter in model.captioner.parameters():
            parameter.mul_(3)
    return model.double().eval()


def image_tokens(batch: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, 50, 1280, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
