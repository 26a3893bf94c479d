"""The detector on real photographs, against a picture that it sees in another size and place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnxruntime")

from models.regions import OnnxDetectorProposer, read_classes
from tests.conftest import shared

PHOTOGRAPH = "data/flickr8k/images/1001773457_577c3a7d70.jpg"  # two dogs on a road


def test_a_class_may_stand_for_several_words(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("Person, man,woman\n\ntraffic light\n", "utf-8")
    assert read_classes(tmp_path / "classes.txt") == [["person", "man", "woman"], ["traffic light"]]


def test_it_finds_the_dogs_wherever_they_are() -> None:
    classes = read_classes(shared("data/detector/coco_classes.txt"))
    number = {words[0]: at for at, words in enumerate(classes)}
    tags = {100: number["dog"], 101: number["airplane" if "airplane" in number else "aeroplane"]}
    proposer = OnnxDetectorProposer(shared("data/detector/yolox_nano.onnx"), tags, len(classes))
    picture = Image.open(shared(PHOTOGRAPH)).convert("RGB")
    (found,) = proposer.propose([picture], [[101, 100, 7]])
    assert [each.tag_id for each in found] == [100, 100]
    assert all(each.score > 0.5 for each in found)
    assert all(0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1 for x0, y0, x1, y1 in (each.box for each in found))
    # the same picture in the lower right quarter of a larger one: the boxes move along
    larger = Image.new("RGB", (2 * picture.width, 2 * picture.height), (114, 114, 114))
    larger.paste(picture, picture.size)
    (moved,) = proposer.propose([larger], [[100]])
    best = np.array(found[0].box) / 2 + 0.5
    assert min(np.abs(np.array(each.box) - best).max() for each in moved) < 0.12
    # a batch is one picture after the other
    assert proposer.propose([picture, larger], [[101, 100, 7], [100]]) == [found, moved]


def test_another_list_of_classes_is_an_error_that_says_so() -> None:
    with pytest.raises(ValueError, match="check the list of classes"):
        OnnxDetectorProposer(shared("data/detector/yolox_nano.onnx"), {}, 79)
