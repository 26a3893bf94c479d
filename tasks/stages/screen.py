"""The stage `screen` (reduce): which images are the same, unfit, or in the evaluation set as well.

Reads measures; writes screening, a row an image with the scores, the decision and its reasons. Nothing is deleted: what
is set apart is left out by trainings and exports alone, so other thresholds need nothing else to be computed anew.
Images to evaluate and to calibrate on always stay: of two near-duplicates the one in training falls.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.schemas import contract
from tasks.images.near_duplicates import find, keep
from tasks.machine.inputs import Inputs
from tasks.settings.executor import ExecutorSettings
from tasks.settings.screen import ScreenSettings

HELD_OUT = ("test", "calibrate")


def reduce(settings: ScreenSettings, inputs: Inputs, executor: ExecutorSettings) -> Mapping[str, pa.Table]:
    """The ``screening`` of all ``measures``."""
    return {"screening": decide(inputs.table("measures"), settings)}


def decide(measures: pa.Table, settings: ScreenSettings) -> pa.Table:
    """Scores, decisions and reasons, a row an image."""
    # in the order of their worth: held-out images, then the larger, then by id, which never changes
    held_out = pc.is_in(measures["split"], value_set=pa.array(HELD_OUT))
    pixels = pc.multiply(measures["width"].cast(pa.int64()), measures["height"].cast(pa.int64()))
    order = pa.table({"held": pc.cast(held_out, pa.int8()), "pixels": pixels, "image_id": measures["image_id"]})
    by_worth = pc.sort_indices(order, [("held", "descending"), ("pixels", "descending"), ("image_id", "ascending")])
    measures = measures.take(by_worth)
    count = measures.num_rows
    vectors = measures["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(count, -1)
    hashes = measures["hash"].to_numpy()
    near = find(vectors, hashes, settings.hash_bits, settings.least_cosine)
    protected = pc.is_in(measures["split"], value_set=pa.array(HELD_OUT)).to_numpy(zero_copy_only=False)
    alone, falls_for = keep(near.pairs, count, protected)
    # scores are those of the image that it falls for, else of the one that is most like it
    other = np.where(falls_for >= 0, falls_for, near.nearest)
    cosine = np.einsum("ij,ij->i", vectors.astype(np.float32), vectors[other].astype(np.float32))
    bits = np.bitwise_count(hashes ^ hashes[other]).astype(np.int16)
    ids = measures["image_id"].to_numpy(zero_copy_only=False)
    width, height = measures["width"].to_numpy(), measures["height"].to_numpy()
    short_side = np.minimum(width, height)
    aspect = np.maximum(width, height) / np.maximum(short_side, 1)
    caption_fit = [max(fits) if fits else None for fits in measures["caption_fits"].to_pylist()]
    disagrees = np.array([fit is not None and fit < settings.least_caption_fit for fit in caption_fit], bool)
    unwanted = measures["unwanted"].to_numpy(zero_copy_only=False)
    for_held_out = np.zeros(count, bool)
    for_held_out[~alone] = protected[falls_for[~alone]]
    reasons = {
        "leaks": ~alone & for_held_out & settings.leakage,
        "duplicate": ~alone & ~for_held_out,
        "too_small": short_side < settings.least_side,
        "too_long": (aspect > settings.most_aspect) & (settings.most_aspect > 0),
        "caption_disagrees": disagrees,
        "unwanted": np.nan_to_num(unwanted.astype(np.float32), nan=-1.0) > settings.most_unwanted,
    }
    found = [[reason for reason, holds in reasons.items() if holds[row]] for row in range(count)]
    table = pa.table(
        {
            "image_id": measures["image_id"],
            "split": measures["split"],
            "nearest": pa.array([ids[at] if at >= 0 else None for at in other], pa.string()),
            "cosine": pa.array(cosine, pa.float32(), mask=other < 0),
            "hash_bits": pa.array(bits, pa.int16(), mask=other < 0),
            "duplicate_of": pa.array([ids[at] if at >= 0 else None for at in falls_for], pa.string()),
            "short_side": pa.array(short_side, pa.int32()),
            "aspect": pa.array(aspect, pa.float32()),
            "caption_fit": pa.array(caption_fit, pa.float32()),
            "unwanted": measures["unwanted"],
            "kept": pa.array([not each for each in found], pa.bool_()),
            "reasons": pa.array(found, pa.list_(pa.string())),
        }
    )
    return table.select(contract("screening").schema.names)
