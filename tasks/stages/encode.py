"""Map stage `encode`: stores the frozen image encoder's spatial features, on which every head trains.

Reads pairs and images (aligned); writes features. Training images get ``views`` views, the first the whole picture and
the others fixed augmentations; all other images the whole picture alone. Images of the splits that are used at the
higher resolution get one more row there, and all images one for each further encoder of the annotator.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image, ImageOps

from models.image_encoder import ImageEncoder, preprocessing
from tasks.images.decoding import may_mirror, picture
from tasks.images.files import ImageFiles
from tasks.machine.cores import cores
from tasks.machine.devices import device_of
from tasks.machine.inputs import Inputs
from tasks.settings.encode import EncodeSettings
from tasks.settings.executor import ExecutorSettings

BATCH_PIXELS = 2 * 384 * 384  # of a batch on a CPU, where larger ones are slower and take more memory
GPU_BATCH_PIXELS = 16 * BATCH_PIXELS
Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in shares of a picture's width and height
WHOLE: Box = (0, 0, 1, 1)


@dataclass(frozen=True)
class SizedEncoder:
    """An encoder at an image size, ready on its device."""

    name: str
    size: int
    device: torch.device
    prepare: Callable[[Image.Image], torch.Tensor]  # to bytes
    normalise: Callable[[torch.Tensor], torch.Tensor]  # of a batch: Python's share of it is that of a single picture
    encode: Callable[[torch.Tensor], torch.Tensor]

    @property
    def batch_size(self) -> int:
        """Pictures that it looks at together."""
        return max(1, (BATCH_PIXELS if self.device.type == "cpu" else GPU_BATCH_PIXELS) // self.size**2)

    def features(self, views: Sequence[tuple[str, int, torch.Tensor]]) -> pa.Table:
        """The rows of `features` of some views: an image's id, the view's number and the view as it was prepared."""
        ids, numbers, images = zip(*views, strict=True)
        batches = torch.stack(images).split(self.batch_size)
        with torch.inference_mode():
            encoded = (self.encode(self.normalise(batch.to(self.device))) for batch in batches)
            tokens = np.concatenate([batch.half().cpu().numpy() for batch in encoded])
        return pa.table(
            {
                "image_id": pa.array(ids, pa.string()),
                "view": pa.array(numbers, pa.int8()),
                "image_size": pa.array([self.size] * len(views), pa.int16()),
                "image_encoder": pa.array([self.name] * len(views), pa.string()),
                "tokens": token_array(tokens),
            }
        )


def build(
    settings: EncodeSettings, inputs: Inputs, executor: ExecutorSettings
) -> Callable[[Mapping[str, pa.Table]], Mapping[str, pa.Table]]:
    """The worker of this stage; the encoder's weights are loaded once."""
    device = device_of(executor)
    width = ImageEncoder(settings.image_encoder, settings.image_size).width
    names = _encoders(settings)
    for size, name in settings.further().items():
        if ImageEncoder(name, size).width != width:
            raise ValueError(f"encode.annotator_encoders: {name} is not as wide ({width}) as {settings.image_encoder}")
    encoders = [_encoder(name, size, device) for size, name in names.items()]

    def encode(shard: Mapping[str, pa.Table]) -> Mapping[str, pa.Table]:
        pairs, images = shard["pairs"], shard["images"]
        files = ImageFiles(lambda: images)
        together = max(1, min(encoders[0].batch_size, math.ceil(len(pairs) / cores())))

        def look(start: int) -> dict[int, pa.Table]:
            rows = files.rows(pairs.slice(start, together), ("captions", "split", "width", "height"))
            return _look(rows, encoders, settings)

        with ThreadPoolExecutor(cores(), initializer=torch.set_num_threads, initargs=(1,)) as threads:
            looked = list(threads.map(look, range(0, len(pairs), together)))
        tables = [of_sizes[size] for size in names for of_sizes in looked if size in of_sizes]
        return {"features": pa.concat_tables([_empty(width), *tables])}

    return encode


