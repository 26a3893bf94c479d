from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from models import Label, tagger_folder
from models.regions import Proposal
from storage.schemas import check
from tasks.annotators.models import load_model
from tasks.labels.tags import Tag
from tasks.proposers.base import Detector, Proposals
from tasks.proposers.onnx_detector import classes_of_tags
from tasks.settings.training import TrainSettings
from tasks.stages.ground import Rejected, detected, usable
from tasks.training.data import TagColumns
from tasks.training.jobs import write_record
from tests.models.small import small_tagger

IMAGES = [Image.new("RGB", (8 + number, 8)) for number in range(4)]
NAMES = [f"{number:016x}" for number in range(4)]


def fails(images: Sequence[Image.Image], tag_ids: Sequence[Sequence[int]]) -> Proposals:
    """A detector that cannot do with pictures of one width."""
    if any(image.width == 10 for image in images):
        raise RuntimeError("out of luck")
    return [[(tag, (0.0, 0.0, 0.5, 0.5), 0.9) for tag in tags] for tags in tag_ids]


def test_a_detector_that_fails_on_one_image_loses_that_image_alone() -> None:
    rejected = Rejected()
    found = detected(
        Detector(frozenset({1, 2, 3, 4}), fails),
        lambda places: [IMAGES[place] for place in places],
        [[1], [2], [3], [4]],
        NAMES,
        rejected,
    )
    assert [[each.tag_id for each in proposals] for proposals in found] == [[1], [2], [], [4]]
    (row,) = check("regions_rejected", rejected.table()).to_pylist()
    assert (row["image_id"], row["reason"]) == (NAMES[2], "detector_failed")
    assert "out of luck" in row["detail"]


NUMBERS = st.floats(width=32, allow_nan=True, allow_infinity=True)


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS)))
def test_boxes_are_within_the_picture_or_rejected(drawn: list[tuple[float, ...]]) -> None:
    rejected = Rejected()
    proposals = [Proposal(number, box[:4], box[4]) for number, box in enumerate(drawn)]  # type: ignore[arg-type]
    kept = usable(proposals, NAMES[0], rejected)
    assert len(kept) + len(rejected.rows) == len(proposals)
    for each in kept:
        x0, y0, x1, y1 = each.box
        assert 0 <= x0 < x1 <= 1
        assert 0 <= y0 < y1 <= 1
        assert math.isfinite(each.score)
    check("regions_rejected", rejected.table())


def test_boxes_that_are_none_are_named() -> None:
    rejected = Rejected()
    boxes = [(1.2, 0, 1.4, 1), (0.5, 0, 0.5, 1), (math.nan, 0, 1, 1), (-1, -1, 2, 2)]
    kept = usable([Proposal(5, box, 0.5) for box in boxes], NAMES[0], rejected)
    assert [each.box for each in kept] == [(0, 0, 1, 1)]
    assert [row["reason"] for row in rejected.rows] == ["bad_box"] * 3
    assert "nan" in rejected.rows[2]["detail"]


def test_classes_are_tags_by_name_or_synonym() -> None:
    tags = [
        Tag(1, "airplane", "object", ("aeroplane", "plane"), groundable=True),
        Tag(2, "man", "object", ("guy",), groundable=True),
        Tag(3, "puppy", "object", groundable=True),
        Tag(4, "dog", "object"),
        Tag(5, "orange", "object", groundable=True),
    ]
    classes = [["person", "man", "woman"], ["aeroplane"], ["dog"], ["orange"]]
    assert classes_of_tags(tags, classes) == {1: 1, 2: 0, 5: 3}


def test_a_model_of_another_label_system_is_refused(tmp_path: Path) -> None:
    tagger_folder.save(small_tagger("ram").float(), tmp_path)
    write_record(tmp_path, TrainSettings(), [])
    others = TagColumns((0, 1), (Label("lorry"), Label("forklift")))
    with pytest.raises(ValueError, match="labels that are not active tags: dog, cat, beach"):
        load_model(tmp_path, others, torch.device("cpu"))
