"""The post-norm transformer layer of BERT (Devlin et al. 2019), with the parameter names of its public checkpoints.

One layer serves all three text-side parts: the recognition decoder has cross-attention only, the tag encoder and the
text decoder have both kinds. Keys and values may have another width than the queries. A module's keys and values
are computed apart from its attention, so that they can be kept: over the steps of a generated caption, for instance.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KeysValues = tuple[Tensor, Tensor]  # each (B, heads, N, width of a head)


class _Projections(nn.Module):
    def __init__(self, width: int, context_width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(context_width, width)
        self.value = nn.Linear(context_width, width)


class _Output(nn.Module):
    """Back to the hidden width, then residual and norm."""

    def __init__(self, inner: int, width: int, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, width)
        self.LayerNorm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, inner: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(inner)) + residual)


class _Intermediate(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, inner)

    def forward(self, hidden: Tensor) -> Tensor:
        return F.gelu(self.dense(hidden))


class Attention(nn.Module):
    """Multi-head attention from hidden states to a context."""

    def __init__(self, width: int, heads: int, context_width: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"a hidden width of {width} cannot be divided among {heads} heads")
        self.heads = heads
        self.self = _Projections(width, context_width)
        self.output = _Output(width, width, dropout)

    def _split(self, states: Tensor) -> Tensor:
        return states.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def query(self, hidden: Tensor) -> Tensor:
        """(B, T, width) to (B, heads, T, width of a head)."""
        return self._split(self.self.query(hidden))

    def keys_values(self, context: Tensor) -> KeysValues:
        """Of a context (B, N, context width)."""
        return self._split(self.self.key(context)), self._split(self.self.value(context))

    def forward(
        self, hidden: Tensor, keys_values: KeysValues, mask: Tensor | None = None, query: Tensor | None = None
    ) -> Tensor:
        """``hidden`` (B or 1, T, width) attends to the context; ``mask`` is True where it may.

        A batch of one attends to every context of the batch. ``query`` may be given where it is known already.
        """
        keys, values = keys_values
        query = self.query(hidden) if query is None else query
        # the fused kernels do not broadcast; expand copies nothing
        query = query.expand(keys.shape[0], -1, -1, -1)
        # no dropout of attention weights: no fused kernel on a CPU does it, and drawing it takes a fifth of a step
        mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        return self.output(mixed.transpose(1, 2).flatten(2), hidden)

    def weights(self, hidden: Tensor, keys: Tensor) -> Tensor:
        """Attention weights, averaged over the heads: (B, T, N), rows sum to one."""
        query = self.query(hidden) * (keys.shape[-1] ** -0.5)
        return (query @ keys.transpose(-1, -2)).softmax(-1).mean(1)


class BertLayer(nn.Module):
    """Self-attention (where asked for), cross-attention and feed-forward."""

    def __init__(
        self, width: int, heads: int, feed_forward: int, context_width: int, dropout: float, self_attention: bool = True
    ) -> None:
        super().__init__()
        if self_attention:
            self.attention = Attention(width, heads, width, dropout)
        self.crossattention = Attention(width, heads, context_width, dropout)
        self.intermediate = _Intermediate(width, feed_forward)
        self.output = _Output(feed_forward, width, dropout)

    def forward(
        self, hidden: Tensor, context: KeysValues, mask: Tensor | None = None, cache: Any = None, index: int = 0
    ) -> Tensor:
        """``mask`` (B, 1, 1 or T, T) is for the self-attention; ``cache`` (transformers') keeps its keys and values."""
        keys_values = self.attention.keys_values(hidden)
        if cache is not None:
            keys_values = cache.update(*keys_values, index)
        hidden = self.attention(hidden, keys_values, mask)
        return self.cross_and_feed_forward(hidden, context)

    def cross_and_feed_forward(self, hidden: Tensor, context: KeysValues, query: Tensor | None = None) -> Tensor:
        hidden = self.crossattention(hidden, context, query=query)
        return self.output(self.intermediate(hidden), hidden)


class BertEncoder(nn.Module):
    """A stack of layers."""

    def __init__(self, layers: int, **sizes: Any) -> None:
        super().__init__()
        self.layer = nn.ModuleList(BertLayer(**sizes) for _ in range(layers))

    def layers(self) -> list[BertLayer]:
        return cast("list[BertLayer]", list(self.layer))


class BertEmbeddings(nn.Module):
    """Word and position embeddings; no token types."""

    def __init__(self, vocabulary: int, positions: int, width: int, pad_id: int, dropout: float) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(vocabulary, width, padding_idx=pad_id)
        self.position_embeddings = nn.Embedding(positions, width)
        self.LayerNorm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Tensor, start: int = 0) -> Tensor:
        """(B, L) ids whose first stands at position ``start`` -> (B, L, width)."""
        positions = torch.arange(start, start + ids.shape[1], device=ids.device)
        return self.dropout(self.LayerNorm(self.word_embeddings(ids) + self.position_embeddings(positions)))


def initialise(module: nn.Module) -> None:
    """BERT's initialisation, for ``Module.apply``: normal with deviation 0.02, biases zero."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
