"""Map stage `measure`: what can be said of each image alone that `screen` decides by.

Reads pairs, images and features (aligned); writes measures: the perceptual hash, the frozen encoder's vector, and,
where they are asked for, how well the captions fit the picture and how probable a classifier finds what is not wanted.
Pictures are read for these alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from storage.bare import are_bare
from storage.schemas import contract
from tasks.caption_judges.base import context_of
from tasks.images.classifiers import unwanted_probability
from tasks.images.files import ImageFiles
from tasks.images.tokens import token_matrix
from tasks.machine.devices import device_of
from tasks.machine.inputs import Inputs
from tasks.settings.executor import ExecutorSettings
from tasks.settings.measure import MeasureSettings

VECTOR_WIDTH = 128
BATCH = 32


def build(
    settings: MeasureSettings, inputs: Inputs, executor: ExecutorSettings
) -> Callable[[Mapping[str, pa.Table]], Mapping[str, pa.Table]]:
    """The worker of this stage; models are loaded once, and only those that are asked for."""
    device = device_of(executor)
    caption_fit = settings.caption_judge.make(context_of(inputs, device))
    unwanted = unwanted_probability(settings.classifier, settings.unwanted, device) if settings.classifier else None

    def measure(shard: Mapping[str, pa.Table]) -> Mapping[str, pa.Table]:
        pairs = shard["pairs"]
        files = ImageFiles(lambda: shard["images"])
        caption_fits: list[list[float]] = []
        probabilities: list[float | None] = []
        for start in range(0, pairs.num_rows, BATCH):
            part = pairs.slice(start, BATCH)
            shown = files.pictures(part) if caption_fit or unwanted else []
            caption_fits += caption_fit(shown, part["captions"].to_pylist()) if caption_fit else [[]] * len(part)
            probabilities += unwanted(shown) if unwanted else [None] * len(part)
        vectors = whole_vectors(pairs["image_id"], shard["features"])
        columns = {name: pairs[name] for name in ("image_id", "split", "width", "height", "hash")}
        table = pa.table(
            {
                **columns,
                "bare": are_bare(pairs),
                "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), VECTOR_WIDTH),
                "caption_fits": pa.array(caption_fits, pa.list_(pa.float32())),
                "unwanted": pa.array(probabilities, pa.float32()),
            }
        )
        return {"measures": table.select(contract("measures").schema.names)}

    return measure


def whole_vectors(image_ids: pa.ChunkedArray, features: pa.Table) -> NDArray[np.float16]:
    """The mean tokens of whole pictures, in a fixed random projection, centred and L2-normalised: (images, 128).

    A projection keeps cosines, to 0.005 among near-duplicates, in a tenth of the memory.
    """
    features = features.filter(pc.and_(pc.equal(features["view"], 0), pc.is_in(features["image_id"], image_ids)))
    sizes = features["image_size"]
    features = features.filter(pc.equal(sizes, pc.min(sizes)))
    if not features.num_rows:
        return np.zeros((0, VECTOR_WIDTH), np.float16)
    place = {image_id: row for row, image_id in enumerate(features["image_id"].to_pylist())}
    order = [place[image_id] for image_id in image_ids.to_pylist()]
    tokens = token_matrix(features["tokens"])[order, 0].astype(np.float32)
    projection = np.random.default_rng(0).standard_normal((tokens.shape[1], VECTOR_WIDTH)).astype(np.float32)
    vectors = (tokens - tokens.mean(axis=1, keepdims=True)) @ projection
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)).astype(np.float16)
