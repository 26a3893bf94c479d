"""Chosen images of a corpus as batches to ask models about, a part of the corpus in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.annotators.base import Batch
from tasks.images.files import ImageFiles
from tasks.images.tokens import StoredTokens
from tasks.machine.inputs import Inputs


def batches(
    inputs: Inputs, image_ids: Sequence[str], named: NDArray[np.bool_]
) -> Iterator[tuple[NDArray[np.intp], Batch]]:
    """The images part by part: their places among ``image_ids``, and a batch of them with their rows of ``named``
    (images, tags)."""
    place = {image_id: row for row, image_id in enumerate(image_ids)}
    features, images = (dict(inputs.parts_of(name)) for name in ("features", "images"))
    for partition, pairs in inputs.by_partition("pairs"):
        places = np.array([place.get(image_id, -1) for image_id in pairs["image_id"].to_pylist()], np.intp)
        chosen = np.flatnonzero(places >= 0)
        if not len(chosen):
            continue
        pairs = pairs.take(pa.array(chosen))
        stored = inputs.read("features", features[partition])
        stored = stored.filter(pc.is_in(stored["image_id"], value_set=pairs["image_id"].combine_chunks()))
        files = ImageFiles(partial(inputs.read, "images", images[partition]))
        yield places[chosen], Batch(pairs, files, StoredTokens(stored), named[places[chosen]])
