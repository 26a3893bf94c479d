"""What a :class:`ram_engine.tagger.Tagger` asks about pictures: a small class for each kind of model, of one shape."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from models import RAM, Label, Tagger, label_queries
from models.conse import ConSE, open_logits
from models.onnx_tagger import OnnxTagger
from models.zero_shot import ZeroShot
from ram_engine.automatic import MANY
from ram_engine.explain import GRID
from tasks.images.decoding import decode_image

CAPTIONERS = (
    f"`ram-engine run` trains a captioner from {MANY:,} captions on, with a GPU or with --set effort=thorough, and "
    "`make demo` one on drawings; --model takes a published checkpoint that `ram-engine import-checkpoint` converted"
)
Pictures = Sequence[Any]  # each whatever :func:`picture_of` reads
Map = NDArray[np.float32]


class Answerer(Protocol):
    """Something to ask."""

    @property
    def name(self) -> str:
        """What it is, for people."""

    @property
    def labels(self) -> Sequence[Label]:
        """The tags of its own, T of them."""

    def thresholds(self) -> Tensor:
        """The score from which each of its tags is said: (T,)."""

    def known(self, labels: Sequence[Label]) -> NDArray[np.intp]:
        """(labels,): the place of each among those that it was trained on; -1: it was not."""

    def own_scores(self, pictures: Pictures) -> Tensor:
        """How sure it is of its own tags, 0..1: (pictures, T)."""

    def scores(self, pictures: Pictures, labels: Sequence[Label]) -> NDArray[np.float32]:
        """The same for any labels, (pictures, labels); NaN for one that it cannot answer for."""

    def stand_ins(self, label: str) -> list[str]:
        """The words that a label is judged by instead; none where it is judged as itself."""

    def maps(self, picture: Image.Image, labels: Sequence[Label]) -> tuple[Map, Map]:
        """Where each label is seen (labels, grid, grid), and where the model looks whatever it is asked (grid, grid).
        Raises ValueError where it cannot tell."""

    def captions(self, pictures: Pictures) -> list[str]:
        """A caption a picture. Raises ValueError where it writes none."""

    def module(self) -> Tagger:
        """What can be saved and exported. Raises ValueError where there is no such thing."""


class Teacher:
    """ImageNet classifiers or a CLIP in everyday words: nothing was trained."""

    def __init__(self, model: ZeroShot) -> None:
        self.model = model.eval().to(_device())
        self.name = model.name
        self.labels = [Label(word, "") for word in model.words]

    def thresholds(self) -> Tensor:
        return self.model.thresholds()

    def known(self, labels: Sequence[Label]) -> NDArray[np.intp]:
        return np.full(len(labels), -1, np.intp)

    def own_scores(self, pictures: Pictures) -> Tensor:
        return torch.stack([self.model.probabilities(picture_of(picture)) for picture in pictures])

    def scores(self, pictures: Pictures, labels: Sequence[Label]) -> NDArray[np.float32]:
        names = [label.name for label in labels]
        answers = [self.model.label_probabilities(picture_of(picture), names) for picture in pictures]
        return torch.stack(answers).numpy()

    def stand_ins(self, label: str) -> list[str]:
        return self.model.stand_ins(label)

    def maps(self, picture: Image.Image, labels: Sequence[Label]) -> tuple[Map, Map]:
        seen = self.model.label_maps(picture, [label.name for label in labels], GRID)
        return seen.numpy(), np.zeros((GRID, GRID), np.float32)

    def captions(self, pictures: Pictures) -> list[str]:
        raise ValueError(f"the zero-shot teacher writes no captions: {CAPTIONERS}")

    def module(self) -> Tagger:
        raise ValueError("there is no trained model to export yet: `ram-engine run` trains one")


class _Trained:
    """What a model in torch and its exported graph have in common: labels that it was trained on, and RAM any other."""

    def __init__(self, model: Tagger | OnnxTagger, name: str, device: torch.device) -> None:
        self.name = name
        self.labels = model.labels
        self.config = model.config
        self.thresholds = model.thresholds
        self._logits = model.tag_logits
        self._device = device
        self._transform = model.preprocessing.transform()

    def known(self, labels: Sequence[Label]) -> NDArray[np.intp]:
        by_name = {label.name: place for place, label in reversed(list(enumerate(self.labels)))}
        exact = {(label.name, label.type): place for place, label in enumerate(self.labels)}
        places = [exact.get((label.name, label.type), by_name.get(label.name, -1)) for label in labels]
        return np.array(places, np.intp)

    def own_scores(self, pictures: Pictures) -> Tensor:
        return self._logits(self._seen(pictures)).sigmoid().cpu()

    def scores(self, pictures: Pictures, labels: Sequence[Label]) -> NDArray[np.float32]:
        own = self.known(labels)
        scores = np.full((len(pictures), len(labels)), np.nan, np.float32)
        trained, new = np.flatnonzero(own >= 0), np.flatnonzero(own < 0)
        seen = self._seen(pictures)
        if len(trained):  # the model holds their queries: no text encoder is asked
            scores[:, trained] = self._logits(seen).sigmoid().cpu().numpy()[:, own[trained]]
        if len(new) and self.config.architecture == "ram":
            queries = self._queries([labels[int(place)].name for place in new])
            scores[:, new] = self._new_logits(seen, queries).sigmoid().cpu().numpy()
        return scores

    def stand_ins(self, label: str) -> list[str]:
        return []

    def _seen(self, pictures: Pictures) -> Tensor:
        """What logits are computed from: normalised pixels (B, 3, H, W)."""
        return torch.stack([self._transform(picture_of(picture)) for picture in pictures]).to(self._device)

    def _new_logits(self, seen: Tensor, queries: Tensor) -> Tensor:
        return self._logits(seen, queries)

    def _queries(self, labels: Sequence[str]) -> Tensor:
        """Queries (T, D) of labels that the model does not hold; (T, K, D) where it takes K descriptions a label."""
        queries = label_queries.build(list(labels), self.config.text_encoder).to(self._device)
        return queries if self.config.descriptions == 1 else queries[:, None].expand(-1, self.config.descriptions, -1)


class Graph(_Trained):
    """An exported ONNX graph, which is faster on a CPU and only scores."""

    def __init__(self, model: OnnxTagger, name: str) -> None:
        super().__init__(model, f"{name}, by {model.runtime}", torch.device("cpu"))

    def maps(self, picture: Image.Image, labels: Sequence[Label]) -> tuple[Map, Map]:
        raise ValueError("an ONNX graph tells no attention: take the model folder that it was exported from")

    def captions(self, pictures: Pictures) -> list[str]:
        raise ValueError("an ONNX graph writes no captions: take the model folder that it was exported from")

    def module(self) -> Tagger:
        raise ValueError(f"{self.name} is exported already: take the model folder that it was made from")


class Model(_Trained):
    """A tagger in torch: Tag2Text or RAM."""

    def __init__(self, model: Tagger, name: str) -> None:
        super().__init__(model, name, _device())
        self.model = model.eval().to(self._device)

    def maps(self, picture: Image.Image, labels: Sequence[Label]) -> tuple[Map, Map]:
        tokens = self._seen([picture])
        own = self.known(labels)
        every = self.model.tag_attention(tokens)[0]
        maps = every[torch.from_numpy(own.clip(0)).to(every.device)].clone()
        new = np.flatnonzero(own < 0)
        if len(new):
            queries = self._queries([labels[int(place)].name for place in new])
            maps[torch.from_numpy(new).to(maps.device)] = self.model.tag_attention(tokens, label_queries=queries)[0]
        return maps.float().cpu().numpy(), every.mean(0).float().cpu().numpy()

    def captions(self, pictures: Pictures) -> list[str]:
        if self.model.captioner is None:
            raise ValueError(f"the {self.name} tags only, it has no captioner: {CAPTIONERS}")
        return self.model.generate_captions(self._seen(pictures))

    def module(self) -> Tagger:
        return self.model

    def _seen(self, pictures: Pictures) -> Tensor:
        """Image tokens (B, 1 + N, C)."""
        with torch.inference_mode():
            return self.model.encode_image(super()._seen(pictures))

    def _new_logits(self, seen: Tensor, queries: Tensor) -> Tensor:
        if isinstance(self.model, RAM) and self.config.text_encoder == label_queries.MINILM:
            return open_logits(self.model, self._teacher, seen, queries)
        return self._logits(seen, queries)

    @cached_property
    def _teacher(self) -> ConSE:
        return ConSE(self.model.image_encoder.name, label_queries.MINILM).to(self._device)


def picture_of(image: Any) -> Image.Image:
    """A path, a PIL image, encoded bytes or an array (H, W, 3) of uint8 as a picture in RGB.

    Raises ImageError for what cannot be read.
    """
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    if isinstance(image, bytes):
        return decode_image(image)
    if isinstance(image, str | Path):
        return decode_image(Path(image).read_bytes())
    return Image.fromarray(image).convert("RGB")


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
