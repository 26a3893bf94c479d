from __future__ import annotations

import pytest
import torch
from PIL import Image

from models import everyday
from models.zero_shot import THRESHOLD, ClipZeroShot, ZeroShot
from tests.models.small import SHARED, needs_shared


@pytest.fixture(scope="module")
def tagger() -> ZeroShot:
    return ZeroShot(["tf_efficientnet_lite0"])


def test_every_class_has_words_from_the_particular_to_the_general() -> None:
    rows = everyday.classes()
    assert len(rows) == 1000
    assert all(row and all(row) for row in rows)
    assert rows[207] == ("dog", "animal")  # a golden retriever
    assert rows[511] == ("convertible", "car", "vehicle")
    assert len(everyday.words()) > 700


def test_a_picture_is_looked_at_in_squares() -> None:
    assert everyday.squares(200, 100) == [(0, 0, 100, 100), (50, 0, 150, 100), (100, 0, 200, 100)]
    assert everyday.squares(100, 110) == [(0, 0, 100, 110)]
    assert [square.size for square in everyday.cut(Image.new("RGB", (50, 100)))] == [(50, 50)] * 3


@needs_shared
def test_it_says_what_is_there_and_nothing_where_it_knows_nothing(tagger: ZeroShot) -> None:
    assert SHARED is not None
    bear = Image.open(SHARED / "data/coco_photographs/images/000000000285.jpg").convert("RGB")
    found = dict(zip(tagger.words, tagger.probabilities(bear).tolist(), strict=True))
    said = {word for word, score in found.items() if score >= THRESHOLD}
    assert {"animal", "bear"} <= said <= {"animal", "bear", "brown bear"}
    assert found["animal"] >= found["bear"] >= found["brown bear"]
    grey = Image.new("RGB", (320, 240), "grey")
    assert not (tagger.probabilities(grey) >= tagger.thresholds()).any()
    asked = tagger.label_probabilities(bear, ["bear", "Bear", "grizzly", "laptop computer"]).tolist()
    assert asked[0] == asked[1] == pytest.approx(found["bear"])
    assert asked[2] > 10 * asked[3]  # judged by bears, and by laptops
    assert tagger.stand_ins("bear") == []
    assert tagger.stand_ins("laptop computer")[0] == "laptop"
    (left,) = tagger.label_maps(_beside(bear), ["bear"], 12)
    assert left[:, :6].sum() > 3 * left[:, 6:].sum()


def _beside(picture: Image.Image) -> Image.Image:
    """The picture on the left of as much grey."""
    wide = Image.new("RGB", (2 * picture.width, picture.height), "grey")
    wide.paste(picture, (0, 0))
    return wide


def test_a_clip_answers_in_the_same_words(clip_encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    few = (("dog", "animal"), ("taxi", "car", "vehicle"), ("cat", "animal"))
    monkeypatch.setattr(everyday, "classes", lambda: few)
    everyday.words.cache_clear()
    monkeypatch.setattr(everyday, "words", lambda: ("animal", "car", "cat", "dog", "person", "taxi", "vehicle"))
    clip = ClipZeroShot(clip_encoder)
    picture = Image.effect_noise((64, 64), 90).convert("RGB")
    found = dict(zip(clip.words, clip.probabilities(picture).tolist(), strict=True))
    assert found["animal"] == pytest.approx(found["dog"] + found["cat"], abs=1e-5)
    assert found["animal"] + found["taxi"] + found["person"] == pytest.approx(1, abs=1e-5)
    known, new = clip.label_probabilities(picture, ["dog", "forklift"]).tolist()
    assert known == pytest.approx(found["dog"])
    assert 0 < new < 1
    maps = clip.label_maps(picture, ["dog"], 4)
    assert maps.shape == (1, 4, 4)
    assert bool(torch.isfinite(maps).all())
