"""Tag2Text (arXiv 2303.05657): a learned query and a classifier of its own for every label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from models.config import Label, TaggerConfig
from models.tagger import Tagger
from models.text import CaptionTokenizer


class LabelClassifier(nn.Module):
    """One weight vector and one bias a label."""

    def __init__(self, labels: int, hidden: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(1, labels, hidden).uniform_(-(hidden**-0.5), hidden**-0.5))
        self.b = nn.Parameter(torch.zeros(1, labels))

    def forward(self, hidden: Tensor, tag_ids: Tensor | None = None) -> Tensor:
        weight, bias = (self.W, self.b) if tag_ids is None else (self.W[0][tag_ids], self.b[0][tag_ids])
        return (hidden * weight).sum(-1) + bias


class Tag2Text(Tagger):
    """The closed-vocabulary tagger: its labels are those it was trained with."""

    def __init__(
        self,
        config: TaggerConfig,
        labels: Sequence[Label] | None = None,
        tokenizer: CaptionTokenizer | None = None,
    ) -> None:
        super().__init__(config, labels, tokenizer)
        if config.decoder_layers:
            self.label_queries = nn.Embedding(config.labels, config.hidden)
            self.classifier = LabelClassifier(config.labels, config.hidden)
        width = self.image_encoder.width
        self.token_classifier = nn.Linear(width, config.labels) if config.token_evidence else None

    @torch.no_grad()
    def keep_labels(self, kept: Sequence[int], labels: Sequence[Label]) -> None:
        rows = list(kept)
        self.config, self.labels = replace(self.config, labels=len(labels)), list(labels)
        if self.config.decoder_layers:
            self.label_queries = nn.Embedding.from_pretrained(self.label_queries.weight[rows], freeze=False)
            self.classifier.W = nn.Parameter(self.classifier.W[:, rows])
            self.classifier.b = nn.Parameter(self.classifier.b[:, rows])
        if self.token_classifier is not None:
            narrow = nn.Linear(self.token_classifier.in_features, len(rows))
            narrow.weight.copy_(self.token_classifier.weight[rows])
            narrow.bias.copy_(self.token_classifier.bias[rows])
            self.token_classifier = narrow

    def _context_width(self) -> int:
        return self.image_encoder.width

    def context(self, image_tokens: Tensor) -> Tensor:
        return image_tokens

    def _queries(self, context: Tensor, label_queries: Tensor | None, tag_ids: Tensor | None) -> Tensor:
        if label_queries is not None:
            raise ValueError("Tag2Text knows only the labels it was trained with; for other labels take a RAM")
        queries = self.label_queries.weight if tag_ids is None else self.label_queries(tag_ids)
        return queries if queries.ndim == 3 else queries[None]

    def _classify(self, hidden: Tensor, label_queries: Tensor | None, tag_ids: Tensor | None) -> Tensor:
        return self.classifier(hidden, tag_ids)

    def _token_logits(self, context: Tensor, label_queries: Tensor | None, tag_ids: Tensor | None) -> Tensor:
        if self.token_classifier is None:
            raise ValueError("this model was configured without token evidence")
        if tag_ids is None:
            return self.token_classifier(context)
        bias = self.token_classifier.bias[tag_ids]
        return context @ self.token_classifier.weight[tag_ids].mT + (bias if bias.ndim == 1 else bias[:, None])
