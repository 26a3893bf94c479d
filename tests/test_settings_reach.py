"""What a setting recomputes: its own stage, those that share it, and what follows; nothing before them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ram_engine.configuration import configure
from storage.store import Store
from tasks.machine.dag import stage_named, stages
from tasks.machine.planning import plan, recipe_of
from tasks.machine.stage_run import StageRun
from tasks.settings.base import PathName, Settings
from tasks.settings.pipeline import PipelineSettings

SHARED = {"judge": {"audit", "judge"}, "retrain": {"retrain", "train-ablation"}}  # settings that two stages have
HAVE_SPLITS = {("ingest", "calibrate_share"), ("ingest", "test_share")}  # the sample's pictures have theirs
FIELDS = [
    (section, name)
    for section, settings in PipelineSettings()
    if isinstance(settings, Settings)
    for name in type(settings).model_fields
]


OTHER_MEMBERS = {  # as the command line names them
    "source": "sample:7",
    "annotator": "pretrained:{file.parent}",
    "proposer": "grounding_dino:{file}",
    "caption_judge": "conse",
}


def other_value(value: Any, is_path: bool, file: Path) -> Any:
    """Another value of the same type, sensible or not: a key asks only whether it is another one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return str(file) if is_path else f"{value}x"
    if isinstance(value, tuple):
        return (*value, 1)
    raise NotImplementedError(type(value))


@pytest.fixture(scope="module")
def tiny() -> PipelineSettings:
    return configure("tiny")[0]


@pytest.mark.parametrize(("section", "name"), FIELDS)
def test_a_setting_recomputes_its_own_stages_alone(
    section: str, name: str, tiny: PipelineSettings, finished_store: Path, tmp_path: Path
) -> None:
    file = tmp_path / "named.txt"
    file.write_text("dog\n")
    (tmp_path / "config.json").write_text("{}")
    settings = getattr(tiny, section)
    is_path = set(PathName.__metadata__) & set(type(settings).model_fields[name].metadata)  # type: ignore[attr-defined]
    if isinstance(getattr(settings, name), Settings):
        other = type(settings)(**{**settings.model_dump(), name: OTHER_MEMBERS[name].format(file=file)})
    else:
        other = settings.model_copy(update={name: other_value(getattr(settings, name), bool(is_path), file)})
    changed = tiny.model_copy(update={section: other})
    store, computed = Store(finished_store), set()
    for stage in stages(tiny.rounds):
        if stage.settings_of(changed) != stage.settings_of(tiny):
            if not plan(StageRun(store, stage, stage.settings_of(changed))).kept:
                computed.add(stage.name)
    without_effect = name in settings.without_effect or (section, name) in {("retrain", "folds"), *HAVE_SPLITS}
    own = SHARED.get(section, {section.replace("_", "-")})
    assert computed == (set() if without_effect else own)


def test_a_setting_at_its_default_enters_no_key(tiny: PipelineSettings) -> None:
    judge = tiny.judge
    assert judge.identity() == {}
    assert judge.model_copy(update={"doubt": 0.5, "error_budget": 0.1}).identity() == {"doubt": 0.5}
    assert tiny.ingest.identity()["source"] == {
        "kind": "sample", "train": 96, "fine_tune": 16, "calibrate": 24, "test": 24
    }  # fmt: skip


@pytest.mark.parametrize(("section", "name"), FIELDS)
def test_a_forms_words_are_sentences(section: str, name: str) -> None:
    words = type(getattr(PipelineSettings(), section)).model_fields[name].description or ""
    assert words.endswith("."), words
    assert words.partition(" ")[0] not in ("Of", "Within", "Until", "Its", "What", "Who", "How"), words


def test_a_file_counts_by_its_contents_wherever_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, weights in (("here/model", "1"), ("there/model", "1"), ("other/model", "2")):
        for name in ("weights.pth", "config.json"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / name).write_text(weights)
    monkeypatch.chdir(tmp_path)
    for section, text in (
        ("ground.proposer", "grounding_dino:{}/weights.pth"),
        ("train_baseline.annotator", "pretrained:{}"),
        ("build_labels.tag_list", "{}/config.json"),
    ):
        name = section.partition(".")[0]
        places = ("here/model", "there/model", "other/model", str(tmp_path / "here/model"))
        chosen = [
            getattr(configure({}, sets=[f"{section}={text.format(place)}"])[0], name).absolute() for place in places
        ]
        recipes = [recipe_of(stage_named(name.replace("_", "-")), settings, {}) for settings in chosen]
        assert recipes[0] == recipes[1] == recipes[3] != recipes[2], section
        assert chosen[0] == chosen[3], section
    detector = (
        configure({}, sets=["ground.proposer=grounding_dino:here/model/weights.pth"])[0].ground.absolute().proposer
    )
    assert (detector.checkpoint, detector.configuration) == (str(tmp_path / "here/model/weights.pth"), "swin-t")
