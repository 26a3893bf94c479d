"""Backgrounds of the sample world: gradients, texture and clutter, drawn anew for every picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

SIZE = 384  # pixels, width and height

Colour = tuple[int, int, int]
Rng = np.random.Generator


@dataclass(frozen=True)
class Scene:
    """A place: how it is called, where its ground begins, and who draws it."""

    name: str  # the tag
    words: tuple[str, ...]  # what people call it
    where: tuple[str, ...]  # how captions place something there; {} stands for the word
    attribute: str  # how it visibly is, if that can be said
    ground: str  # land, water, room or air
    horizon: float  # height of the line where the ground begins, as a share of the picture; 1: there is none
    paint: Callable[[Rng, int], Image.Image]  # called with the horizon's row in pixels


@cache
def _noise(scale: int) -> NDArray[np.float32]:
    """A fixed field of smooth noise, (2 x SIZE, 2 x SIZE), about -1..1, its spots ``scale`` pixels wide."""
    rng = np.random.default_rng(scale)
    cells = 2 * SIZE // scale
    grid = Image.fromarray(rng.normal(0, 0.6, (cells, cells)).astype(np.float32))
    return np.asarray(grid.resize((2 * SIZE, 2 * SIZE), Image.Resampling.BICUBIC))


def _texture(rng: Rng, scale: int, height: int) -> NDArray[np.float32]:
    """A piece of the noise field, (height, SIZE)."""
    top, left = rng.integers(0, 2 * SIZE - height + 1), rng.integers(0, SIZE + 1)
    return _noise(scale)[top : top + height, left : left + SIZE]


def _vary(rng: Rng, colour: Colour) -> NDArray[np.float32]:
    return (np.array(colour) + rng.normal(0, 10) + rng.normal(0, 6, 3)).astype(np.float32)


def _gradient(
    rng: Rng, height: int, top: Colour, bottom: Colour, scales: tuple[tuple[int, float], ...]
) -> NDArray[np.float32]:
    """A vertical gradient, (height, SIZE, 3), roughened by noise of (scale, strength in grey levels)."""
    share = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    rough = np.zeros((height, SIZE), np.float32)
    for scale, strength in scales:
        rough += _texture(rng, scale, height) * np.float32(strength)
    return rough[..., None] + (_vary(rng, top) * (1 - share) + _vary(rng, bottom) * share)


def _stack(*fields: NDArray[np.float32]) -> Image.Image:
    """The picture of these fields, one below the other."""
    pixels = np.concatenate(fields)
    np.clip(pixels, 0, 255, out=pixels)
    return Image.fromarray(pixels.astype(np.uint8))


_ROUGH = ((3, 9.0), (16, 7.0), (96, 10.0))
_SMOOTH = ((48, 5.0), (96, 9.0))


def _day_sky(rng: Rng, height: int) -> NDArray[np.float32]:
    kinds: list[tuple[Colour, Colour]] = [
        ((90, 160, 225), (200, 228, 245)),
        ((150, 180, 205), (215, 220, 225)),
        ((110, 130, 190), (250, 200, 160)),
        ((70, 140, 215), (160, 205, 240)),
    ]
    top, bottom = kinds[rng.integers(len(kinds))]
    return _gradient(rng, height, top, bottom, _SMOOTH)


def _shade(colour: Colour, rng: Rng, spread: int = 18) -> Colour:
    shift = int(rng.integers(-spread, spread + 1))
    red, green, blue = (min(max(channel + shift, 0), 255) for channel in colour)
    return red, green, blue


def _hills(image: Image.Image, rng: Rng, horizon: int, colour: Colour, height: float, peaks: int) -> None:
    """A ridge that stands on the horizon."""
    draw = ImageDraw.Draw(image)
    xs = np.linspace(-30, SIZE + 30, peaks * 2 + 1)
    ys = horizon - rng.uniform(0.2, 1, len(xs)) * height * np.where(np.arange(len(xs)) % 2, 1.0, 0.25)
    outline = [(float(x), float(y)) for x, y in zip(xs, ys, strict=True)]
    draw.polygon([(-30, horizon), *outline, (SIZE + 30, horizon)], fill=_shade(colour, rng))


def _blobs(
    image: Image.Image, rng: Rng, number: int, rows: tuple[int, int], colours: tuple[Colour, ...],
    radius: tuple[float, float], flat: float = 0.6,
) -> None:  # fmt: skip
    """Pebbles, tufts, patches: small ellipses strewn between two ``rows``, larger where they are nearer."""
    draw = ImageDraw.Draw(image)
    top, bottom = rows
    for _ in range(number):
        x, y = rng.uniform(0, SIZE), rng.uniform(top, max(bottom, top + 1))
        size = rng.uniform(*radius) * (0.5 + (y - top) / max(bottom - top, 1))
        colour = _shade(colours[rng.integers(len(colours))], rng)
        draw.ellipse((x - size, y - size * flat, x + size, y + size * flat), fill=colour)


def _strokes(
    image: Image.Image, rng: Rng, number: int, rows: tuple[int, int], colours: tuple[Colour, ...],
    length: tuple[float, float], angle: float,
) -> None:  # fmt: skip
    """Blades, waves, cracks: short lines strewn between two ``rows`` at about ``angle`` (radians, 0: level)."""
    draw = ImageDraw.Draw(image)
    top, bottom = rows
    for _ in range(number):
        x, y = rng.uniform(0, SIZE), rng.uniform(top, max(bottom, top + 1))
        size, turn = rng.uniform(*length) * (0.5 + (y - top) / max(bottom - top, 1)), angle + rng.normal(0, 0.25)
        end = (x + size * np.cos(turn), y - size * np.sin(turn))
        draw.line((x, y, *end), fill=_shade(colours[rng.integers(len(colours))], rng), width=int(rng.integers(1, 3)))


def _beach(rng: Rng, horizon: int) -> Image.Image:
    shore = horizon + int(rng.integers(30, 70))
    image = _stack(
        _day_sky(rng, horizon),
        _gradient(rng, shore - horizon, (40, 120, 175), (110, 190, 205), ((12, 10.0),)),
        _gradient(rng, SIZE - shore, (225, 200, 150), (240, 215, 165), _ROUGH),
    )
    _strokes(image, rng, 25, (horizon, shore), ((220, 240, 245), (80, 150, 195)), (8, 26), 0)
    _blobs(image, rng, 4, (shore - 4, shore + 4), ((245, 250, 250),), (30, 60), 0.08)
    _blobs(image, rng, 40, (shore, SIZE), ((200, 175, 130), (250, 235, 200), (170, 150, 120)), (1.5, 5))
    return image


def _snow(rng: Rng, horizon: int) -> Image.Image:
    image = _stack(
        _gradient(rng, horizon, (165, 185, 205), (225, 232, 240), _SMOOTH),
        _gradient(rng, SIZE - horizon, (228, 236, 246), (246, 249, 253), ((6, 3.0), (48, 8.0))),
    )
    _hills(image, rng, horizon + 2, (205, 216, 230), 60, 4)
    _blobs(image, rng, 16, (horizon, SIZE), ((215, 225, 238), (252, 253, 255)), (8, 34), 0.3)
    _blobs(image, rng, 90, (0, SIZE), ((255, 255, 255),), (0.8, 2.2), 1)
    return image


def _field(rng: Rng, horizon: int) -> Image.Image:
    image = _stack(
        _day_sky(rng, horizon), _gradient(rng, SIZE - horizon, (120, 170, 80), (70, 130, 50), _ROUGH)
    )  # fmt: skip
    _hills(image, rng, horizon + 2, (90, 140, 85), 40, 3)
    _strokes(image, rng, 110, (horizon + 10, SIZE), ((60, 120, 40), (150, 190, 90), (90, 150, 60)), (5, 15), 1.5)
    return image


def _garden(rng: Rng, horizon: int) -> Image.Image:
    image = _stack(
        _day_sky(rng, horizon), _gradient(rng, SIZE - horizon, (95, 150, 70), (80, 140, 60), _ROUGH)
    )  # fmt: skip
    draw = ImageDraw.Draw(image)
    fence = _shade((225, 215, 195), rng, 30)
    step = int(rng.integers(20, 30))
    for x in range(-5, SIZE, step):
        draw.polygon(
            [(x, horizon + 6), (x, horizon - 46), (x + 6, horizon - 56), (x + 12, horizon - 46), (x + 12, horizon + 6)],
            fill=fence,
        )
    draw.rectangle((0, horizon - 34, SIZE, horizon - 26), fill=fence)
    petals: tuple[Colour, ...] = ((235, 110, 150), (250, 215, 90), (245, 245, 250), (170, 110, 210))
    _blobs(image, rng, 20, (horizon, SIZE), ((60, 115, 50),), (8, 22), 0.5)
    _blobs(image, rng, 60, (horizon + 8, SIZE), petals, (2, 5), 1)
    return image


def _forest(rng: Rng, horizon: int) -> Image.Image:
    image = _stack(
        _gradient(rng, horizon, (60, 95, 70), (110, 140, 95), ((24, 22.0), (8, 10.0))),
        _gradient(rng, SIZE - horizon, (95, 90, 55), (70, 75, 40), _ROUGH),
    )
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(9, 16))):
        x, width = rng.uniform(-10, SIZE), rng.uniform(6, 22)
        foot = horizon + rng.uniform(-5, 30)
        draw.polygon(
            [(x, 0), (x + width * 0.8, 0), (x + width, foot), (x - width * 0.2, foot)], fill=_shade((80, 60, 45), rng)
        )
    _blobs(image, rng, 40, (0, horizon // 2), ((50, 100, 55), (75, 125, 65), (40, 80, 45)), (12, 34), 0.8)
    _strokes(image, rng, 60, (horizon, SIZE), ((70, 110, 50), (120, 95, 55)), (5, 16), 1.4)
    return image


def _desert(rng: Rng, horizon: int) -> Image.Image:
    image = _stack(
        _gradient(rng, horizon, (120, 175, 225), (245, 220, 180), _SMOOTH),
        _gradient(rng, SIZE - horizon, (220, 170, 105), (200, 145, 80), _ROUGH),
    )
    _hills(image, rng, horizon + 2, (205, 140, 85), 50, 2)
    _strokes(image, rng, 35, (horizon + 10, SIZE), ((180, 125, 70), (235, 190, 130)), (20, 70), 0.05)
    _blobs(image, rng, 14, (horizon, SIZE), ((150, 110, 75), (130, 95, 65)), (2, 9))
    return image


def _mountain(rng: Rng, horizon: int) -> Image.Image:
    image = _stack(
        _day_sky(rng, horizon), _gradient(rng, SIZE - horizon, (115, 130, 95), (95, 105, 75), _ROUGH)
    )  # fmt: skip
    draw = ImageDraw.Draw(image)
    for _ in range(4):
        x, width = rng.uniform(0, SIZE), rng.uniform(80, 150)
        peak = horizon - rng.uniform(70, 135)
        draw.polygon([(x - width, horizon), (x, peak), (x + width, horizon)], fill=_shade((120, 125, 135), rng))
        cap = 0.3
        left, right, foot = x - width * cap, x + width * cap, peak + (horizon - peak) * cap
        draw.polygon(
            [(left, foot), (x, peak), (right, foot), (x + width * 0.1, foot - 8), (x - width * 0.08, foot + 9)],
            fill=(240, 244, 250),
        )
    _blobs(image, rng, 30, (horizon, SIZE), ((130, 130, 125), (100, 100, 95), (80, 105, 65)), (3, 12))
    return image


def _street(rng: Rng, horizon: int) -> Image.Image:
    kerb = horizon + int(rng.integers(28, 48))
    image = _stack(
        _day_sky(rng, horizon),
        _gradient(rng, kerb - horizon, (165, 160, 155), (180, 175, 170), ((6, 8.0),)),
        _gradient(rng, SIZE - kerb, (95, 95, 100), (75, 75, 80), _ROUGH),
    )
    draw = ImageDraw.Draw(image)
    x = int(rng.integers(-30, 0))
    walls: tuple[Colour, ...] = ((190, 120, 95), (215, 200, 170), (150, 160, 175), (205, 165, 120))
    while x < SIZE:
        width, height = int(rng.integers(55, 110)), int(rng.integers(60, max(horizon - 10, 70)))
        draw.rectangle((x, horizon - height, x + width, horizon + 4), fill=_shade(walls[rng.integers(4)], rng))
        glass = _shade((200, 220, 235), rng, 40)
        for row in range(horizon - height + 10, horizon - 18, 26):
            for column in range(x + 9, x + width - 12, 22):
                draw.rectangle((column, row, column + 11, row + 14), fill=glass)
        x += width + int(rng.integers(0, 25))
    middle = (kerb + SIZE) // 2
    for start in range(int(rng.integers(-40, 0)), SIZE, 80):
        draw.rectangle((start, middle, start + 42, middle + 7), fill=(235, 230, 215))
    return image


def _city(rng: Rng, horizon: int) -> Image.Image:
    image = _stack(
        _gradient(rng, horizon, (12, 16, 45), (60, 45, 85), _SMOOTH),
        _gradient(rng, SIZE - horizon, (45, 45, 60), (30, 30, 42), _ROUGH),
    )
    draw = ImageDraw.Draw(image)
    x = int(rng.integers(-20, 0))
    while x < SIZE:
        width, height = int(rng.integers(34, 70)), int(rng.integers(60, 170))
        draw.rectangle((x, horizon - height, x + width, horizon + 4), fill=_shade((38, 40, 62), rng, 10))
        for row in range(horizon - height + 8, horizon - 10, 14):
            for column in range(x + 5, x + width - 7, 11):
                if rng.random() < 0.55:
                    draw.rectangle((column, row, column + 5, row + 7), fill=_shade((245, 215, 130), rng, 30))
        x += width + int(rng.integers(0, 8))
    _strokes(image, rng, 20, (horizon, SIZE), ((150, 130, 100), (90, 80, 110)), (20, 60), 0)
    return image


def _water(image: Image.Image, rng: Rng, horizon: int) -> None:
    _strokes(image, rng, 70, (horizon + 4, SIZE), ((235, 245, 250), (60, 125, 170), (130, 185, 210)), (10, 34), 0)


def _sea(rng: Rng, horizon: int) -> Image.Image:
    image = _stack(
        _day_sky(rng, horizon), _gradient(rng, SIZE - horizon, (60, 135, 180), (20, 80, 135), ((8, 9.0), (48, 12.0)))
    )  # fmt: skip
    _water(image, rng, horizon)
    return image


def _lake(rng: Rng, horizon: int) -> Image.Image:
    image = _stack(
        _day_sky(rng, horizon), _gradient(rng, SIZE - horizon, (110, 165, 165), (50, 110, 120), ((8, 7.0), (48, 10.0)))
    )  # fmt: skip
    _hills(image, rng, horizon + 2, (70, 110, 75), 50, 5)
    _blobs(image, rng, 30, (horizon - 12, horizon + 4), ((55, 95, 60), (75, 120, 70)), (8, 22), 0.9)
    _water(image, rng, horizon + 14)
    _strokes(image, rng, 30, (SIZE - 50, SIZE), ((80, 125, 60), (110, 140, 70)), (18, 40), 1.5)
    return image


def _sky(rng: Rng, _: int) -> Image.Image:
    return _stack(_gradient(rng, SIZE, (75, 145, 220), (190, 222, 245), ((96, 12.0), (48, 8.0))))


def _cloudy_sky(rng: Rng, _: int) -> Image.Image:
    image = _stack(_gradient(rng, SIZE, (120, 150, 190), (205, 215, 225), ((96, 16.0), (48, 14.0))))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(5, 8))):
        x, y = rng.uniform(0, SIZE), rng.uniform(0, SIZE)
        for _ in range(7):
            dx, dy, radius = rng.normal(0, 34), rng.normal(0, 10), rng.uniform(14, 32)
            outline = (x + dx - radius, y + dy - radius * 0.7, x + dx + radius, y + dy + radius * 0.7)
            draw.ellipse(outline, fill=_shade((236, 239, 243), rng, 14))
    return image.filter(ImageFilter.BoxBlur(4))


def _starry_sky(rng: Rng, _: int) -> Image.Image:
    image = _stack(_gradient(rng, SIZE, (8, 10, 35), (40, 35, 85), ((96, 14.0), (24, 6.0))))
    _blobs(image, rng, 130, (0, SIZE), ((255, 255, 240), (200, 210, 255)), (0.6, 2.2), 1)
    return image


def _kitchen(rng: Rng, horizon: int) -> Image.Image:
    image = _stack(
        _gradient(rng, horizon, (225, 220, 205), (235, 228, 212), ((96, 6.0),)),
        _gradient(rng, SIZE - horizon, (190, 150, 110), (160, 115, 80), ((4, 6.0), (96, 10.0))),
    )
    draw = ImageDraw.Draw(image)
    tile, line = int(rng.integers(24, 40)), _shade((200, 195, 185), rng)
    for step in range(0, SIZE, tile):
        draw.line((step, 0, step, horizon), fill=line, width=2)
        if step < horizon:
            draw.line((0, step, SIZE, step), fill=line, width=2)
    doors = _shade(((150, 185, 180), (205, 190, 165), (170, 120, 90))[rng.integers(3)], rng)
    width = int(rng.integers(70, 100))
    for x in range(int(rng.integers(-40, 0)), SIZE, width):
        draw.rectangle((x + 3, 0, x + width - 3, 70), fill=doors, outline=_shade(doors, rng, 40), width=3)
        draw.ellipse((x + width - 20, 52, x + width - 13, 59), fill=(90, 90, 90))
    draw.rectangle((0, horizon - 6, SIZE, horizon + 14), fill=_shade((215, 210, 205), rng))
    return image


def _bedroom(rng: Rng, horizon: int) -> Image.Image:
    papers: tuple[Colour, ...] = ((205, 195, 220), (190, 210, 200), (235, 215, 190), (180, 200, 220))
    paper = papers[rng.integers(len(papers))]
    image = _stack(
        _gradient(rng, horizon, paper, paper, ((96, 8.0),)),
        _gradient(rng, SIZE - horizon, (175, 130, 90), (150, 105, 70), ((4, 5.0),)),
    )
    draw = ImageDraw.Draw(image)
    for x in range(0, SIZE, int(rng.integers(22, 44))):
        draw.line((x, 0, x, horizon), fill=_shade(paper, rng, 12), width=6)
    left, top = int(rng.integers(10, 240)), int(rng.integers(15, 50))
    draw.rectangle((left, top, left + 110, top + 95), fill=_shade((245, 245, 240), rng))
    draw.rectangle((left + 7, top + 7, left + 103, top + 88), fill=_shade((150, 200, 230), rng, 40))
    draw.line((left + 55, top, left + 55, top + 95), fill=(245, 245, 240), width=5)
    for step in range(horizon, SIZE, 26):
        draw.line((0, step, SIZE, step), fill=(130, 90, 60), width=2)
    middle, colour = rng.uniform(90, 300), _shade((180, 90, 100), rng, 50)
    draw.ellipse((middle - 120, horizon + 40, middle + 120, horizon + 120), fill=colour)
    return image


IN, ON = ("in the {}", "in a {}"), ("on the {}", "on a {}")
SCENES = (
    Scene("beach", ("beach",), (*ON, "at the {}"), "sandy", "land", 0.32, _beach),
    Scene("snow", ("snow",), ("in the {}", "on the {}"), "", "land", 0.38, _snow),
    Scene("field", ("field", "meadow"), (*IN, "on a {}"), "green", "land", 0.42, _field),
    Scene("garden", ("garden",), IN, "", "land", 0.4, _garden),
    Scene("forest", ("forest", "woods"), ("in the {}", "through the {}"), "", "land", 0.5, _forest),
    Scene("desert", ("desert",), IN, "", "land", 0.42, _desert),
    Scene(
        "mountain", ("mountain", "mountains"), ("in front of the {}", "near the {}"), "snowy", "land", 0.5, _mountain
    ),
    Scene("street", ("street", "road"), ON, "", "land", 0.45, _street),
    Scene("city", ("city", "town"), IN, "", "land", 0.55, _city),
    Scene("sea", ("sea", "ocean"), ("in the {}", "on the {}"), "", "water", 0.35, _sea),
    Scene("lake", ("lake",), (*ON, "in a {}"), "", "water", 0.35, _lake),
    Scene("kitchen", ("kitchen",), IN, "", "room", 0.5, _kitchen),
    Scene("bedroom", ("bedroom",), IN, "", "room", 0.5, _bedroom),
    Scene("sky", ("sky",), ("in the {}", "in a {}"), "blue", "air", 1, _sky),
    Scene("sky", ("sky",), ("in the {}", "under a {}"), "cloudy", "air", 1, _cloudy_sky),
    Scene("sky", ("sky",), ("in the {}", "under a {}"), "starry", "air", 1, _starry_sky),
)
