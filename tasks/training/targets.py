"""What a training is taught: queries for rows (image_id, tag_id, target), and sparse (images, tags) matrices of them.

Targets are in 0..1; of several for a pair the greatest counts, and what a query does not name is 0. No query looks
beyond an image, so that a corpus is read piece by piece.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from storage.bare import TOLD_BY, are_bare
from storage.schemas import DESCRIBED, TagSource
from tasks.evaluation.rows import Row
from tasks.evaluation.true_tags import TRUE_TAGS_SQL
from tasks.machine.inputs import Inputs
from tasks.training.data import TagColumns
from tasks.training.ids import ImageIds, Indices
from tasks.training.scratch import ENTRY, StoredTargets

BY_CAPTIONS = "SELECT image_id, unnest(tag_ids) AS tag_id, 1.0::FLOAT AS target FROM caption_tags"
"""1 for every tag that one of the image's captions names."""

BY_DESCRIPTION = f"{BY_CAPTIONS} WHERE caption_index = {DESCRIBED}"
"""1 for every tag that the source names of an image that it describes fully; captions add nothing."""

BY_TRUTH = f"SELECT *, 1.0::FLOAT AS target FROM ({TRUE_TAGS_SQL})"
"""The whole truth, in the tags of the label system. For evaluation and its ceiling alone."""

_SOFT = """
WITH scores AS (SELECT image_id, unnest(scores, recursive := true) FROM generated)
SELECT image_id, tag_id, {value} AS target FROM tag_verdicts
UNION ALL
SELECT image_id, tag_id, score AS target FROM scores ANTI JOIN tag_verdicts USING (image_id, tag_id)
"""


def by_verdicts(soft: bool) -> str:
    """The cleaned tags: with ``soft`` the targets of ``tag_verdicts``, else 1 for what was kept.

    Soft targets teach the annotator's probability as well for tags that nothing names.
    """
    if soft:
        return _SOFT.format(value="target")
    return "SELECT image_id, tag_id, 1.0::FLOAT AS target FROM tag_verdicts WHERE kept"


def by_generation(soft: bool) -> str:
    """All tags, nothing cleaned: 1 for what a caption names; 1, or with ``soft`` its score, for what was added."""
    if soft:
        return _SOFT.format(value=f"CASE WHEN source & {TagSource.CAPTION} > 0 THEN 1 ELSE score END::FLOAT")
    return "SELECT image_id, tag_id, 1.0::FLOAT AS target FROM tag_verdicts"


def by_row(row: Row, soft: bool) -> str:
    """What a row of the ablation is taught; ``soft``: the annotator's probabilities, where that row has any.

    Raises ValueError for a row that is not taught by what the store holds alone.
    """
    match row:
        case Row.PARSED:
            return BY_CAPTIONS
        case Row.GENERATION:
            return by_generation(soft)
        case Row.CLEANING:
            return by_verdicts(soft)
        case Row.TRUTH:
            return BY_TRUTH
    raise ValueError(f"the row '{row}' is not trained on labels of the store alone")


def ids_by_split(inputs: Inputs, bare: bool = False) -> Mapping[str, ImageIds]:
    """The ids of the images of any split, sorted: the order in which every training sees them.

    They are those of captioned images, or of the ``bare`` ones (:mod:`storage.bare`). Images that `screen` set apart
    are left out.
    """
    unfit = np.zeros(0, np.uint64)
    if inputs.has("screening"):
        screening = inputs.table("screening", ["image_id", "kept"])
        unfit = ImageIds.of(screening.filter(pc.invert(screening["kept"]))["image_id"].to_pylist()).numbers
    numbers = defaultdict[str, list[NDArray[np.uint64]]](list)
    for part in inputs.parts("pairs", ["image_id", "split", *TOLD_BY]):
        part = part.filter(pa.array(are_bare(part) == bare))
        for split in part["split"].unique().to_pylist():
            own = part.filter(pc.equal(part["split"], split))
            numbers[split].append(ImageIds.of(own["image_id"].to_pylist()).numbers)
    fit = {split: ImageIds(np.setdiff1d(np.concatenate(own), unfit)) for split, own in numbers.items()}
    return defaultdict(lambda: ImageIds.of(()), fit)


