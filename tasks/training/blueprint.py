"""What a new model is made of, or the model that a training goes on from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models import (
    RAM,
    CaptionTokenizer,
    Tag2Text,
    Tagger,
    TaggerConfig,
    create_tagger,
    label_queries,
    small_captioner,
    small_config,
    tagger_folder,
)
from tasks.settings.training import TrainSettings
from tasks.training.data import TagColumns
from tasks.training.distillation import class_queries
from tasks.training.whitening import Whitening


@dataclass(frozen=True)
class Blueprint:
    """Everything that a new model is made of; or ``start``, the folder of the model to go on from."""

    config: TaggerConfig
    tags: TagColumns
    tokenizer: CaptionTokenizer | None = None
    queries: Tensor | None = None
    start: Path | None = None
    language: Whitening | None = None  # RAM: what its label queries go through in training

    def make(self, seed: int) -> Tagger:
        """The model before training."""
        torch.manual_seed(seed)
        scratch = self.start is None
        model = create_tagger(self.config, self.tags.labels, self.tokenizer, self.queries, pretrained_encoder=scratch)
        if self.start is not None:
            tagger_folder.load_weights(model, self.start)
        return model


@torch.no_grad()
def guess_frequencies(model: Tagger, frequencies: NDArray[np.float32]) -> None:
    """Makes a new model's first guess how frequent each tag is, (tags,): training need not find that first."""
    logits = torch.from_numpy(np.log(frequencies.clip(1e-4, 0.5) / (1 - frequencies.clip(1e-4, 0.5))))
    if isinstance(model, Tag2Text):
        if model.token_classifier is not None:
            nn.init.zeros_(model.token_classifier.weight)
        if model.config.decoder_layers:
            model.classifier.b.copy_(logits[None])
        elif model.token_classifier is not None:
            model.token_classifier.bias.copy_(logits)
    elif isinstance(model, RAM) and model.config.decoder_layers:
        model.classifier.bias.fill_(logits.mean())


def blueprint(
    settings: TrainSettings,
    tags: TagColumns,
    image_encoder: str,
    image_size: int,
    captions: Iterable[str] = (),
) -> Blueprint:
    """A new model of the sizes that ``settings`` name; ``captions`` give the captioner its vocabulary."""
    if not tags.ids:
        raise ValueError("the label system has no active tag to train on: lower build_labels.min_count")
    tokenizer = CaptionTokenizer.train(captions, settings.vocabulary) if settings.caption else None
    queries = None
    if settings.architecture == "ram":
        queries = label_queries.build(tags.query_texts, settings.text_encoder)
    language = _language(queries, settings.text_encoder) if queries is not None else None
    captioner = small_captioner(tokenizer, settings.captioner_layers, settings.heads) if tokenizer else None
    config = small_config(settings.architecture, len(tags.ids), image_encoder, image_size, settings.width, captioner)
    config = replace(
        config,
        decoder_layers=settings.decoder_layers,
        decoder_heads=settings.heads,
        dropout=settings.dropout,
        query_width=queries.shape[1] if queries is not None else config.query_width,
        text_encoder=settings.text_encoder,
        mean_evidence=settings.evidence == "mean",
    )
    return Blueprint(config, tags, tokenizer, queries, language=language)


def continued(folder: Path, tags: TagColumns, image_size: int) -> Blueprint:
    """The model of ``folder``, to be trained on at ``image_size``; its labels must be those of ``tags``."""
    config, labels, tokenizer = tagger_folder.read(folder, own_encoders=True)
    if [(label.name, label.type) for label in labels] != [(label.name, label.type) for label in tags.labels]:
        raise ValueError(f"the model in {folder} was trained on another label system: train it again on this one")
    language = None
    if config.architecture == "ram":
        language = _language(label_queries.build(tags.query_texts, config.text_encoder), config.text_encoder)
    return Blueprint(replace(config, image_size=image_size), tags, tokenizer, start=folder, language=language)


def _language(queries: Tensor, text_encoder: str) -> Whitening:
    """The statistics of the labels and of ImageNet's class names: a list of labels alone may be short."""
    return Whitening.of_queries(torch.cat([queries, class_queries(text_encoder)]))
