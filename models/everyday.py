"""Everyday words for ImageNet's classes, and where in a picture a classifier of such classes is to look.

``imagenet_words.csv`` names each class by an everyday word and by the more general ones that hold with it ("taxi; car;
vehicle"), as WordNet has them. ``python -m tasks.labels.imagenet_words`` made it.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

TABLE = Path(__file__).parent / "imagenet_words.csv"
NEARLY_SQUARE = 1.15  # the longer side over the shorter


@cache
def classes() -> tuple[tuple[str, ...], ...]:
    """The words of each of ImageNet's 1,000 classes, in the order of their numbers, the most particular word first."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        return tuple(tuple(row["words"].split("; ")) for row in csv.DictReader(file))


@cache
def words() -> tuple[str, ...]:
    """All of them, in alphabetical order."""
    return tuple(sorted({word for named in classes() for word in named}))


def kinds(of: tuple[tuple[str, ...], ...] | None = None) -> Tensor:
    """(K, words): 1 where a kind, a row of words (default: a class of ImageNet's), is of a word, else 0."""
    place = {word: number for number, word in enumerate(words())}
    of = classes() if of is None else of
    holds = torch.zeros(len(of), len(place))
    for row, named in enumerate(of):
        holds[row, [place[word] for word in named]] = 1
    return holds


def squares(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """Boxes (left, top, right, bottom) in pixels: three squares along a picture's longer side, or the whole of it.

    A classifier that learnt from squares takes a squashed car for something else.
    """
    side = min(width, height)
    if max(width, height) <= side * NEARLY_SQUARE:
        return [(0, 0, width, height)]
    corners = [(round((width - side) * at), round((height - side) * at)) for at in (0.0, 0.5, 1.0)]
    return [(left, top, left + side, top + side) for left, top in corners]


def cut(picture: Image.Image) -> list[Image.Image]:
    """The picture's :func:`squares`."""
    return [picture.crop(box) for box in squares(*picture.size)]
