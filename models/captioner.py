"""The captioner: a tag encoder that looks at the image, and a text decoder that looks at the tag encoder.

Tag2Text section 3.2 (image-tag-text generation). The tags steer what the caption speaks of. As in the published models
the tags are padded to a fixed length and the text decoder sees the padding too: those positions have looked at the
image and carry what no tag says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, GenerationMixin, LogitsProcessor, PretrainedConfig, PreTrainedModel
from transformers.generation.logits_process import LogitsProcessorList, TopPLogitsWarper
from transformers.modeling_outputs import CausalLMOutputWithPast

from models.bert import BertEmbeddings, BertEncoder, KeysValues, initialise
from models.config import CaptionerConfig, Decoding
from models.recognition_decoder import RecognitionDecoder


class _Bert(nn.Module):
    """Embeddings and layers, under the names of the released checkpoints."""

    def __init__(
        self, config: CaptionerConfig, hidden: int, feed_forward: int, context_width: int, dropout: float
    ) -> None:
        super().__init__()
        self.embeddings = BertEmbeddings(config.vocabulary, config.positions, hidden, config.pad_id, dropout)
        self.encoder = BertEncoder(
            config.layers,
            width=hidden,
            heads=config.heads,
            feed_forward=feed_forward,
            context_width=context_width,
            dropout=dropout,
        )


class TagEncoder(_Bert):
    """BERT layers with cross-attention to the image, over the word pieces of the tags."""

    def forward(self, ids: Tensor, mask: Tensor, context: Tensor) -> Tensor:
        """``ids`` (B, L) and ``mask`` (B, L, true for tags), ``context`` (B, N, C) -> (B, L, hidden)."""
        hidden = self.embeddings(ids)
        mask = mask.bool()[:, None, None, :]
        for layer in self.encoder.layers():
            hidden = layer(hidden, layer.crossattention.keys_values(context), mask)
        return hidden

    def share_with(self, decoder: RecognitionDecoder) -> None:
        """Shares the recognition decoder's cross-attention and feed-forward weights with the first layers."""
        for own, other in zip(self.encoder.layers(), decoder.encoder.layers(), strict=False):
            own.crossattention.self = other.crossattention.self
            own.crossattention.output = other.crossattention.output
            own.intermediate = other.intermediate
            own.output = other.output


class _Transform(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, hidden)
        self.LayerNorm = nn.LayerNorm(hidden, eps=1e-12)

    def forward(self, states: Tensor) -> Tensor:
        return self.LayerNorm(nn.functional.gelu(self.dense(states)))


class _Predictions(nn.Module):
    def __init__(self, hidden: int, words: nn.Embedding) -> None:
        super().__init__()
        self.transform = _Transform(hidden)
        self.decoder = nn.Linear(hidden, words.num_embeddings)
        self.decoder.weight = words.weight
        self.bias = self.decoder.bias

    def forward(self, states: Tensor) -> Tensor:
        return self.decoder(self.transform(states))