def described_ids(inputs: Inputs, image_ids: Iterable[str]) -> list[str]:
    """Those of the images whose source names everything that they show: what it does not name is not there."""
    images = ImageIds.of(image_ids)
    find, described = images.finder(), np.zeros(len(images), bool)
    query = f"SELECT image_id FROM caption_tags WHERE caption_index = {DESCRIBED}"
    for rows in inputs.sql_by_piece(query):
        places = find(rows["image_id"].to_pylist())
        described[places[places >= 0]] = True
    return list(images.subset(np.flatnonzero(described)))


def are_described(inputs: Inputs, of_split: Mapping[str, ImageIds]) -> bool:
    """Whether what captions and labels of images to calibrate on say is all that these show.

    A source that has pairs to fine-tune on describes them, and those to calibrate on, fully; else a person may have.
    """
    if len(of_split["fine_tune"]):
        return True
    held_out = of_split["calibrate"]
    return len(held_out) > 0 and len(described_ids(inputs, held_out)) == len(held_out)


def caption_targets(inputs: Inputs, image_ids: Iterable[str], tags: TagColumns) -> csr_matrix:
    """1 for every tag that one of the image's captions names."""
    return matrix(inputs.sql_by_piece(BY_CAPTIONS), image_ids, tags)


def mention_shares(inputs: Inputs, images: ImageIds, tags: TagColumns) -> NDArray[np.float64]:
    """(tags,): the share of the images, 0..1, whose captions name each tag."""
    counts = np.zeros(len(tags.ids))
    for _, entries in _entries(inputs.sql_by_piece(BY_CAPTIONS), images, tags):
        counts += np.bincount(entries["tag"], minlength=len(counts))
    return counts / max(1, len(images))


def matrix(tables: Iterable[pa.Table], image_ids: Iterable[str], tags: TagColumns) -> csr_matrix:
    """The targets of these images and tags in memory. All rows of an image are in one of the ``tables``."""
    images = ImageIds.of(image_ids)
    parts = [(np.zeros(0, np.int64), np.zeros(0, ENTRY)), *_entries(tables, images, tags)]
    places, entries = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return csr_matrix((entries["target"], (places, entries["tag"])), shape=(len(images), len(tags.ids)))


def store_targets(tables: Iterable[pa.Table], images: ImageIds, tags: TagColumns, file: Path) -> StoredTargets:
    """The same in a file: a table at a time is in memory."""
    first, counts, written = np.zeros(len(images), np.int64), np.zeros(len(images), np.int32), 0
    with file.open("wb") as stored:
        for places, entries in _entries(tables, images, tags):
            stored.write(entries.tobytes())
            own, starts, lengths = np.unique(places, return_index=True, return_counts=True)
            first[own], counts[own] = written + starts, lengths
            written += len(entries)
    return StoredTargets(file, first, counts, len(tags.ids))


def _entries(
    tables: Iterable[pa.Table], images: ImageIds, tags: TagColumns
) -> Iterator[tuple[Indices, NDArray[np.void]]]:
    """The places (n,) of images, ascending, and their entries (n,), table by table; other images and inactive tags are
    left out."""
    find, columns = images.finder(), pa.array(tags.ids, pa.int32())
    for table in tables:
        places = find(table["image_id"].to_pylist())
        column = pc.fill_null(pc.index_in(table["tag_id"], columns), -1).to_numpy()
        inside = (places >= 0) & (column >= 0)
        cells = places[inside] * len(columns) + column[inside]
        order = np.argsort(cells, kind="stable")
        cells, first = np.unique(cells[order], return_index=True)
        entries = np.empty(len(cells), ENTRY)
        entries["tag"] = cells % max(1, len(columns))
        entries["target"] = np.maximum.reduceat(table["target"].to_numpy()[inside][order], first)
        yield cells // max(1, len(columns)), entries
