"""RAM learns the image features of a CLIP, from stored tokens and end to end. The CLIP is small, its weights random."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from models import Label, load_tagger
from models.clip import CLIP
from models.image_encoder import Preprocessing
from storage.store import Store
from tasks.images.decoding import decode_image, read_image
from tasks.machine.inputs import Inputs
from tasks.settings.training import TrainSettings
from tasks.training.blueprint import blueprint
from tasks.training.data import TagColumns
from tasks.training.jobs import Job, read_record
from tasks.training.material import gather


def test_student_and_teacher_see_the_same_view_each_in_its_own_way(clip_encoder: str) -> None:
    teacher = CLIP(clip_encoder)
    x, y = np.meshgrid(np.linspace(0, 1, 224), np.linspace(0, 1, 224))
    picture = Image.fromarray((255 * np.stack([x, y, 1 - x], -1)).astype(np.uint8))
    student = Preprocessing(320, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    own = teacher.preprocessing.transform()(picture)
    seen = teacher.view(student.transform()(picture)[None], student)[0]
    assert seen.shape == own.shape
    assert (seen - own).abs().max() < 0.1  # it was scaled twice
    features = teacher(torch.stack([own, seen]))
    assert torch.cosine_similarity(features[0], features[1], dim=0) > 0.99
    expected = teacher.model.encode_image(own[None], normalize=False)
    assert torch.allclose(features[:1], expected, atol=1e-5)


def inputs_of(store: Store) -> Inputs:
    names = ("pairs", "images", "features", "label_system", "caption_tags")
    return Inputs(store, {name: store.snapshot(name) for name in names})


def test_clip_sees_the_views_whose_tokens_are_stored(clip_encoder: str, finished_store: Path, tmp_path: Path) -> None:
    inputs = inputs_of(Store(finished_store))
    settings = TrainSettings(text_encoder=clip_encoder, distillation="clip")
    with gather(inputs, settings, tmp_path, "train") as material:
        examples = material.examples
        order = [np.arange(len(examples))]
        said = next(examples.images.taught(order, 0))
    (first,) = [row for row in inputs.table("images").to_pylist() if row["image_id"] == examples.image_ids[0]]
    teacher = CLIP(clip_encoder)
    picture = teacher.preprocessing.transform()(decode_image(read_image(first["image"])))
    assert torch.allclose(said[0], teacher(picture[None])[0], atol=0.01)  # stored as float16


def test_a_model_learns_clip_features_end_to_end(clip_encoder: str, finished_store: Path, tmp_path: Path) -> None:
    settings = TrainSettings(
        text_encoder=clip_encoder, distillation="clip", frozen_encoder=False, epochs=3, width=32, heads=2
    )
    tags = TagColumns((0, 1), (Label("dog"), Label("cat")))
    with gather(inputs_of(Store(finished_store)), settings, tmp_path, "train") as material:
        examples = material.examples.subset(np.arange(32))
        examples = replace(examples, targets=examples.targets.tocsr()[:, :2])
        material = replace(material, examples=examples, held_out=examples.subset(np.arange(0)))
        plan = blueprint(settings, tags, material.image_encoder, material.image_size)
        job = Job("whole", tmp_path / "model", plan, material, settings, "cpu")
        job.run(lambda done, total: None)
    model = load_tagger(job.folder, own_encoders=True)
    assert model.config.text_encoder == clip_encoder
    assert model.label_queries.shape == (2, model.config.query_width)
    before = plan.make(settings.seed).image_encoder.state_dict()
    weights = model.image_encoder.state_dict()
    assert any(not torch.equal(before[name], weights[name]) for name in before if name.endswith("conv_pw.weight"))
    curve = [row.value for row in read_record(job.folder)[1] if row.name == "distillation"]
    assert curve[-1] < curve[0]
