"""The recognition decoder: label queries look at the image, each on its own (RAM section 3.2, Tag2Text section 3.3).

No query attends to another one, so a tag's logit does not depend on which other tags are asked for, and the list of
labels may be any and as long as one likes.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.bert import BertEncoder, initialise


class RecognitionDecoder(nn.Module):
    """Layers of cross-attention and feed-forward only, post-norm.

    ``context_width`` is the width of the image tokens, which may differ from the ``hidden`` width of the queries.
    """

    def __init__(
        self, layers: int, hidden: int, heads: int, feed_forward: int, context_width: int, dropout: float
    ) -> None:
        super().__init__()
        self.encoder = BertEncoder(
            layers,
            width=hidden,
            heads=heads,
            feed_forward=feed_forward,
            context_width=context_width,
            dropout=dropout,
            self_attention=False,
        )
        self.apply(initialise)

    def forward(self, queries: Tensor, context: Tensor) -> Tensor:
        """``queries`` (1 or B, T, hidden), ``context`` (B, N, context width) -> (B, T, hidden).

        A batch of one query list is shared by all images: the first layer projects it once, not once an image.
        """
        hidden = queries
        for layer in self.encoder.layers():
            hidden = layer.cross_and_feed_forward(hidden, layer.crossattention.keys_values(context))
        return hidden

    def attention(self, queries: Tensor, context: Tensor) -> Tensor:
        """The last layer's cross-attention, mean over its heads: (B, T, N), rows sum to one."""
        *first, last = self.encoder.layers()
        hidden = queries
        for layer in first:
            hidden = layer.cross_and_feed_forward(hidden, layer.crossattention.keys_values(context))
        keys, _ = last.crossattention.keys_values(context)
        return last.crossattention.weights(hidden, keys)
