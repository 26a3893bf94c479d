"""What a plan says beforehand: unfit files of the source, and what each setting makes dearer."""

from __future__ import annotations

from pathlib import Path

import pytest

from ram_engine import configuration
from storage.store import Store
from tasks.machine import costs
from tasks.machine.dag import stage_named
from tasks.machine.outlook import Request, cost, outlook
from tasks.machine.planning import PlanError


def test_files_that_are_missing_or_empty_are_named_before_anything_runs(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "there.jpg").write_bytes(b"x" * 3_000_000)  # it is not opened
    (images / "empty.jpg").write_bytes(b"")
    rows = [f"{name}.jpg,a dog" for name in ("there", "empty", "gone 1", "gone 2", "gone 3", "gone 4")]
    (images / "bare.jpg").write_bytes(b"x" * 1_000_000)
    (tmp_path / "captions.csv").write_text("\n".join(["image,caption", *rows, "there.jpg,", "bare.jpg,"]))
    unfit = "4 image_missing (gone 1.jpg, gone 2.jpg, gone 3.jpg, ..); 1 image_empty (empty.jpg); "
    stops = "; more than the error budget of 20%: the run would stop there"
    for sets, said in ((), "1 without a caption"), (["ingest.bare=reject"], "1 row_without_caption (bare.jpg)"):
        settings, _ = configuration.configure("tiny", f"csv:{tmp_path / 'captions.csv'}", sets)
        planned = outlook(Store(tmp_path / "store"), settings, Request())
        ingest = planned[0]
        assert ingest.note == unfit + said + stops
    assert ingest.bytes == 4_000_000
    assert "fine-tune" not in {one.stage.name for one in planned}  # the source has no pairs for it
    seconds, stored = cost(planned)
    assert seconds > sum(one.seconds for one in planned)
    assert stored > ingest.bytes


def test_pictures_alone_are_refused_before_anything_runs_unless_tags_are_named(tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "bare.jpg").write_bytes(b"x" * 1_000)
    (tmp_path / "tags.txt").write_text("dog\n")
    settings, _ = configuration.configure("tiny", f"folder:{tmp_path / 'bare'}")
    store = Store(tmp_path / "store")
    with pytest.raises(PlanError, match=r"^build-labels: .* no picture has a caption: bring captions for some"):
        outlook(store, settings, Request())
    assert outlook(store, settings, Request(until="parse-captions"))
    named, _ = configuration.configure(
        "tiny", f"folder:{tmp_path / 'bare'}", [f"build_labels.tag_list={tmp_path / 'tags.txt'}"]
    )
    assert outlook(store, named, Request())


@pytest.mark.parametrize(
    ("stage", "dearer"),
    [
        ("encode", "encode.views=4"),
        ("encode", "encode.image_size=320"),
        ("encode", 'encode.annotator_encoders=["tf_efficientnet_lite1@240"]'),
        ("train-baseline", "train_baseline.folds=5"),
        ("train-baseline", "train_baseline.epochs=9"),
        ("generate", "generate.captions=3"),
        ("generate", "generate.caption_judge=conse"),
        ("measure", "measure.caption_judge=conse"),
        ("ground", "ground.proposer=grounding_dino:hub:OWNER/NAME/model.pth"),
    ],
)
def test_the_first_guess_knows_what_a_setting_costs(stage: str, dearer: str) -> None:
    plain, dear = (configuration.configure("tiny", sets=sets)[0] for sets in ([], [dearer]))
    chosen = stage_named(stage)
    seconds = [costs.first_guess(chosen, chosen.settings_of(one), one.encode, 1000) for one in (plain, dear)]
    assert seconds[1] > 1.3 * seconds[0]
    measured = costs.Pricing({"judge": 3.0, stage: 2.0}, plain.encode).seconds(chosen, chosen.settings_of(plain), 1000)
    assert measured == pytest.approx(2 * seconds[0])  # at its own pace, not at another stage's
