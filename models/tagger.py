"""What Tag2Text and RAM have in common: an image encoder, a recognition decoder and, where wanted, a captioner."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from huggingface_hub import ModelHubMixin
from torch import Tensor, nn

from models import tagger_folder
from models.config import Decoding, Label, TaggerConfig, label_thresholds
from models.image_encoder import ImageEncoder, Preprocessing, grid_side
from models.losses import caption_loss
from models.recognition_decoder import RecognitionDecoder
from models.text import CaptionTokenizer
from models.weights import model_folder

if TYPE_CHECKING:
    from models.captioner import Captioner


class TaggerOutput(NamedTuple):
    """What one training step needs."""

    tag_logits: Tensor  # (B, T)
    caption_loss: Tensor | None  # a scalar, where captions were given
    distillation_embedding: Tensor | None  # (B, query width), RAM only
    extra_logits: Tensor | None  # (B, E), where extra label queries were given


class Tagger(nn.Module, ModelHubMixin):
    """Base of :class:`Tag2Text` and :class:`RAM`. ``save_pretrained``, ``push_to_hub``: from huggingface_hub.

    ``labels`` are the tags, in the order of the logits; without them they are named by number.
    ``tokenizer`` belongs to the captioner.
    """

    label_queries: Any
    recognition_decoder: RecognitionDecoder

    def __init__(
        self,
        config: TaggerConfig,
        labels: Sequence[Label] | None = None,
        tokenizer: CaptionTokenizer | None = None,
    ) -> None:
        super().__init__()
        self.labels = list(labels) if labels is not None else [Label(f"label {i}") for i in range(config.labels)]
        if len(self.labels) != config.labels:
            raise ValueError(f"the configuration has {config.labels} labels, but {len(self.labels)} are given")
        if not config.decoder_layers and not config.token_evidence:
            raise ValueError(
                "a tagger without decoder layers needs token evidence: nothing else would look at the image"
            )
        self.config = config
        self.tokenizer = tokenizer
        self.image_encoder = ImageEncoder(config.image_encoder, config.image_size, config.image_encoder_options)
        width = self._context_width()
        self.recognition_decoder = RecognitionDecoder(
            config.decoder_layers, config.hidden, config.decoder_heads, config.feed_forward, width, config.dropout
        )
        # how far the strongest token alone counts: infinitely sharp is the maximum (multiple-instance learning)
        self.sharpness: nn.Parameter | None = None
        if config.token_evidence:
            self.sharpness = nn.Parameter(torch.tensor(2.0), requires_grad=not config.mean_evidence)
        self.captioner: Captioner | None = None
        if config.captioner is not None:
            from models.captioner import Captioner  # what it is built on takes seconds to load

            self.captioner = Captioner(config.captioner, config.hidden, config.feed_forward, width, config.dropout)
            self.captioner.tag_encoder.share_with(self.recognition_decoder)

    @abstractmethod
    def _context_width(self) -> int: ...

    @abstractmethod
    def context(self, image_tokens: Tensor) -> Tensor:
        """Image tokens (B, 1 + N, C) as recognition decoder and captioner see them: (B, 1 + N, their width)."""

    @abstractmethod
    def _queries(self, context: Tensor, label_queries: Tensor | None, tag_ids: Tensor | None) -> Tensor:
        """(1 or B, T, hidden)"""

    @abstractmethod
    def _classify(self, hidden: Tensor, label_queries: Tensor | None, tag_ids: Tensor | None) -> Tensor:
        """(B, T, hidden) -> (B, T)"""

    @abstractmethod
    def _token_logits(self, context: Tensor, label_queries: Tensor | None, tag_ids: Tensor | None) -> Tensor:
        """Each spatial token on its own: (B, N, width) -> (B, N, T); only with ``token_evidence``."""

    @property
    def preprocessing(self) -> Preprocessing:
        """What the image encoder expects of its images."""
        return Preprocessing(self.config.image_size, self.config.image_mean, self.config.image_std)

    def thresholds(self) -> Tensor:
        """Every label's threshold, a probability: (T,)."""
        return torch.tensor(label_thresholds(self.config, self.labels))

    def set_thresholds(self, thresholds: Sequence[float]) -> None:
        """One probability a label; they are saved with the model."""
        self.labels = [
            replace(label, threshold=float(value)) for label, value in zip(self.labels, thresholds, strict=True)
        ]

    def encode_image(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) -> image tokens (B, 1 + N, C), the mean token first."""
        return self.image_encoder(images)

    def tag_logits(
        self, image_tokens: Tensor, label_queries: Tensor | None = None, tag_ids: Tensor | None = None
    ) -> Tensor:
        """Logits (B, T) of the labels, for image tokens (B, 1 + N, C).

        ``label_queries`` (T', D), see :mod:`models.label_queries`, asks for other labels than the model's own (RAM).
        ``tag_ids``, (K,) or (B, K), asks for some of the labels only, the latter for each image its own.
        """
        return self._tag_logits(self.context(image_tokens), label_queries, tag_ids)

    def _tag_logits(
        self, context: Tensor, label_queries: Tensor | None = None, tag_ids: Tensor | None = None
    ) -> Tensor:
        evidence = self._evidence(context, label_queries, tag_ids) if self.sharpness is not None else None
        if not self.config.decoder_layers and evidence is not None:
            return evidence
        queries = self._queries(context, label_queries, tag_ids)
        logits = self._classify(self.recognition_decoder(queries, context), label_queries, tag_ids)
        return logits if evidence is None else logits + evidence

    def _evidence(self, context: Tensor, label_queries: Tensor | None, tag_ids: Tensor | None) -> Tensor:
        """(B, T): the soft maximum over the spatial tokens; where all say the same, just that. Or the mean token's."""
        if self.config.mean_evidence:
            return self._token_logits(context[:, :1], label_queries, tag_ids)[:, 0]
        logits = self._token_logits(context[:, 1:], label_queries, tag_ids)
        sharpness = self._sharpness()
        return (torch.logsumexp(logits * sharpness, dim=1) - math.log(logits.shape[1])) / sharpness

    def _sharpness(self) -> Tensor:
        if self.sharpness is None:
            raise ValueError("this model was configured without token evidence")
        return self.sharpness

    def tag_attention(
        self, image_tokens: Tensor, tag_ids: Tensor | None = None, label_queries: Tensor | None = None
    ) -> Tensor:
        """Where each tag looks: the last layer's cross-attention, mean over heads, (B, K, grid, grid).

        A model without decoder layers looks where its token evidence comes from: each token's share in the tag's logit.
        ``tag_ids`` is (K,) or (B, K). The mean token's share is left out: a map sums to at most one.
        """
        context = self.context(image_tokens)
        if not self.config.decoder_layers:
            evidence = self._token_logits(context[:, 1:], label_queries, tag_ids)
            shares = (evidence * self._sharpness()).softmax(dim=1).mT
            side = grid_side(shares.shape[-1])
            return shares.unflatten(-1, (side, side))
        attention = self.recognition_decoder.attention(self._queries(context, label_queries, tag_ids), context)
        side = grid_side(image_tokens.shape[1] - 1)
        return attention[..., 1:].unflatten(-1, (side, side))

    @abstractmethod
    def keep_labels(self, kept: Sequence[int], labels: Sequence[Label]) -> None:
        """Leaves the model only the labels of these numbers, in this order, under the names of ``labels``."""

    def caption_loss(
        self, image_tokens: Tensor, caption_ids: Tensor, tag_token_ids: Tensor, ignore_first: int = 0
    ) -> Tensor:
        """Mean loss a word. ``caption_ids`` are from ``tokenizer.captions``, the other from :meth:`tag_token_ids`."""
        return self._caption_loss(self.context(image_tokens), caption_ids, tag_token_ids, ignore_first)

    def _caption_loss(
        self, context: Tensor, caption_ids: Tensor, tag_token_ids: Tensor, ignore_first: int = 0
    ) -> Tensor:
        captioner = self._captioner()
        logits = captioner.logits(caption_ids, captioner.encode_tags(tag_token_ids, context))
        return caption_loss(logits, caption_ids, captioner.config.pad_id, ignore_first)

    def forward(
        self,
        images: Tensor,
        caption_ids: Tensor | None = None,
        tag_token_ids: Tensor | None = None,
        extra_queries: Tensor | None = None,
    ) -> TaggerOutput:
        """All that a training step needs, in one call (so that it works under data parallelism).

        ``images`` (B, 3, H, W), or image tokens (B, 1 + N, C) that were computed before. ``extra_queries`` (E, D) ask
        for more labels than the model's own (RAM).
        """
        image_tokens = self.encode_image(images) if images.ndim == 4 else images
        context = self.context(image_tokens)
        caption = None
        if caption_ids is not None and tag_token_ids is not None:
            caption = self._caption_loss(context, caption_ids, tag_token_ids)
        embedding = self._distillation_embedding(context)
        if extra_queries is None:
            return TaggerOutput(self._tag_logits(context), caption, embedding, None)
        # in one pass: all labels look at the same keys and values
        if self.config.descriptions > 1:
            extra_queries = extra_queries[:, None].expand(-1, self.config.descriptions, -1)
        logits = self._tag_logits(context, torch.cat([self.label_queries, extra_queries]))
        own, extra = logits.split([self.config.labels, len(extra_queries)], dim=1)
        return TaggerOutput(own, caption, embedding, extra)

    def _distillation_embedding(self, context: Tensor) -> Tensor | None:
        return None

    def tag_token_ids(self, tags: Sequence[Sequence[str]]) -> Tensor:
        """Tag names of each image -> ids (B, tag length) for the captioner."""
        return self._tokenizer().tags(tags, self._captioner().config.tag_length)

    @torch.inference_mode()
    def generate_captions(
        self,
        image_tokens: Tensor,
        tags: Sequence[Sequence[str]] | None = None,
        decoding: Decoding = Decoding(),
        seeds: Sequence[int] | None = None,
    ) -> list[str]:
        """A caption an image, steered by ``tags`` (names, a list an image) or by the tags that the model predicts.

        ``seeds`` as in :meth:`models.captioner.Captioner.generate`. An image's caption does not depend on its batch.
        """
        captioner, tokenizer = self._captioner(), self._tokenizer()
        context = self.context(image_tokens)
        if tags is None:
            tags = self._names(self._tag_logits(context))
        encoded = captioner.encode_tags(self.tag_token_ids(tags).to(context.device), context)
        prompt = tokenizer.words(captioner.config.prompt)
        ids = captioner.generate(encoded, prompt, decoding, seeds)
        return [tokenizer.decode(row) for row in ids[:, 1 + len(prompt) :].tolist()]

    def predicted_tags(self, image_tokens: Tensor) -> list[list[str]]:
        """The names of the labels that reach their thresholds, for each image."""
        return self._names(self.tag_logits(image_tokens))

    def _names(self, logits: Tensor) -> list[list[str]]:
        reached = logits.sigmoid() >= self.thresholds().to(logits)
        return [[self.labels[i].name for i in row.nonzero().flatten().tolist()] for row in reached]

    def _captioner(self) -> Captioner:
        if self.captioner is None:
            raise ValueError("this model has no captioner: it was configured to tag only")
        return self.captioner

    def _tokenizer(self) -> CaptionTokenizer:
        if self.tokenizer is None:
            raise ValueError("this model has no tokenizer: give one when the model is made (models.text)")
        return self.tokenizer

    def _save_pretrained(self, save_directory: Path) -> None:
        tagger_folder.save(self, save_directory)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Tagger:
        """A model folder, or a model of the hub as ``hub:OWNER/NAME``; ``options`` as of ``snapshot_download``.

        Raises FileNotFoundError for what is neither, and :class:`models.weights.WeightsError` where the hub has or
        gives none.
        """
        from models import load_tagger

        return load_tagger(model_folder(pretrained_model_name_or_path, **options))
