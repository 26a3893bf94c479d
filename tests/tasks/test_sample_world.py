from __future__ import annotations

import io
import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from tasks.sample_world import world
from tasks.sample_world.layout import TINTS
from tasks.sample_world.nouns import NEVER_CAPTIONED, NOUNS, plural
from tasks.sources.sample import SampleSource

SOURCE = SampleSource(train=240, fine_tune=20, calibrate=10, test=40)
NAMES = [name for name, _ in world.item_names(SOURCE)]


def layout_of(source: SampleSource, name: str) -> world.Layout:
    split, index = name.rsplit("-", 1)
    return world.compose(world._rng(source.seed, split, int(index), world._LAYOUT))


def test_names_follow_the_counts_of_the_source() -> None:
    assert Counter(split for _, split in world.item_names(SOURCE)) == {
        "train": 240,
        "fine_tune": 20,
        "calibrate": 10,
        "test": 40,
    }
    assert len(set(NAMES)) == len(NAMES)


def test_an_item_depends_on_seed_and_name_alone() -> None:
    chosen = [NAMES[0], NAMES[117], NAMES[-1]]
    forwards = {name: world.draw(SOURCE, name) for name in chosen}
    larger = SampleSource(train=5000, test=2000)
    backwards = {name: world.draw(larger, name) for name in reversed(chosen)}
    assert forwards == backwards


def test_another_seed_is_another_world() -> None:
    here, there = world.draw(SOURCE, "train-000003"), world.draw(SampleSource(seed=1), "train-000003")
    assert here.image != there.image
    assert here.tags != there.tags


def test_a_wrong_name_is_refused() -> None:
    with pytest.raises(ValueError, match="no item 'training-1'"):
        world.draw(SOURCE, "training-1")


def test_pictures_are_jpegs_with_boxes_inside() -> None:
    for name in NAMES[:30]:
        item = world.draw(SOURCE, name)
        image = Image.open(io.BytesIO(item.image))
        assert (image.format, image.size) == ("JPEG", (384, 384))
        assert {label for label, _ in item.objects} == {tag for tag, type_ in item.tags if type_ == "object"}
        boxes = np.array([box for _, box in item.objects])
        assert (boxes >= 0).all()
        assert (boxes <= 1).all()
        assert (boxes[:, 2:] - boxes[:, :2] > 0.02).all()


def test_an_object_is_drawn_where_its_box_says() -> None:
    """Without its objects the same picture differs inside the boxes more than outside."""
    name = "test-000001"
    layout = layout_of(SOURCE, name)
    empty = world.Layout(layout.scene, ())
    with_objects, boxes = world.paint(layout, world._rng(0, "test", 1, world._PAINT))
    full = np.asarray(Image.open(io.BytesIO(with_objects)).convert("L"), np.float32)
    without, _ = world.paint(empty, world._rng(0, "test", 1, world._PAINT))
    bare = np.asarray(Image.open(io.BytesIO(without)).convert("L"), np.float32)
    inside = np.zeros((384, 384), bool)
    for _, box in boxes:
        x0, y0, x1, y1 = (round(edge * 384) for edge in box)
        inside[y0:y1, x0:x1] = True
    changed = np.abs((full - np.median(full[~inside])) - (bare - np.median(bare[~inside])))
    assert changed[inside].mean() > 2 * changed[~inside].mean()


def test_training_captions_name_about_two_fifths() -> None:
    source = SampleSource()
    shares = []
    for index in range(600):
        name = f"train-{index:06d}"
        described = f"train-{world.caption_index(0, 'train', index):06d}"
        truth = set(layout_of(source, described).tags)
        (caption,) = world.captions(source, name)
        assert set(caption.mentions) <= truth
        shares.append(len(caption.mentions) / len(truth))
    assert 0.36 < np.mean(shares) < 0.45


def test_one_training_caption_in_twelve_is_of_another_picture() -> None:
    for block in range(20):
        indices = range(block * 12, block * 12 + 12)
        swapped = [index for index in indices if world.caption_index(0, "train", index) != index]
        assert len(swapped) == 1
        assert world.caption_index(0, "train", swapped[0]) < swapped[0]
    assert all(world.caption_index(0, "test", index) == index for index in range(240))
    item = world.draw(SOURCE, f"train-{swapped[0]:06d}")
    assert item.caption_of != item.name


def test_never_captioned_nouns_are_seen_but_never_named() -> None:
    forms = [word for name in NEVER_CAPTIONED for word in (name, plural(name))]
    pattern = re.compile(r"\b(" + "|".join(forms) + r")\b", re.IGNORECASE)
    seen: Counter[str] = Counter()
    for name in NAMES:
        for caption in world.captions(SOURCE, name):
            assert not pattern.search(caption.text)
        seen.update({tag for tag, _ in layout_of(SOURCE, name).tags if tag in NEVER_CAPTIONED})
    assert len(NEVER_CAPTIONED) >= 10
    assert set(seen) == set(NEVER_CAPTIONED)


def test_described_items_name_everything_else() -> None:
    for name in NAMES[240:]:
        layout = layout_of(SOURCE, name)
        named = {tag for caption in world.captions(SOURCE, name) for tag in caption.mentions}
        only_of_unnamed = {
            (attribute, "attribute")
            for group in layout.groups
            if group.never_captioned
            for attribute in group.attributes
        }
        missing = set(layout.tags) - named - only_of_unnamed
        assert {tag for tag, _ in missing} <= set(NEVER_CAPTIONED)


def test_mentions_stand_in_the_text() -> None:
    """A caption that claims to name a noun has one of its words; a colour stands there as itself."""
    for name in NAMES:
        for caption in world.captions(SOURCE, name):
            text = caption.text.lower()
            for tag, type_ in caption.mentions:
                if tag in NOUNS:
                    assert any(form in text for word in NOUNS[tag].words for form in (word, plural(word)))
                if type_ == "attribute" and tag in TINTS:
                    assert tag in text


def test_the_world_has_many_everyday_nouns() -> None:
    seen = Counter(tag for index in range(400) for tag in layout_of(SOURCE, f"test-{index:06d}").tags)
    assert len(NOUNS) >= 80
    assert all(seen[(name, "object")] >= 5 for name in NOUNS)
    assert len({name for name, type_ in seen if type_ == "scene"}) >= 10
    assert len({name for name, type_ in seen if type_ == "action"}) >= 10
