"""A model that is ready, an imported official checkpoint say, annotates by configuration alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from models import Label, load_tagger, official
from ram_engine import configuration
from storage.store import Store
from tasks.annotators.base import AnnotatorContext
from tasks.annotators.folder import open_annotator
from tasks.annotators.models import TrainedAnnotator
from tasks.labels.tags import Tag
from tasks.training.data import tag_columns
from tasks.training.pretrained import matches
from tests.conftest import ram_engine
from tests.models.small import fixture, needs_shared
from tests.models.test_official import HEADS, official_tokenizer

RIDGE = "{architecture: tag2text, decoder_layers: 0, evidence: mean, solver: ridge}"
UNKNOWN = 20


def test_a_label_is_a_tag_by_type_then_by_name_then_by_synonym() -> None:
    tags = [
        Tag(0, "orange", "object"),
        Tag(1, "orange", "attribute"),
        Tag(2, "automobile", "object", synonyms=("car",)),
        Tag(3, "gone", "object", active=False),
        Tag(4, "unheard", "object"),
    ]
    labels = [Label("car"), Label("orange", "attribute"), Label("orange"), Label("gone")]
    assert matches(tags, labels) == {0: 2, 1: 1, 2: 0}
    assert matches(tags, [Label("orange")]) == {0: 0, 1: 0}


@needs_shared
@pytest.mark.parametrize("kind", ["ram", "tag2text"])
def test_an_imported_checkpoint_annotates(kind: str, copied_store: Path, tmp_path: Path) -> None:
    store = Store(copied_store)
    label_system = store.table(store.snapshot("label_system"))
    known = tag_columns(label_system).labels
    size = 60 if kind == "ram" else 50
    labels = [Label(f"unheard {number}") for number in range(UNKNOWN)]
    labels += [Label(label.name) for label in known[: size - UNKNOWN]]
    checkpoint = fixture(kind) / "checkpoint.pth"
    official.import_checkpoint(checkpoint, tmp_path / "model", labels, official_tokenizer(400), **HEADS[kind])
    ram_engine(
        *("run", "--preset", "tiny", "--store", str(copied_store), "--until", "judge"),
        *(
            "--set",
            f"train_baseline={RIDGE if kind == 'ram' else '{}'}",
        ),  # a ready model is not solved
        *("--set", f"train_baseline.annotator=pretrained:{tmp_path / 'model'}"),
    )
    folder = store.model_folder(store.snapshot("baseline"))
    annotator = open_annotator(AnnotatorContext(folder, tag_columns(label_system), "cpu"))
    assert isinstance(annotator, TrainedAnnotator)
    assert annotator.folds == []
    assert [label.name for label in annotator.whole.model.labels] == [label.name for label in known[: size - UNKNOWN]]
    assert annotator.whole.model.config.image_encoder == "swin_base_patch4_window7_224"
    ids = {
        tag for tag, label in zip(tag_columns(label_system).ids, known, strict=True) if label in known[: size - UNKNOWN]
    }
    generated = store.table(store.snapshot("generated")).to_pylist()
    assert {score["tag_id"] for row in generated for score in row["scores"] if score["score"]} <= ids
    assert all(len(row["captions"]) == 1 for row in generated)
    assert store.snapshot("regions").rows
    settings, _ = configuration.configure("tiny", sets=[f"train_baseline.annotator=pretrained:{tmp_path / 'model'}"])
    assert load_tagger(tmp_path / "model").config.labels == size
    assert settings.train_baseline.files()
