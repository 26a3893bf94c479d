from __future__ import annotations

from pathlib import Path

import pytest

from models import CaptionTokenizer
from tests.models.small import CAPTIONS


def test_captions_come_back_and_the_same_captions_give_the_same_ids(tmp_path: Path) -> None:
    tokenizer = CaptionTokenizer.train(CAPTIONS)
    ids = tokenizer.captions(CAPTIONS)
    assert [tokenizer.decode(row) for row in ids.tolist()] == CAPTIONS
    assert ids[:, 0].tolist() == [tokenizer.id("[DEC]")] * 3
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = CaptionTokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.captions(CAPTIONS).tolist() == ids.tolist()
    assert CaptionTokenizer.train(CAPTIONS).captions(CAPTIONS).tolist() == ids.tolist()


def test_unseen_words_fall_to_pieces_but_are_not_lost() -> None:
    tokenizer = CaptionTokenizer.train(CAPTIONS)
    assert tokenizer.decode(tokenizer.captions(["a Doghouse"])[0].tolist()) == "a doghouse"


def test_tags_are_cut_and_padded_to_their_length() -> None:
    tokenizer = CaptionTokenizer.train(CAPTIONS)
    ids = tokenizer.tags([["dog", "cat"], ["dog"] * 20, []], 8)
    assert ids.shape == (3, 8)
    assert ids[1, -1] == tokenizer.id("[SEP]")
    assert ids[2].tolist() == [tokenizer.id("[ENC]"), tokenizer.id("[SEP]")] + [0] * 6
    assert tokenizer.decode(ids[0].tolist()) == "dog | cat"


def test_the_published_vocabulary() -> None:
    tokenizer = CaptionTokenizer.bert()
    assert len(tokenizer) == 30524
    assert (tokenizer.id("[PAD]"), tokenizer.id("[SEP]"), tokenizer.id("[DEC]"), tokenizer.id("[ENC]")) == (
        0,
        102,
        30522,
        30523,
    )
    assert tokenizer.words("a picture of") == [1037, 3861, 1997]
    with pytest.raises(ValueError, match="lacks the special tokens"):
        CaptionTokenizer.of_words(["[UNK]", "dog"])
