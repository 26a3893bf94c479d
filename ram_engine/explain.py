"""A sheet that shows where in a picture a model saw each tag."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

TILE, LINE, COLUMNS = 240, 18, 4
STRONGEST = 0.75  # how much of the picture the colour covers where the map is greatest


def sheet(picture: Image.Image, texts: Sequence[str], maps: NDArray[np.floating]) -> Image.Image:
    """The picture, and once more for each of ``texts`` under its map; ``maps`` (tags, grid, grid) are scaled each."""
    scale = TILE / max(picture.size)
    picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    tiles = [("", picture), *((text, _under(picture, seen)) for text, seen in zip(texts, maps, strict=True))]
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
