"""The stage `screen` (reduce): which images are the same, unfit, or in the evaluation set as well.

Reads measures; writes screening, a row an image with the scores, the decision and its reasons. Nothing is deleted: what
is set apart is left out by trainings and exports alone, so other thresholds need nothing else to be computed anew.
Images to evaluate and to calibrate on always stay: of two near-duplicates the one in training falls; of two in
training the one without captions, else the smaller. Vectors lie in a scratch file, of which a bucket at a time is in
memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from storage.schemas import contract
from tasks.images.near_duplicates import find, keep
from tasks.images.vector_file import VectorFile, Vectors, new_vectors
from tasks.machine.inputs import Inputs
from tasks.settings.executor import ExecutorSettings
from tasks.settings.screen import ScreenSettings

HELD_OUT = ("test", "calibrate")
ROWS = 8_192  # whose cosines are computed at a time


def reduce(settings: ScreenSettings, inputs: Inputs, executor: ExecutorSettings) -> Mapping[str, pa.Table]:
    """The ``screening`` of all ``measures``."""
    light = [name for name in contract("measures").schema.names if name != "vector"]
    vectors = (part["vector"] for part in inputs.parts("measures", ["image_id", "vector"]))
    return {"screening": _decide(inputs.table("measures", light), vectors, settings)}


def decide(measures: pa.Table, settings: ScreenSettings) -> pa.Table:
    """Scores, decisions and reasons of a table of ``measures``, a row an image."""
    return _decide(measures.drop_columns(["vector"]), [measures["vector"]], settings)


def _decide(measures: pa.Table, vector_columns: Iterable[pa.ChunkedArray], settings: ScreenSettings) -> pa.Table:
    by_worth = _by_worth(measures)
    measures = measures.take(pa.array(by_worth))
    protected = _held_out(measures).to_numpy()
    hashes = measures["hash"].to_numpy()
    with (
        tempfile.TemporaryDirectory(prefix="ram-engine-") as scratch,
        _in_order(vector_columns, by_worth, Path(scratch) / "vectors") as vectors,
    ):
        falls_for, other = _compare(vectors, hashes, protected, settings)
        cosine = _cosines(vectors, other)
    alone = falls_for < 0
    bits = np.bitwise_count(hashes ^ hashes[other]).astype(np.int16)
    width, height = measures["width"].to_numpy(), measures["height"].to_numpy()
    short_side = np.minimum(width, height)
    aspect = np.maximum(width, height) / np.maximum(short_side, 1)
    caption_fit = _best(measures["caption_fits"])
    unwanted = measures["unwanted"].to_numpy(zero_copy_only=False)
    for_held_out = np.zeros(len(alone), bool)
    for_held_out[~alone] = protected[falls_for[~alone]]
    reasons = {
        "leaks": ~alone & for_held_out & settings.leakage,
        "duplicate": ~alone & ~for_held_out,
        "too_small": short_side < settings.least_side,
        "too_long": (aspect > settings.most_aspect) & (settings.most_aspect > 0),
        "caption_disagrees": caption_fit < settings.least_caption_fit,  # not a number: no one was asked
        "unwanted": np.nan_to_num(unwanted.astype(np.float32), nan=-1.0) > settings.most_unwanted,
    }
    ids = measures["image_id"].combine_chunks()
    table = pa.table(
        {
            "image_id": ids,
            "split": measures["split"],
            "nearest": ids.take(pa.array(other, mask=other < 0)),
            "cosine": pa.array(cosine, pa.float32(), mask=other < 0),
            "hash_bits": pa.array(bits, pa.int16(), mask=other < 0),
            "duplicate_of": ids.take(pa.array(falls_for, mask=falls_for < 0)),
            "short_side": pa.array(short_side, pa.int32()),
            "aspect": pa.array(aspect, pa.float32()),
            "caption_fit": pa.array(caption_fit, pa.float32(), from_pandas=True),
            "unwanted": measures["unwanted"],
            "kept": pa.array(~np.logical_or.reduce(list(reasons.values()))),
            "reasons": _named(reasons),
        }
    )
    return table.select(contract("screening").schema.names)


def _held_out(measures: pa.Table) -> pa.ChunkedArray:
    return pc.and_not(pc.is_in(measures["split"], value_set=pa.array(HELD_OUT)), measures["bare"])


def _by_worth(measures: pa.Table) -> NDArray[np.uint32]:
    """The images' places in the order of their worth: held-out ones, captioned ones, the larger, then by id, which
    never changes."""
    order = pa.table(
        {
            "falls": pc.invert(_held_out(measures)).cast(pa.int8()),
            "bare": measures["bare"].cast(pa.int8()),
            "pixels": pc.negate(pc.multiply(measures["width"].cast(pa.int64()), measures["height"].cast(pa.int64()))),
            "image_id": measures["image_id"],
        }
    )
    places: NDArray[np.uint64] = pc.sort_indices(order, [(name, "ascending") for name in order.column_names]).to_numpy()
    return places.astype(np.uint32)


def _compare(
    vectors: VectorFile, hashes: NDArray[np.uint64], protected: NDArray[np.bool_], settings: ScreenSettings
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each image, in the order of their worth, the one that it falls for (-1: it stays), and the one that its
    scores are of: that, else the one that is most like it."""
    near = find(vectors, hashes, settings.hash_bits, settings.least_cosine)
    _, falls_for = keep(near.pairs, len(hashes), protected)
    return falls_for, np.where(falls_for >= 0, falls_for, near.nearest)


