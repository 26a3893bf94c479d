"""What a model is, as frozen dataclasses that turn into JSON and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

Size = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Label:
    """A tag that a model knows: its name, its type (object, scene, attribute, action) and its threshold.

    ``threshold`` is the probability from which the tag is predicted; None: the model's default applies.
    """

    name: str
    type: str = "object"
    threshold: float | None = None


@dataclass(frozen=True)
class CaptionerConfig:
    """Sizes of the tag encoder and the text decoder, and the special ids of their vocabulary."""

    layers: Count = 12
    heads: Size = 12
    vocabulary: Size = 30524
    positions: Size = 512
    tag_length: Size = 40  # the tags are padded or cut to so many tokens
    pad_id: Count = 0
    end_id: Count = 102  # [SEP]
    caption_id: Count = 30522  # [DEC], the first token of a caption
    tags_id: Count = 30523  # [ENC], the first token of the tags
    prompt: str = ""  # words that every generated caption goes on from; they are cut off again


@dataclass(frozen=True)
class Decoding:
    """How captions are written: ``by`` beam search, greedily with one of the ``beams``, or by nucleus sampling.

    The latter (Holtzman et al. 2020) draws from the likeliest words that together have the probability ``top_p``.
    Lengths are in word pieces and count the first id and the prompt.
    """

    by: Literal["beam", "nucleus"] = "beam"
    beams: int = 3
    top_p: float = 0.9
    min_length: int = 10
    max_length: int = 30


@dataclass(frozen=True)
class TaggerConfig:
    """Every size of a tagger. The defaults are the published RAM with Swin-B at 224 pixels."""

    architecture: Literal["tag2text", "ram"] = "ram"
    image_encoder: str = "swin_base_patch4_window7_224"  # a timm model
    image_encoder_options: dict[str, Any] = field(default_factory=dict)  # passed on to timm.create_model
    image_size: Annotated[int, Field(ge=1, le=4096)] = 224
    image_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    image_std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    hidden: Size = 768
    feed_forward: Size = 3072
    decoder_layers: Count = 2  # 0, with token evidence: tags are read off single tokens alone
    decoder_heads: Size = 4
    dropout: Share = 0.1
    labels: Count = 4585
    query_width: Size = 512  # RAM: width of the label queries and of the projected image tokens
    token_evidence: bool = False  # add each label's strongest single token to its logit; not in the published models
    mean_evidence: bool = False  # read that logit off the mean token instead: a linear classifier of the whole image
    text_classifier: bool = False  # RAM: add a classifier vector made from the label query; not in the published model
    descriptions: Size = 1  # RAM++: texts a label, which each image weighs anew
    text_encoder: str = "open_clip:ViT-B-16"  # RAM: what made the label queries, see models.label_queries
    captioner: CaptionerConfig | None = CaptionerConfig()
    threshold: float = 0.68  # for labels without their own

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> TaggerConfig:
        """The inverse of :meth:`to_json`; raises ValueError, for an unknown key too (a newer version's, perhaps)."""
        config = _adapter().validate_json(text, strict=True)
        unknown = set(json.loads(text)) - {each.name for each in fields(cls)}
        if unknown:
            raise ValueError(f"unknown {sorted(unknown)}; it may be of a newer version or another tool")
        return config


@cache
def _adapter() -> TypeAdapter[TaggerConfig]:
    return TypeAdapter(TaggerConfig)


def label_thresholds(config: TaggerConfig, labels: Sequence[Label]) -> list[float]:
    """Every label's threshold, a probability: its own or the configuration's."""
    return [config.threshold if label.threshold is None else label.threshold for label in labels]
