"""The preset `auto`: whatever the facts, settings that hold, each with a reason; and a store that keeps them."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.image_encoder import PACKAGED
from ram_engine.at_hand import package_of
from ram_engine.automatic import EFFORTS, MANY, SIDES, Facts, as_yaml, choose, settings_of
from ram_engine.configuration import configure
from storage.store import Store
from tests.conftest import ram_engine

facts = st.builds(
    Facts,
    pictures=st.integers(1, 20_000_000),
    captions=st.integers(1, 20_000_000),
    memory_gb=st.floats(0.5, 4_000),
    disk_gb=st.floats(0, 100_000) | st.just(math.inf),
    gpu=st.booleans(),
    encoders=st.lists(st.sampled_from(list(SIDES)), unique=True).map(tuple),
    sentence_encoder=st.booleans(),
    effort=st.sampled_from(EFFORTS),
    annotator=st.sampled_from([None, {"kind": "pretrained", "path": "models/ram"}]),
)


@settings(max_examples=100)
@given(facts)
def test_whatever_the_facts_settings_hold_and_each_choice_has_its_reason(facts: Facts) -> None:
    choices = choose(facts)
    assert all(choice.told.count(" since ") == 1 + choice.told.count(" GB of memory") for choice in choices)
    values = settings_of(choices)
    ready = values["train_baseline"].pop("annotator", None)  # configure looks whether it is there
    assert ready == facts.annotator
    chosen, _ = configure(yaml.safe_load(yaml.safe_dump(values)))
    assert chosen.build_labels.min_count <= max(3, facts.captions // 30)
    assert len(chosen.encode.further()) < max(1, len(facts.encoders))
    if chosen.train_baseline.caption:
        assert facts.captions >= MANY
        assert facts.gpu or facts.effort == "thorough"
        assert chosen.train_baseline.folds
    if facts.effort == "quick":
        assert not chosen.encode.annotator_encoders
    if facts.annotator is None and not facts.sentence_encoder:
        assert chosen.train_baseline.folds
        assert chosen.retrain.architecture == "tag2text"


def test_more_captions_ask_more_of_a_word_and_a_small_disk_holds_fewer_features() -> None:
    def chosen(**changed: float) -> tuple[int, int]:
        made, _ = configure(settings_of(choose(replace(Facts(6_000, 6_000, 16), **changed))))  # type: ignore[arg-type]
        return made.build_labels.min_count, len(made.encode.annotator_encoders)

    assert [chosen(captions=count)[0] for count in (80, 600, 6_000, 60_000)] == [3, 5, 10, 20]
    assert [chosen(disk_gb=size)[1] for size in (1, 4, 6)] == [0, 1, 2]


def test_packages_of_weights_are_those_that_the_encoders_are_loaded_from() -> None:
    assert {name: package for name, (package, _) in PACKAGED.items()} == {name: package_of(name) for name in SIDES}


class Pictures:
    """A CSV of drawn rectangles, their colours as captions."""

    def __init__(self, folder: Path, count: int) -> None:
        self.file = folder / "captions.csv"
        self.rows = []
        for number in range(count):
            colour = ("red", "green", "blue")[number % 3]
            Image.new("RGB", (40 + number, 40), colour).save(folder / f"{number}.png")
            self.rows.append([f"{number}.png", f"a {colour} square"])
        self.write()

    def write(self) -> None:
        with self.file.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["image", "caption"], *self.rows])


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    return Pictures(tmp_path, 12)


def test_what_was_chosen_stays_until_it_is_chosen_anew(prefect_api: str, pictures: Pictures, tmp_path: Path) -> None:
    store, source = str(tmp_path / "store"), f"csv:{pictures.file}"
    pinned = tmp_path / "store" / "settings.yaml"

    def told(command: str, *more: str) -> str:
        return ram_engine(command, "--store", store, "--until", "ingest", *more).stdout

    planned = told("plan", "--source", source)
    assert "annotator: ridge regression on" in planned
    assert "12 captions are too few to train one" in planned
    assert not Path(store).exists()  # looking makes no store, and pins nothing
    assert "settings for 12 pictures with 12 captions" in told("run", "--source", source)
    chosen = yaml.safe_load(pinned.read_text())
    assert chosen["build_labels"]["min_count"] == 3
    assert chosen["train_baseline"]["solver"] == "ridge"

    pictures.rows += [[f"{number % 12}.png", f"a square, number {number}"] for number in range(400)]
    pictures.write()
    again = told("plan")  # neither a source nor a preset
    assert f"settings as pinned in {pinned}" in again
    assert "settings for" not in again
    pinned.write_text(pinned.read_text().replace("min_count: 3", "min_count: 4"))
    made = told("plan", "--preset", str(pinned), "--set", "build_labels.min_type_share=0.2")
    assert "settings for" not in made
    assert yaml.safe_load(pinned.read_text())["build_labels"]["min_count"] == 4
    assert "effort thorough" in told("plan", "--set", "effort=thorough")  # the dial was turned
    told("run", "--preset", "auto")
    assert yaml.safe_load(pinned.read_text())["build_labels"]["min_count"] == 5


def test_a_pinned_file_is_a_preset_that_says_why(tmp_path: Path) -> None:
    facts = Facts(600, 600, 16)
    file = tmp_path / "mine.yaml"
    file.write_text(as_yaml(facts, choose(facts)))
    assert all(f"# {choice}" in file.read_text() for choice in choose(facts))
    assert configure(str(file)) == configure(settings_of(choose(facts)))


@pytest.mark.parametrize(
    ("change", "arguments", "sentence"),
    [
        (lambda rows: rows.clear(), (), "no picture that can be used"),
        (lambda rows: [row.__setitem__(1, "") for row in rows], (), "12 pictures, and no caption to learn from: name"),
        (
            lambda rows: [row.__setitem__(1, "") for row in rows],
            ("--set", "ingest.bare=reject"),
            "(ingest.bare)",
        ),
        (lambda rows: [row.append("test") for row in rows], (), "no caption to learn from"),
        (lambda rows: [row.__setitem__(0, f"x{row[0]}") for row in rows], (), "ingest.source.images=DIR"),
        (lambda rows: None, ("--set", "effort=fast"), "quick, normal or thorough, not 'fast'"),
        (lambda rows: None, ("--preset", "tiny", "--set", "effort=quick"), "tiny has its own settings"),
        (lambda rows: None, ("--preset", "nowhere.yaml"), "nowhere.yaml cannot be read"),
        (lambda rows: None, ("--preset", "captions.yaml"), "should have settings by their sections"),
    ],
)
def test_what_cannot_be_chosen_for_is_said_in_words(
    change: Callable[[list[list[str]]], object],
    arguments: tuple[str, ...],
    sentence: str,
    pictures: Pictures,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change(pictures.rows)
    header = "image,caption" + (",split" if pictures.rows and len(pictures.rows[0]) == 3 else "")
    lines = "\n".join([header, *(",".join(row) for row in pictures.rows)])
    pictures.file.write_text(lines)
    (tmp_path / "captions.yaml").write_text("just words")
    monkeypatch.chdir(tmp_path)
    done = ram_engine("plan", "--store", "store", "--source", f"csv:{pictures.file}", *arguments, check=False)
    assert done.returncode == 1
    assert sentence in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [("--preset", "auto"), ("--set", "effort=quick")])
def test_auto_asks_for_pictures(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = ram_engine("plan", "--store", str(tmp_path / "store"), *arguments, check=False)
    assert "name them, as in --source csv:captions.csv" in done.stdout


def test_a_store_elsewhere_keeps_its_settings_too(tmp_path: Path) -> None:
    store = Store("memory://kept")
    assert store.read_text("settings.yaml") is None
    store.write_text("settings.yaml", "build_labels: {min_count: 7}\n")
    assert configure("memory://kept/settings.yaml")[0].build_labels.min_count == 7
