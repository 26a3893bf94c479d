"""Our scene graphs are sng_parser's own, caption for caption."""

from __future__ import annotations

import csv
from collections.abc import Sequence

import pytest
import sng_parser

from tasks.parsing import scene_graphs
from tasks.parsing.language_model import LANGUAGE_MODEL, language_model
from tasks.parsing.tokens import Tokens
from tests.conftest import shared

CAPTIONS = [
    "A woman is playing the piano in the room .",
    "The piano is played by a woman .",
    "A piano in front of a tall man and a small boy next to a red and white bus",
    "A woman standing next to a piano , looking at it .",
    "The woman is a pianist who gonna play , ai n't she ? Let 's go !",
    "There are two dogs ; y'all got ta see them",
    "Two dogs running",
    "where are you , i wonder",
    "WHERE ARE YOU , I wonder",
    "",
    "\u00e9 \u4e00 \n\t <b>a  b</b>",
]


def flickr8k() -> list[str]:
    with shared("data/flickr8k/captions.csv").open(encoding="utf-8", newline="") as file:
        return list(dict.fromkeys(row["caption"] for row in csv.DictReader(file)))


def assert_equal_graphs(captions: Sequence[str]) -> None:
    theirs = sng_parser.Parser("spacy", model=LANGUAGE_MODEL)
    documents = language_model().pipe(captions, batch_size=256)
    for caption, document in zip(captions, documents, strict=True):
        tokens = Tokens.from_doc(document)
        assert scene_graphs.as_dict(tokens, scene_graphs.build(tokens)) == theirs.parse(caption), caption


def test_every_branch_of_the_graph() -> None:
    assert_equal_graphs(CAPTIONS)


def test_a_sample_of_flickr8k() -> None:
    assert_equal_graphs(flickr8k()[::100])


@pytest.mark.soak
def test_all_of_flickr8k() -> None:
    assert_equal_graphs(flickr8k())
