"""What a training is taught: sparse (images, tags) matrices of targets in 0..1."""

from __future__ import annotations

from collections.abc import Sequence

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


def split_ids(inputs: Inputs, *splits: str, bare: bool = False) -> list[str]:
    """The ids of the images of some splits, sorted: the order in which every training sees them.

    Images that `screen` set apart are left out, and so are bare ones (:mod:`storage.bare`) unless ``bare``.
    """
    parts = inputs.parts("pairs", ["image_id", "split", *(() if bare else TOLD_BY)])
    own = [part if bare else part.filter(pa.array(~are_bare(part))) for part in parts]
    pairs = pa.concat_tables([_IDS, *(part.select(_IDS.column_names) for part in own)])
    if inputs.has("screening"):
        screening = inputs.table("screening", ["image_id", "kept"])
        unfit = screening.filter(pc.invert(screening["kept"]))["image_id"].combine_chunks()
        pairs = pairs.filter(pc.invert(pc.is_in(pairs["image_id"], value_set=unfit)))
    return sorted(pairs.filter(pc.is_in(pairs["split"], pa.array(splits)))["image_id"].to_pylist())


_IDS = pa.table({name: pa.array([], pa.string()) for name in ("image_id", "split")})


def caption_targets(inputs: Inputs, image_ids: Sequence[str], tags: TagColumns) -> csr_matrix:
    """1 for every tag that one of the image's captions names."""
    named = inputs.sql("SELECT image_id, unnest(tag_ids) AS tag_id, 1.0::FLOAT AS target FROM caption_tags")
    return matrix(named, image_ids, tags)


def mention_shares(inputs: Inputs, image_ids: Sequence[str], tags: TagColumns) -> NDArray[np.float32]:
    """(tags,): the share of the images, 0..1, whose captions name each tag; 0 where there is no image."""
    if not image_ids:
        return np.zeros(len(tags.ids), np.float32)
    return np.asarray(caption_targets(inputs, image_ids, tags).mean(axis=0), np.float32).ravel()


def described_ids(inputs: Inputs, image_ids: Sequence[str]) -> list[str]:
    """Those of the images whose source names everything that they show: what it does not name is not there."""
    described = set(
        inputs.sql(f"SELECT image_id FROM caption_tags WHERE caption_index = {DESCRIBED}")["image_id"].to_pylist()
    )
    return [image_id for image_id in image_ids if image_id in described]


def are_described(inputs: Inputs, image_ids: Sequence[str]) -> bool:
    """Whether what captions and labels of held-out images say is all that these show.

    A source that has pairs to fine-tune on describes them, and those to calibrate on, fully; else a person may have.
    """
    if split_ids(inputs, "fine_tune"):
        return True
    return bool(image_ids) and len(described_ids(inputs, image_ids)) == len(image_ids)


def described_targets(inputs: Inputs, image_ids: Sequence[str], tags: TagColumns) -> csr_matrix:
    """1 for every tag that the source names of an image that it describes fully; captions add nothing."""
    named = inputs.sql(
        "SELECT image_id, unnest(tag_ids) AS tag_id, 1.0::FLOAT AS target FROM caption_tags "
        f"WHERE caption_index = {DESCRIBED}"
    )
    return matrix(named, image_ids, tags)


def verdict_targets(inputs: Inputs, image_ids: Sequence[str], tags: TagColumns, soft: bool) -> csr_matrix:
    """The cleaned tags: with ``soft`` the targets of ``tag_verdicts``, else 1 for what was kept.

    Soft targets teach the annotator's probability as well for tags that nothing names.
    """
    if not soft:
        return matrix(
            inputs.sql("SELECT image_id, tag_id, 1.0::FLOAT AS target FROM tag_verdicts WHERE kept"), image_ids, tags
        )
    return matrix(inputs.sql(_SOFT.format(value="target")), image_ids, tags)


def generation_targets(inputs: Inputs, image_ids: Sequence[str], tags: TagColumns, soft: bool) -> csr_matrix:
    """All tags, nothing cleaned: 1 for what a caption names; 1, or with ``soft`` its score, for what was added."""
    if not soft:
        return matrix(inputs.sql("SELECT image_id, tag_id, 1.0::FLOAT AS target FROM tag_verdicts"), image_ids, tags)
    value = f"CASE WHEN source & {TagSource.CAPTION} > 0 THEN 1 ELSE score END::FLOAT"
    return matrix(inputs.sql(_SOFT.format(value=value)), image_ids, tags)


_SOFT = """
WITH scores AS (SELECT image_id, unnest(scores, recursive := true) FROM generated)
SELECT image_id, tag_id, {value} AS target FROM tag_verdicts
UNION ALL
SELECT image_id, tag_id, score AS target FROM scores ANTI JOIN tag_verdicts USING (image_id, tag_id)
"""


def truth_targets(inputs: Inputs, image_ids: Sequence[str], tags: TagColumns) -> csr_matrix:
    """The whole truth, in the tags of the label system. For evaluation and its ceiling alone."""
    return matrix(inputs.sql(f"SELECT *, 1.0::FLOAT AS target FROM ({TRUE_TAGS_SQL})"), image_ids, tags)


def row_targets(row: Row, inputs: Inputs, image_ids: Sequence[str], tags: TagColumns, soft: bool) -> csr_matrix:
    """What a row of the ablation is taught; ``soft``: the annotator's probabilities, where that row has any.

    Raises ValueError for a row that is not taught by what the store holds alone.
    """
    match row:
        case Row.PARSED:
            return caption_targets(inputs, image_ids, tags)
        case Row.GENERATION:
            return generation_targets(inputs, image_ids, tags, soft)
        case Row.CLEANING:
            return verdict_targets(inputs, image_ids, tags, soft)
        case Row.TRUTH:
            return truth_targets(inputs, image_ids, tags)
    raise ValueError(f"the row '{row}' is not trained on labels of the store alone")


def matrix(pairs: pa.Table, image_ids: Sequence[str], tags: TagColumns) -> csr_matrix:
    """Rows (image_id, tag_id, target) as a matrix, the greatest target of each pair.

    Other images and inactive tags are left out.
    """
    rows = _places(pairs["image_id"], pa.array(image_ids, pa.string()))
    columns = _places(pairs["tag_id"], pa.array(tags.ids, pa.int32()))
    values = pairs["target"].to_numpy().astype(np.float32)
    inside = (rows >= 0) & (columns >= 0)
    rows, columns, values = rows[inside], columns[inside], values[inside]
    order = np.lexsort((-values, columns, rows))
    rows, columns, values = rows[order], columns[order], values[order]
    first = np.ones(len(rows), bool)
    first[1:] = (rows[1:] != rows[:-1]) | (columns[1:] != columns[:-1])
    return csr_matrix((values[first], (rows[first], columns[first])), shape=(len(image_ids), len(tags.ids)))


def _places(column: pa.ChunkedArray, values: pa.Array) -> NDArray[np.int64]:
    """Where each value of ``column`` stands among ``values``; -1: nowhere."""
    places: NDArray[np.int64] = pc.fill_null(pc.index_in(column, values), -1).to_numpy().astype(np.int64)
    return places