def _look(
    pairs: Iterable[Mapping[str, Any]], encoders: Sequence[SizedEncoder], settings: EncodeSettings
) -> dict[int, pa.Table]:
    """Image size -> the features of some pairs with their files, whose pictures are decoded once for all sizes."""
    prepared: dict[int, list[tuple[str, int, torch.Tensor]]] = {encoder.size: [] for encoder in encoders}
    for pair in pairs:
        counts = {size: _views_at(size, pair["split"], settings) for size in prepared}
        views = views_of(pair, counts, settings)
        for encoder in encoders:
            for number in range(counts[encoder.size]):
                prepared[encoder.size].append((pair["image_id"], number, encoder.prepare(views[number])))
    return {encoder.size: encoder.features(prepared[encoder.size]) for encoder in encoders if prepared[encoder.size]}


def token_array(tokens: np.ndarray) -> pa.Array:
    """float16 tokens (rows, tokens, width) as the Arrow array of the column ``tokens``."""
    rows, count, width = tokens.shape
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(tokens.reshape(-1)), width)
    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1) * count, pa.int32()), vectors)


def views_of(pair: Mapping[str, Any], counts: Mapping[int, int], settings: EncodeSettings) -> list[Image.Image]:
    """What the views of a pair with its file show, before they are brought to an encoder's size, the whole first.

    ``counts``: image size -> how many views are looked at with so many pixels a side.
    """
    crops = [crop_of(pair["image_id"], number, settings.crop_area) for number in range(max(counts.values()))]
    side = max(
        math.ceil(size / min(x1 - x0, y1 - y0)) for size, count in counts.items() for x0, y0, x1, y1 in crops[:count]
    )
    shown, mirror = picture(pair, side), may_mirror(pair["captions"])
    return [augment(shown, crop, mirror and number % 2 == 1) for number, crop in enumerate(crops)]


def crop_of(image_id: str, view: int, crop_area: float) -> Box:
    """The part of an image that its ``view`` shows: the same for the same arguments on every machine.

    View 0 is the whole; all others are at a random place, with ``crop_area`` to 1 of the area and up to a third of
    other proportions.
    """
    if view == 0:
        return WHOLE
    chance = random.Random(f"{image_id}/{view}")  # seeding with a string does not depend on hash randomisation
    share, stretch = chance.uniform(crop_area, 1), chance.uniform(3 / 4, 4 / 3) ** 0.5
    width, height = min(1.0, share**0.5 * stretch), min(1.0, share**0.5 / stretch)
    x, y = chance.uniform(0, 1 - width), chance.uniform(0, 1 - height)
    return x, y, x + width, y + height


def augment(image: Image.Image, crop: Box, mirrored: bool) -> Image.Image:
    """A part of an image, mirrored or not; the image itself where that changes nothing."""
    if crop != WHOLE:
        sides = (*image.size, *image.size)
        x0, y0, x1, y1 = (round(share * side) for share, side in zip(crop, sides, strict=True))
        image = image.crop((x0, y0, x1, y1))
    return ImageOps.mirror(image) if mirrored else image


def _views_at(size: int, split: str, settings: EncodeSettings) -> int:
    """How many views an image of ``split`` gets at ``size`` pixels."""
    if size == settings.image_size:
        return settings.views if split == "train" else 1
    if size in settings.further():
        return 1
    return int(split != "train" or settings.train_at_fine_tune_size)


def _encoders(settings: EncodeSettings) -> dict[int, str]:
    """Image size -> encoder, the smallest size first."""
    own = dict.fromkeys((settings.image_size, settings.fine_tune_size or settings.image_size), settings.image_encoder)
    return dict(sorted({**own, **settings.further()}.items()))


def _encoder(name: str, size: int, device: torch.device) -> SizedEncoder:
    encoder: torch.nn.Module = ImageEncoder(name, size).load_pretrained().eval().requires_grad_(False).to(device)
    if device.type == "cpu":  # frozen and fused by oneDNN it is half as fast again
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of torch.jit, whose successor needs a compiler
            traced = torch.jit.trace(encoder, torch.zeros(1, 3, size, size), check_trace=False)
            encoder = torch.jit.optimize_for_inference(torch.jit.freeze(traced))
    prepared = preprocessing(name, size)
    return SizedEncoder(name, size, device, prepared.resize(), prepared.normalise(), encoder)


def _empty(width: int) -> pa.Table:
    return pa.table(
        {
            "image_id": pa.array([], pa.string()),
            "view": pa.array([], pa.int8()),
            "image_size": pa.array([], pa.int16()),
            "image_encoder": pa.array([], pa.string()),
            "tokens": pa.array([], pa.list_(pa.list_(pa.float16(), width))),
        }
    )
