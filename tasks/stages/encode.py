"""Map stage `encode`: stores the frozen image encoder's spatial features, on which every head trains.

Reads pairs and images (aligned); writes features. Training images get ``views`` views, the first the whole picture and
the others fixed augmentations; all other images the whole picture alone. Images of the splits that are used at the
higher resolution get one more row there, and all images one for each further encoder of the annotator.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image, ImageOps

from models.image_encoder import ImageEncoder, preprocessing
from tasks.images.decoding import may_mirror, picture
from tasks.images.files import ImageFiles
from tasks.machine.devices import cores, device_of
from tasks.machine.inputs import Inputs
from tasks.settings.encode import EncodeSettings
from tasks.settings.executor import ExecutorSettings

_COLUMNS = ("image_id", "view", "image_size", "image_encoder", "tokens")
BATCH_PIXELS = 6 * 384 * 384  # of a batch: larger ones are no faster on a CPU and take more memory
Encoder = Callable[[torch.Tensor], torch.Tensor]
Transform = Callable[[Image.Image], torch.Tensor]


@dataclass(frozen=True)
class View:
    """A view of a pair; number 0 is the whole picture."""

    pair: Mapping[str, Any]
    number: int


def build(
    settings: EncodeSettings, inputs: Inputs, executor: ExecutorSettings
) -> Callable[[Mapping[str, pa.Table]], Mapping[str, pa.Table]]:
    """The worker of this stage; the encoder's weights are loaded once."""
    device = device_of(executor)
    width = ImageEncoder(settings.image_encoder, settings.image_size).width
    names = _encoders(settings)
    for size, name in names.items():
        if ImageEncoder(name, size).width != width:
            raise ValueError(f"encode.annotator_encoders: {name} is not as wide ({width}) as {settings.image_encoder}")
    encoders = {size: _encoder(name, size, device) for size, name in names.items()}

    def encode(shard: Mapping[str, pa.Table]) -> Mapping[str, pa.Table]:
        rows: dict[str, list[pa.Array]] = {name: [] for name in _COLUMNS}
        with ThreadPoolExecutor(cores(), initializer=torch.set_num_threads, initargs=(1,)) as threads:
            for size, (encoder, prepare) in encoders.items():

                def look(views: Sequence[View], encoder: Encoder = encoder, prepare: Transform = prepare) -> pa.Array:
                    images = torch.stack([prepare(picture_of(view, settings)) for view in views]).to(device)
                    with torch.inference_mode():
                        return token_array(encoder(images).half().cpu().numpy())

                batches = list(_batches(_views(shard, settings, size), _batch_size(size)))
                for batch, tokens in zip(batches, threads.map(look, batches), strict=True):
                    rows["image_id"].append(pa.array([view.pair["image_id"] for view in batch], pa.string()))
                    rows["view"].append(pa.array([view.number for view in batch], pa.int8()))
                    rows["image_size"].append(pa.array([size] * len(batch), pa.int16()))
                    rows["image_encoder"].append(pa.array([names[size]] * len(batch), pa.string()))
                    rows["tokens"].append(tokens)
        if not rows["tokens"]:
            return {"features": _empty(width)}
        return {"features": pa.table({name: pa.chunked_array(chunks) for name, chunks in rows.items()})}

    return encode


def token_array(tokens: np.ndarray) -> pa.Array:
    """float16 tokens (rows, tokens, width) as the Arrow array of the column ``tokens``."""
    rows, count, width = tokens.shape
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(tokens.reshape(-1)), width)
    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1) * count, pa.int32()), vectors)


def augment(image: Image.Image, image_id: str, view: int, crop_area: float, mirror: bool) -> Image.Image:
    """The fixed augmentation ``view`` of an image: the same for the same arguments on every machine.

    View 0 is the image itself; odd views are mirrored where ``mirror`` allows it; all but view 0 are cropped to a
    random place with ``crop_area`` to 1 of the area and up to a third of other proportions.
    """
    if view == 0:
        return image
    chance = random.Random(f"{image_id}/{view}")  # seeding with a string does not depend on hash randomisation
    share, stretch = chance.uniform(crop_area, 1), chance.uniform(3 / 4, 4 / 3) ** 0.5
    width = min(1.0, share**0.5 * stretch) * image.width
    height = min(1.0, share**0.5 / stretch) * image.height
    x, y = chance.uniform(0, image.width - width), chance.uniform(0, image.height - height)
    image = image.crop((round(x), round(y), round(x + width), round(y + height)))
    return ImageOps.mirror(image) if mirror and view % 2 else image


def _views(shard: Mapping[str, pa.Table], settings: EncodeSettings, size: int) -> Iterator[View]:
    files = ImageFiles(lambda: shard["images"])
    for pair in files.rows(shard["pairs"], ("captions", "split", "width", "height")):
        for number in range(_views_at(size, pair["split"], settings)):
            yield View(pair, number)


def picture_of(view: View, settings: EncodeSettings) -> Image.Image:
    """What a view shows, before it is brought to the encoder's size."""
    pair = view.pair
    return augment(picture(pair), pair["image_id"], view.number, settings.crop_area, may_mirror(pair["captions"]))


def _batches(views: Iterator[View], count: int) -> Iterator[list[View]]:
    while batch := list(islice(views, count)):
        yield batch


def _batch_size(size: int) -> int:
    return max(1, BATCH_PIXELS // size**2)


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


def _encoder(name: str, size: int, device: torch.device) -> tuple[Encoder, Transform]:
    encoder: torch.nn.Module = ImageEncoder(name, size).load_pretrained().eval().requires_grad_(False).to(device)
    if device.type == "cpu":  # frozen and fused by oneDNN it is half as fast again
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of torch.jit, whose successor needs a compiler
            traced = torch.jit.trace(encoder, torch.zeros(_batch_size(size), 3, size, size), check_trace=False)
            encoder = torch.jit.optimize_for_inference(torch.jit.freeze(traced))
    return encoder, preprocessing(name, size).transform()


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