class TextDecoder(PreTrainedModel, GenerationMixin):  # type: ignore[misc]  # transformers' own clash
    """A causal BERT with cross-attention; its word embeddings are its output layer as well."""

    main_input_name = "input_ids"

    def __init__(self, config: CaptionerConfig, hidden: int, feed_forward: int, dropout: float) -> None:
        # what generation asks for: nothing here is saved
        super().__init__(
            PretrainedConfig(
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                hidden_size=hidden,
                vocab_size=config.vocabulary,
                is_decoder=True,
            )
        )
        self.generation_config = GenerationConfig(
            pad_token_id=config.pad_id, eos_token_id=config.end_id, bos_token_id=config.caption_id
        )
        self.bert = _Bert(config, hidden, feed_forward, hidden, dropout)
        self.cls = nn.ModuleDict({"predictions": _Predictions(hidden, self.bert.embeddings.word_embeddings)})
        self.apply(initialise)

    def context(self, states: Tensor) -> Tensor:
        """Keys and values of every layer for the tag encoder's output (B, L, hidden), in one tensor, batch first.

        Generation repeats it for the beams and keeps it over all steps.
        """
        layers = [torch.stack(layer.crossattention.keys_values(states), 1) for layer in self.bert.encoder.layers()]
        return torch.stack(layers, 1)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        context: Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        """Next-word logits (B, L, vocabulary), under the signature that transformers' ``generate`` calls."""
        assert context is not None
        start = past_key_values.get_seq_length() if past_key_values is not None else 0
        hidden = self.bert.embeddings(input_ids, start)
        total = start + input_ids.shape[1]
        mask = torch.ones(input_ids.shape[1], total, dtype=torch.bool, device=input_ids.device).tril(start)
        mask = mask[None, None]
        if attention_mask is not None:
            mask = mask & attention_mask.bool()[:, None, None, :]
        for index, layer in enumerate(self.bert.encoder.layers()):
            keys_values: KeysValues = (context[:, index, 0], context[:, index, 1])
            hidden = layer(hidden, keys_values, mask, past_key_values, index)
        return CausalLMOutputWithPast(logits=self.cls["predictions"](hidden), past_key_values=past_key_values)


class _GumbelNoise(LogitsProcessor):
    """Adds Gumbel noise, so that the highest score is a sample of the softmax (Gumbel 1954).

    Every image draws from a generator of its own: what it gets does not depend on its batch.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        uniform = torch.stack(
            [torch.rand(scores.shape[-1], generator=each, dtype=torch.float64) for each in self.generators]
        )
        noise = -torch.log(-torch.log(uniform.clamp(1e-300, 1 - 1e-16)))
        return scores + noise.to(scores)


class Captioner(nn.Module):
    """Tag encoder and text decoder together."""

    def __init__(
        self, config: CaptionerConfig, hidden: int, feed_forward: int, context_width: int, dropout: float
    ) -> None:
        super().__init__()
        self.config = config
        self.tag_encoder = TagEncoder(config, hidden, feed_forward, context_width, dropout).apply(initialise)
        self.text_decoder = TextDecoder(config, hidden, feed_forward, dropout)

    def encode_tags(self, tag_token_ids: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """``tag_token_ids`` (B, tag length), image ``context`` (B, N, C) -> (B, tag length, hidden)."""
        mask = tag_token_ids != self.config.pad_id if mask is None else mask
        return self.tag_encoder(tag_token_ids, mask, context)

    def logits(self, caption_ids: Tensor, encoded_tags: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits of the word after each of ``caption_ids`` (B, L): (B, L, vocabulary)."""
        return self.text_decoder(
            caption_ids, attention_mask=mask, context=self.text_decoder.context(encoded_tags)
        ).logits

    @torch.inference_mode()
    def generate(
        self,
        encoded_tags: Tensor,
        prompt_ids: Sequence[int] = (),
        decoding: Decoding = Decoding(),
        seeds: Sequence[int] | None = None,
    ) -> Tensor:
        """Captions as ids (B, up to the greatest length), the first id and the prompt included, padded after their end.

        ``seeds`` of what is drawn: one a row, by default their number in the batch.
        """
        batch = encoded_tags.shape[0]
        first = torch.tensor([self.config.caption_id, *prompt_ids], device=encoded_tags.device)
        processors = LogitsProcessorList()
        if decoding.by == "nucleus":
            processors += [TopPLogitsWarper(decoding.top_p), _GumbelNoise(range(batch) if seeds is None else seeds)]
        ids: Any = self.text_decoder.generate(
            first.repeat(batch, 1),
            attention_mask=torch.ones(batch, len(first), dtype=torch.long, device=first.device),
            context=self.text_decoder.context(encoded_tags),
            num_beams=decoding.beams if decoding.by == "beam" else 1,
            do_sample=False,
            min_length=decoding.min_length,
            max_length=decoding.max_length,
            logits_processor=processors,
        )
        return cast(Tensor, ids)
