"""RAM (arXiv 2306.03514): label queries from a text encoder, so that any label can be asked for.

With several descriptions a label each image weighs them by how well they fit it (RAM++, arXiv 2310.15200, section 3.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config import Label, TaggerConfig
from models.tagger import Tagger
from models.text import CaptionTokenizer

DESCRIPTION_TEMPERATURE = 0.07  # at the start: CLIP's


class RAM(Tagger):
    """The open-vocabulary tagger. Labels share one classifier, and their queries are frozen text embeddings."""

    def __init__(
        self,
        config: TaggerConfig,
        labels: Sequence[Label] | None = None,
        tokenizer: CaptionTokenizer | None = None,
        label_queries: Tensor | None = None,
    ) -> None:
        """``label_queries`` (labels, query width): see :mod:`models.label_queries`; None: zeros, to be loaded.

        With ``config.descriptions`` above 1 they are (labels, descriptions, query width).
        """
        super().__init__(config, labels, tokenizer)
        if config.descriptions > 1 and (config.text_classifier or config.token_evidence or not config.decoder_layers):
            raise ValueError("several descriptions a label are for the published RAM: decoder layers and nothing more")
        self.image_projection = nn.Linear(self.image_encoder.width, config.query_width)
        self.text_classifier: nn.Linear | None = None
        if config.decoder_layers:
            self.label_projection = nn.Linear(config.query_width, config.hidden)
            self.classifier = nn.Linear(config.hidden, 1)
            if config.text_classifier:
                self.text_classifier = nn.Linear(config.query_width, config.hidden)
        self.token_classifier = nn.Linear(config.query_width, config.query_width) if config.token_evidence else None
        self.description_scale: nn.Parameter | None = None
        shape: tuple[int, ...] = (config.labels, config.query_width)
        if config.descriptions > 1:
            self.description_scale = nn.Parameter(torch.tensor(DESCRIPTION_TEMPERATURE).reciprocal().log())
            shape = (config.labels, config.descriptions, config.query_width)
        queries = torch.zeros(shape) if label_queries is None else label_queries.float()
        if queries.shape != shape:
            raise ValueError(f"the label queries have shape {tuple(queries.shape)}, the configuration says {shape}")
        self.label_queries = nn.Parameter(queries, requires_grad=False)

    def _context_width(self) -> int:
        return self.config.query_width

    def context(self, image_tokens: Tensor) -> Tensor:
        return self.image_projection(image_tokens)

    def _queries(self, context: Tensor, label_queries: Tensor | None, tag_ids: Tensor | None) -> Tensor:
        queries = self.label_queries if label_queries is None else label_queries
        described = queries.ndim == 3
        queries = queries if tag_ids is None else queries[tag_ids]
        if described:
            queries = self._weighed(queries, context[:, 0])
        queries = self.label_projection(queries).relu()
        return queries if queries.ndim == 3 else queries[None]

    def _weighed(self, descriptions: Tensor, image: Tensor) -> Tensor:
        """Descriptions (T or B, T; K, D) -> each image's own mixture of them (B, T, D)."""
        if self.description_scale is None:
            raise ValueError("this model was configured with one description a label: give label queries (T, D)")
        direction = F.normalize(image, dim=-1)
        similar = (descriptions @ direction[:, None, :, None]).squeeze(-1)  # (B, T, K)
        weights = (self.description_scale.exp() * similar).softmax(-1)
        return (weights.unsqueeze(-2) @ descriptions).squeeze(-2)

    def _classify(self, hidden: Tensor, label_queries: Tensor | None, tag_ids: Tensor | None) -> Tensor:
        logits = self.classifier(hidden).squeeze(-1)
        if self.text_classifier is None:
            return logits
        queries = self.label_queries if label_queries is None else label_queries
        weights = self.text_classifier(queries if tag_ids is None else queries[tag_ids])
        return logits + (hidden * weights).sum(-1) / self.config.hidden**0.5

    def _token_logits(self, context: Tensor, label_queries: Tensor | None, tag_ids: Tensor | None) -> Tensor:
        if self.token_classifier is None:
            raise ValueError("this model was configured without token evidence")
        queries = self.label_queries if label_queries is None else label_queries
        vectors = self.token_classifier(queries if tag_ids is None else queries[tag_ids])
        return context @ vectors.mT / self.config.query_width**0.5

    def keep_labels(self, kept: Sequence[int], labels: Sequence[Label]) -> None:
        self.config, self.labels = replace(self.config, labels=len(labels)), list(labels)
        self.label_queries = nn.Parameter(self.label_queries[list(kept)].clone(), requires_grad=False)

    def distillation_embedding(self, image_tokens: Tensor) -> Tensor:
        """The projected mean token (B, query width), which the teacher's image vector is to be met by."""
        return self.image_projection(image_tokens[:, 0])

    def _distillation_embedding(self, context: Tensor) -> Tensor:
        return context[:, 0]
