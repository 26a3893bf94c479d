"""A sheet that shows where in a picture a model saw each tag, and says for which tags it cannot tell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

TILE, LINE, COLUMNS = 240, 18, 4
STRONGEST = 0.75  # how much of the picture the colour covers where the map is greatest
GRID = 24  # cells a side of a map that is put together from overlapping views
LEAST_SHARE = 0.1  # of a map that lies elsewhere than the labels' usual one, or above its own mean


def beyond(maps: NDArray[np.floating], usual: NDArray[np.floating]) -> tuple[NDArray[np.floating], list[bool]]:
    """What each of ``maps`` (tags, grid, grid) has beyond ``usual`` (grid, grid), and whether that tells a place.

    Maps are compared as distributions over the picture. ``usual`` is the mean map of all labels: where a model looks
    whatever it is asked, the one bright thing in the snow, say. Zeros: none is known, and a flat map is the usual one.
    """
    flat = np.full_like(usual, 1 / usual.size)
    common = usual / usual.sum() if usual.sum() > 0 else flat
    shares = maps / np.maximum(maps.sum((1, 2), keepdims=True), 1e-12)
    more = np.maximum(shares - common, 0)
    return more, [bool(share >= LEAST_SHARE) for share in more.sum((1, 2))]


def sheet(
    picture: Image.Image, texts: Sequence[str], maps: NDArray[np.floating], told: Sequence[bool] | None = None
) -> Image.Image:
    """The picture, and once more for each of ``texts`` under its map; ``maps`` (tags, grid, grid) are scaled each.

    Where ``told`` is false no map is drawn, and the text says so.
    """
    scale = TILE / max(picture.size)
    picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    tiles = [("", picture)]
    for text, seen, tells in zip(texts, maps, told or [True] * len(texts), strict=True):
        tiles.append((text, _under(picture, seen)) if tells else (f"{text}: cannot tell where", picture.convert("L")))
    columns = min(COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    height = picture.height + LINE
    drawn = Image.new("RGB", (columns * picture.width, rows * height), "white")
    pen = ImageDraw.Draw(drawn)
    for number, (text, tile) in enumerate(tiles):
        left, top = number % columns * picture.width, number // columns * height
        drawn.paste(tile, (left, top))
        pen.text((left + 4, top + picture.height + 3), text, fill="black")
    return drawn


def _under(picture: Image.Image, seen: NDArray[np.floating]) -> Image.Image:
    strength = (seen / max(float(seen.max()), 1e-9) * 255 * STRONGEST).astype(np.uint8)
    mask = Image.fromarray(strength).resize(picture.size, Image.Resampling.BICUBIC)
    return Image.composite(Image.new("RGB", picture.size, (230, 40, 20)), picture.convert("L").convert("RGB"), mask)
