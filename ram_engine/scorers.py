"""Whatever can be asked how likely labels are in a picture, behind one function, to be measured side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models import Label, label_queries
from models.clip import CLIP
from models.conse import ConSE
from models.image_encoder import preprocessing
from models.regions.onnx_detector import OnnxDetectorProposer, read_classes
from ram_engine.tagger import BATCH, Tagger
from tasks.evaluation.scores import Scores
from tasks.evaluation.sets import EvaluationSet
from tasks.images.decoding import ImageError, decode_image

Pictures = Sequence[Any]  # PIL pictures in RGB


@dataclass(frozen=True)
class Scorer:
    """``score`` gives (pictures, labels); NaN: it does not answer for the label. The rest is (labels,), as in
    :class:`Scores`."""

    name: str
    score: Callable[[Pictures], NDArray[np.float32]]
    thresholds: NDArray[np.float32]
    trained: NDArray[np.bool_]


def scorer(model: str, labels: Sequence[Label], store: str) -> Scorer:
    """The scorer that ``model`` names.

    ``store`` (its best model), ``conse``, ``open_clip:MODEL[:PRETRAINED]``, ``detector:GRAPH,CLASSES`` (classes with
    more words for each after commas, see :func:`read_classes`), else a model folder, an exported one or hub:OWNER/NAME.
    """
    if model.startswith(label_queries.OPEN_CLIP):
        return _clip(model, labels)
    if model.startswith("detector:"):
        graph, _, classes = model.removeprefix("detector:").partition(",")
        if not classes:
            raise ValueError("a detector needs to know its classes: say detector:GRAPH.onnx,CLASSES.txt")
        return _detector(model, Path(graph), Path(classes), labels)
    if model == "conse":
        return _conse(labels)
    return _tagger(Tagger.from_store(store) if model == "store" else Tagger.from_pretrained(model), labels)


def evaluate(measured: Scorer, data: EvaluationSet, progress: Callable[[int, int], None]) -> Scores:
    """The scores of all pictures that can be read; those that cannot are counted in ``data.left_out``."""
    rows, kept = [], []
    for start in range(0, len(data.images), BATCH):
        pictures = []
        for place in range(start, min(start + BATCH, len(data.images))):
            try:
                pictures.append(decode_image(data.images[place].read_bytes()))
                kept.append(place)
            except (ImageError, OSError):
                data.left_out["image that cannot be read"] += 1
        if pictures:
            rows.append(measured.score(pictures))
        progress(min(start + BATCH, len(data.images)), len(data.images))
    if not rows:
        raise ValueError("none of the images can be read")
    scores = np.concatenate(rows)
    answered: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(scores), axis=0)
    names = tuple(str(data.images[place]) for place in kept)
    scores[:, ~answered] = 0
    truth = data.truth[kept]
    return Scores(
        measured.name, data.labels, names, truth, scores, measured.thresholds, answered, measured.trained, data.against
    )


def _tagger(tagger: Tagger, labels: Sequence[Label]) -> Scorer:
    trained = tagger.answerer.known(labels) >= 0
    return Scorer(tagger.name, lambda pictures: tagger.scores(pictures, labels), tagger.thresholds(labels), trained)


def _conse(labels: Sequence[Label]) -> Scorer:
    """Cosines of the paper's ConSE, which any label has, and which order the pictures of a label, not its labels."""
    teacher = ConSE()
    prepare = preprocessing(teacher.image_encoder.name, teacher.image_encoder.image_size).transform()
    queries = label_queries.build([label.name for label in labels])

    @torch.inference_mode()
    def score(pictures: Pictures) -> NDArray[np.float32]:
        tokens = teacher.encode_image(torch.stack([prepare(picture) for picture in pictures]))
        similarities: NDArray[np.float32] = teacher.scores(tokens, queries).numpy().astype(np.float32)
        return similarities

    return Scorer("ConSE", score, np.full(len(labels), np.inf, np.float32), np.zeros(len(labels), bool))


def _clip(model: str, labels: Sequence[Label]) -> Scorer:
    clip = CLIP(model).eval()
    prepare = clip.preprocessing.transform()
    queries = label_queries.build([label.name for label in labels], model)

    def score(pictures: Pictures) -> NDArray[np.float32]:
        features = torch.nn.functional.normalize(clip(torch.stack([prepare(picture) for picture in pictures])), dim=-1)
        similarities: NDArray[np.float32] = (features @ queries.T).numpy().astype(np.float32)
        return similarities

    return Scorer(model, score, np.full(len(labels), np.inf, np.float32), np.zeros(len(labels), bool))


def _detector(name: str, graph: Path, classes: Path, labels: Sequence[Label]) -> Scorer:
    words = read_classes(classes)
    number = {word: place for place, listed in enumerate(words) for word in listed}
    own = np.array([number.get(label.name.lower(), -1) for label in labels])
    detector = OnnxDetectorProposer(graph, {}, len(words))

    def score(pictures: Pictures) -> NDArray[np.float32]:
        scores = np.full((len(pictures), len(labels)), np.nan, np.float32)
        scores[:, own >= 0] = np.stack([detector.presence(picture) for picture in pictures])[:, own[own >= 0]]
        return scores

    thresholds = np.where(own >= 0, np.float32(detector.threshold), np.float32(np.inf)).astype(np.float32)
    return Scorer(name, score, thresholds, own >= 0)
