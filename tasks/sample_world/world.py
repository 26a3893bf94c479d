"""The sample world: pictures with captions, and the truth about them, by seed and name alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tasks.sample_world import captions as writing
from tasks.sample_world.drawing import Box, paint
from tasks.sample_world.layout import Layout, compose
from tasks.sample_world.scenes import Rng

VERSION = 2  # raise it when the same seed gives another world
SWAPPED_OF = 12  # one training caption in so many belongs to another picture
SPLITS = ("train", "fine_tune", "calibrate", "test")
_LAYOUT, _PAINT, _CAPTION, _SWAP = range(4)  # what a random stream is for


class World(Protocol):
    """A world: its seed, and how many pictures it has of each split, in fields that are called so."""

    @property
    def seed(self) -> int: ...


@dataclass(frozen=True)
class Item:
    """A picture of the world.

    ``image`` is a JPEG of 384 x 384 pixels; ``objects`` holds a name and a box (x0, y0, x1, y1 as shares of width and
    height) for every single object; ``tags`` holds all that can be said, as (name, type): objects, the scene, visible
    attributes and visible actions; ``other_words`` what else people may call these; ``caption_of`` names the item that
    the captions describe.
    """

    name: str
    split: str
    image: bytes
    captions: tuple[str, ...]
    objects: tuple[tuple[str, Box], ...]
    tags: tuple[tuple[str, str], ...]
    other_words: tuple[tuple[str, str], ...]
    caption_of: str


def item_names(of_world: World) -> list[tuple[str, str]]:
    """Name and split of every item, nothing drawn."""
    return [(f"{split}-{index:06d}", split) for split in SPLITS for index in range(getattr(of_world, split))]


def draw(of_world: World, name: str) -> Item:
    """The item of this name, which depends on the seed and the name alone; ValueError for a name of another form."""
    split, index = _parse(name)
    layout = _layout(of_world.seed, split, index)
    image, objects = paint(layout, _rng(of_world.seed, split, index, _PAINT))
    described = caption_index(of_world.seed, split, index)
    texts = tuple(caption.text for caption in captions(of_world, name))
    words = writing.other_words(layout)
    return Item(name, split, image, texts, objects, layout.tags, words, f"{split}-{described:06d}")


def captions(of_world: World, name: str) -> tuple[writing.Caption, ...]:
    """The captions of an item with the tags that they name."""
    split, index = _parse(name)
    layout = _layout(of_world.seed, split, caption_index(of_world.seed, split, index))
    rng = _rng(of_world.seed, split, index, _CAPTION)
    return (writing.describe_partly(layout, rng),) if split == "train" else writing.describe_fully(layout, rng)


def caption_index(seed: int, split: str, index: int) -> int:
    """The number of the item whose layout the captions of this one describe: in ``train`` one in twelve is swapped."""
    if split != "train":
        return index
    block, place = divmod(index, SWAPPED_OF)
    rng = _rng(seed, split, block, _SWAP)
    swapped = int(rng.integers(1, SWAPPED_OF))
    return block * SWAPPED_OF + int(rng.integers(swapped)) if place == swapped else index


def _parse(name: str) -> tuple[str, int]:
    split, _, number = name.rpartition("-")
    if split not in SPLITS or not number.isdigit():
        raise ValueError(f"the sample world has no item '{name}': names are like train-000012")
    return split, int(number)


def _rng(seed: int, split: str, index: int, purpose: int) -> Rng:
    return np.random.default_rng([seed, SPLITS.index(split), index, purpose])


def _layout(seed: int, split: str, index: int) -> Layout:
    return compose(_rng(seed, split, index, _LAYOUT))
