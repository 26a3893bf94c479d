from __future__ import annotations

import csv
from collections import defaultdict

import open_clip
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from models.clip import CLIP
from tasks.caption_judges.base import CaptionJudgeContext
from tasks.caption_judges.conse import ConseJudge
from tasks.settings.generate import GenerateSettings
from tasks.settings.measure import MeasureSettings
from tests.conftest import shared

CONTEXT = CaptionJudgeContext("tf_efficientnet_lite0", "cpu")


def test_captions_of_other_photographs_fit_less() -> None:
    folder = shared("data/flickr8k/captions.csv").parent
    captions: dict[str, list[str]] = defaultdict(list)
    with open(folder / "captions.csv", encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            captions[row["image"]].append(row["caption"])
            if len(captions) > 60:
                break
    names = sorted(captions)[:60]
    images = [Image.open(folder / "images" / name).convert("RGB") for name in names]
    caption_fit = ConseJudge().make(CONTEXT)
    others = names[1:] + names[:1]
    own_and_other = caption_fit(
        images, [[captions[own][0], captions[other][0]] for own, other in zip(names, others, strict=True)]
    )
    scores = [score for both in own_and_other for score in both]
    assert roc_auc_score([1, 0] * len(names), scores) > 0.6
    # an image alone gets what it gets in a batch
    assert caption_fit(images[3:4], [captions[names[3]][:1]])[0] == pytest.approx(own_and_other[3][:1], abs=1e-4)
    assert caption_fit(images[:2], [[], []]) == [[], []]


def test_any_clip_may_judge(tmp_path: object) -> None:
    name = "ViT-S-32-alt"
    file = f"{tmp_path}/clip.pt"
    torch.save(open_clip.create_model(name).state_dict(), file)
    settings = MeasureSettings(caption_judge=f"open_clip:{name}:{file}")
    assert settings.files() == (file,)
    caption_fit = settings.caption_judge.make(CONTEXT)
    assert caption_fit is not None
    picture = Image.new("RGB", (90, 60), "orange")
    (found,) = caption_fit([picture], [["an orange picture", "a dog"]])
    clip = CLIP(f"open_clip:{name}:{file}")
    with torch.no_grad():
        image = clip.model.encode_image(clip.preprocessing.transform()(picture)[None], normalize=True)
        texts = clip.model.encode_text(open_clip.get_tokenizer(name)(["an orange picture", "a dog"]), normalize=True)
    assert found == pytest.approx((image @ texts.T)[0].tolist(), abs=1e-5)


def test_the_tagger_needs_no_second_judge_and_others_are_unknown() -> None:
    assert GenerateSettings().caption_judge.make(CONTEXT) is None
    with pytest.raises(ValidationError, match="there is no caption judge 'clip'"):
        GenerateSettings(caption_judge="clip")