@contextmanager
def _in_order(columns: Iterable[pa.ChunkedArray], order: NDArray[np.integer], file: Path) -> Iterator[VectorFile]:
    """The vectors (images, width) of columns that follow each other, in ``order``, in a new ``file``."""
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    matrices = _matrices(columns)
    first = next(matrices, np.zeros((0, 0), np.float16))
    with new_vectors(file, len(order), first.shape[1]) as vectors:
        start = 0
        for rows in chain([first], matrices):
            vectors[place[start : start + len(rows)]] = rows
            start += len(rows)
        yield vectors


def _matrices(columns: Iterable[pa.ChunkedArray]) -> Iterator[Vectors]:
    for column in columns:
        for chunk in column.chunks:
            if len(chunk):
                yield chunk.flatten().to_numpy(zero_copy_only=False).reshape(len(chunk), -1)


def _cosines(vectors: VectorFile, other: NDArray[np.int64]) -> NDArray[np.float32]:
    """Of each vector with that of its ``other`` image."""
    cosine = np.zeros(len(other), np.float32)
    for start in range(0, len(other), ROWS):
        here = slice(start, start + ROWS)
        own, others = vectors[here].astype(np.float32), vectors[other[here]].astype(np.float32)
        cosine[here] = np.einsum("ij,ij->i", own, others)
    return cosine


def _best(caption_fits: pa.ChunkedArray) -> NDArray[np.float64]:
    """The fit of the caption that fits best; not a number where there is none."""
    lists = caption_fits.combine_chunks()
    starts = lists.offsets.to_numpy()[:-1] - lists.offsets[0].as_py()
    filled = pc.list_value_length(lists).to_numpy(zero_copy_only=False) > 0
    best = np.full(len(lists), np.nan)
    if filled.any():
        best[filled] = np.maximum.reduceat(lists.flatten().to_numpy(), starts[filled])
    return best


def _named(reasons: Mapping[str, NDArray[np.bool_]]) -> pa.ListArray:
    """For each image the names of the reasons that hold."""
    holds = np.stack(list(reasons.values()), 1)
    offsets = np.concatenate([[0], np.cumsum(holds.sum(1))])
    names = pa.array(list(reasons), pa.string()).take(pa.array(np.nonzero(holds)[1]))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), names)
