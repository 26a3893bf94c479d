"""What is known of test pictures: the truth, a person's own labels, or what captions name, a part of what is there."""

from __future__ import annotations

from collections.abc import Iterable

from scipy.sparse import csr_matrix

from tasks.evaluation.verdict import FEWEST
from tasks.machine.inputs import Inputs
from tasks.training.data import TagColumns
from tasks.training.targets import BY_CAPTIONS, BY_DESCRIPTION, BY_TRUTH, described_ids, matrix


def measured(inputs: Inputs, image_ids: Iterable[str]) -> tuple[list[str], str]:
    """Those of the test images to measure on, and what against: a key of
    :data:`~tasks.evaluation.verdict.AGAINST`. Where a person describes enough of them fully, those alone."""
    if inputs.has("truth"):
        return list(image_ids), "truth"
    described = described_ids(inputs, image_ids)
    if len(described) >= FEWEST:
        return described, "described"
    said = inputs.sql(
        "SELECT DISTINCT caption_index >= 0 AS by_caption FROM caption_tags SEMI JOIN "
        "(SELECT image_id FROM pairs WHERE split = 'test') USING (image_id)"
    )["by_caption"].to_pylist()
    kinds = [name for name, by_caption in (("captions", True), ("labels", False)) if by_caption in said]
    return list(image_ids), " and ".join(kinds or ["captions"])


def known_targets(inputs: Inputs, image_ids: Iterable[str], tags: TagColumns, against: str) -> csr_matrix:
    """What is true of the images, (images, tags), by what :func:`measured` says to measure against."""
    query = {"truth": BY_TRUTH, "described": BY_DESCRIPTION}.get(against, BY_CAPTIONS)
    return matrix(inputs.sql_by_piece(query), image_ids, tags)
