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
from tasks.judging.caption_fit import caption_fit
from tasks.settings.generate import GenerateSettings
from tests.conftest import shared

ENCODER, CPU = "tf_efficientnet_lite0", torch.device("cpu")


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
    fit = caption_fit("conse", ENCODER, CPU)
    assert fit is not None
    others = names[1:] + names[:1]
    own_and_other = fit(images, [[captions[a][:1], captions[b][:1]] for a, b in zip(names, others, strict=True)])
    scores = [texts[0] for both in own_and_other for texts in both]
    assert roc_auc_score([1, 0] * len(names), scores) > 0.6
    # an image alone gets what it gets in a batch
    assert fit(images[3:4], [[captions[names[3]][:1]]])[0][0] == pytest.approx(own_and_other[3][0], abs=1e-4)
    assert fit(images[:2], [[[], []], [[], []]]) == [[[], []], [[], []]]


def test_any_clip_may_judge(tmp_path: object) -> None:
    name = "ViT-S-32-alt"
    file = f"{tmp_path}/clip.pt"
    torch.save(open_clip.create_model(name).state_dict(), file)
    fit = caption_fit(f"open_clip:{name}:{file}", ENCODER, CPU)
    assert fit is not None
    picture = Image.new("RGB", (90, 60), "orange")
    ((found,),) = fit([picture], [[["an orange picture", "a dog"]]])
    clip = CLIP(f"open_clip:{name}:{file}")
    with torch.no_grad():
        image = clip.model.encode_image(clip.preprocessing.transform()(picture)[None], normalize=True)
        texts = clip.model.encode_text(open_clip.get_tokenizer(name)(["an orange picture", "a dog"]), normalize=True)
    assert found == pytest.approx((image @ texts.T)[0].tolist(), abs=1e-5)


def test_the_tagger_needs_no_second_judge_and_others_are_unknown() -> None:
    assert caption_fit("tagger", ENCODER, CPU) is None
    with pytest.raises(ValidationError, match="there is no caption judge"):
        GenerateSettings(caption_judge="clip")
