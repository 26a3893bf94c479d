"""Pictures with boxes, and many of them on one sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

COLOURS = ("#2a78d6", "#148a60", "#6a4fc4", "#c07c00", "#d03b3b", "#55544f")
LINE = 16  # pixels of a line of text
Boxes = Sequence[tuple[Sequence[float], str]]


def boxed(image: Image.Image, boxes: Boxes, size: int) -> Image.Image:
    """``image`` within ``size`` x ``size`` pixels, with ``boxes`` (x0, y0, x1, y1 in shares) and what each is."""
    drawn = image.convert("RGB")
    scale = size / max(drawn.size)
    drawn = drawn.resize((max(1, round(drawn.width * scale)), max(1, round(drawn.height * scale))))
    pen, font = ImageDraw.Draw(drawn), ImageFont.load_default(LINE - 4)
    for number, (box, name) in enumerate(boxes):
        x0, y0, x1, y1 = (share * side for share, side in zip(box, (*drawn.size, *drawn.size), strict=True))
        colour = COLOURS[number % len(COLOURS)]
        pen.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colour, width=2)
        if name:
            place = (min(x0 + 3, drawn.width - 3), max(0.0, y0 - LINE) if y0 >= LINE else y0 + 2)
            pen.rectangle(pen.textbbox(place, name, font=font), fill=colour)
            pen.text(place, name, fill="white", font=font)
    return drawn


def grid(cells: Sequence[tuple[Image.Image, str]], size: int, columns: int = 6) -> Image.Image:
    """Pictures of at most ``size`` x ``size`` pixels in rows, each with its title below."""
    rows = max(1, math.ceil(len(cells) / columns))
    sheet = Image.new("RGB", (columns * (size + 8), rows * (size + LINE + 8)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(LINE - 4)
    for number, (image, title) in enumerate(cells):
        x, y = (number % columns) * (size + 8) + 4, (number // columns) * (size + LINE + 8) + 4
        sheet.paste(image, (x + (size - image.width) // 2, y + (size - image.height) // 2))
        pen.text((x, y + size), title, fill="black", font=font)
    return sheet
