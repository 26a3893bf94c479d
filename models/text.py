"""Word pieces of captions and tags.

The published models use the vocabulary of bert-base-uncased with two more tokens; a corpus of one's own may have a
small vocabulary made of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import Tensor

from models.sentence_encoder import minilm_folder

PAD, UNKNOWN, END, CAPTION, TAGS = SPECIAL = ("[PAD]", "[UNK]", "[SEP]", "[DEC]", "[ENC]")


class CaptionTokenizer:
    """Texts to ids and back. A caption starts with ``[DEC]``, tags with ``[ENC]``; both end with ``[SEP]``."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        missing = [token for token in SPECIAL if tokenizer.token_to_id(token) is None]
        if missing:
            raise ValueError(f"the vocabulary lacks the special tokens {missing}")
        self.tokenizer = tokenizer

    @classmethod
    def train(cls, captions: Iterable[str], vocabulary: int = 4000) -> CaptionTokenizer:
        """At most ``vocabulary`` pieces: the characters of ``captions``, then their most frequent words.

        The same captions give the same ids, which the trainers of ``tokenizers`` do not promise.
        """
        splitter = _word_pieces(models.WordPiece({UNKNOWN: 0}, unk_token=UNKNOWN))
        words: Counter[str] = Counter("|")
        for caption in captions:
            text = splitter.normalizer.normalize_str(caption)
            words.update(word for word, _ in splitter.pre_tokenizer.pre_tokenize_str(text))
        characters = sorted(set("".join(words)))
        pieces = [*SPECIAL, *characters, *(f"##{each}" for each in characters)]
        frequent = sorted((word for word in words if len(word) > 1), key=lambda word: (-words[word], word))
        return cls.of_words([*pieces, *frequent][:vocabulary])

    @classmethod
    def bert(cls) -> CaptionTokenizer:
        """The vocabulary of bert-base-uncased with ``[DEC]`` (30522) and ``[ENC]`` (30523)."""
        words = (minilm_folder() / "vocab.txt").read_text(encoding="utf-8").splitlines()
        return cls.of_words([*words, CAPTION, TAGS])

    @classmethod
    def of_words(cls, words: Sequence[str]) -> CaptionTokenizer:
        """A ready list of word pieces; an id is a place in it."""
        vocabulary = {word: index for index, word in enumerate(words)}
        tokenizer = _word_pieces(models.WordPiece(vocabulary, unk_token=UNKNOWN))
        tokenizer.add_special_tokens([token for token in (*SPECIAL, "[CLS]", "[MASK]") if token in vocabulary])
        return cls(tokenizer)

    @classmethod
    def load(cls, path: Path | str) -> CaptionTokenizer:
        return cls(Tokenizer.from_file(str(path)))

    def save(self, path: Path | str) -> None:
        self.tokenizer.save(str(path))

    def __len__(self) -> int:
        return self.tokenizer.get_vocab_size()

    def id(self, token: str) -> int:
        """The id of a special token."""
        found: int = self.tokenizer.token_to_id(token)
        return found

    def captions(self, texts: Sequence[str], max_length: int = 40) -> Tensor:
        """Ids (B, the longest, at most ``max_length``), padded behind the end."""
        rows = [self._ids(CAPTION, text, max_length) for text in texts]
        return self._pad(rows, max(map(len, rows), default=0))

    def tags(self, tags: Sequence[Sequence[str]], length: int) -> Tensor:
        """Tag names, joined by `` | ``, as ids (B, ``length``), cut or padded to that length."""
        return self._pad([self._ids(TAGS, " | ".join(each), length) for each in tags], length)

    def words(self, text: str) -> list[int]:
        """The ids of a text alone."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text up to the first ``[SEP]``, without special tokens."""
        kept: list[int] = []
        for each in ids:
            if each == self.id(END):
                break
            kept.append(int(each))
        text: str = self.tokenizer.decode(kept, skip_special_tokens=True)
        return text.strip()

    def _ids(self, first: str, text: str, max_length: int) -> list[int]:
        return [self.id(first), *self.words(text)[: max_length - 2], self.id(END)]

    def _pad(self, rows: list[list[int]], length: int) -> Tensor:
        ids = torch.full((len(rows), length), self.id(PAD))
        for row, values in enumerate(rows):
            ids[row, : len(values)] = torch.tensor(values)
        return ids


def _word_pieces(model: models.WordPiece) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer
