"""A tagger that nobody has to train: classifiers of ImageNet's classes, or a CLIP, answer in everyday words.

A word is as probable as all kinds of it together ("dog": 118 classes), by the mean of the classifiers and in the square
of the picture that shows most of it. Words below their threshold are not said: what the classes do not have, a
classifier gives to what looks a little like it, at a low probability.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import timm
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from models import everyday, label_queries
from models.clip import CLIP
from models.conse import NAME_TEMPERATURE, imagenet_classifier
from models.image_encoder import PACKAGED, ImageEncoder, grid_side, preprocessing

THRESHOLD = 0.4
# People are seen by what they wear and hold, spread over a hundred classes. Precision and recall of both thresholds, on
# two sets of photographs: docs/results.md.
THRESHOLDS = {"person": 0.15}
CLIP_SCALE = 100.0  # what CLIP's cosines are multiplied by (Radford et al. 2021, section 2.3: learned, at most 100)


class Classifier(nn.Module):
    """A timm model that tells ImageNet's 1,000 classes apart, at the size it was trained with."""

    def __init__(self, name: str) -> None:
        super().__init__()
        configuration = timm.get_pretrained_cfg(name)
        assert configuration is not None, name
        size = int(configuration.input_size[-1])
        self.image_encoder = ImageEncoder(name, size).load_pretrained()
        self.classifier = imagenet_classifier(name)
        self.preprocessing = preprocessing(name, size)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, size, size) -> probabilities (B, 1000)."""
        return self.classifier(self.image_encoder(images)[:, 0]).softmax(-1)

    def maps(self, images: Tensor) -> Tensor:
        """The same for every spatial token alone: (B, 1000, grid, grid)."""
        shown = self.classifier(self.image_encoder(images)[:, 1:]).softmax(-1).mT
        side = grid_side(shown.shape[-1])
        return shown.unflatten(-1, (side, side))


class ZeroShot(nn.Module):
    """Everyday words by ImageNet classifiers: by default all whose weights are installed, else timm's first."""

    words: tuple[str, ...]
    kinds: Tensor

    def __init__(self, encoders: Sequence[str] = ()) -> None:
        super().__init__()
        names = encoders or installed_classifiers() or list(PACKAGED)[:1]
        self.classifiers = nn.ModuleList(Classifier(name) for name in names)
        self.name = f"zero-shot teacher ({', '.join(names)}; nothing was trained)"
        self.words = everyday.words()
        self.register_buffer("kinds", everyday.kinds())
        self.requires_grad_(False).eval()

    def thresholds(self) -> Tensor:
        """The probability from which each word is said: (words,)."""
        return torch.tensor([THRESHOLDS.get(word, THRESHOLD) for word in self.words])

    def probabilities(self, picture: Image.Image) -> Tensor:
        """How probable each of :attr:`words` is in an RGB picture, 0..1: (words,)."""
        seen = [looks(self._pixels(looks, picture)) for looks in self.classifiers]
        return (torch.stack(seen).mean(0) @ self.kinds).amax(0).clamp(max=1).cpu()

    def label_probabilities(self, picture: Image.Image, labels: Sequence[str]) -> Tensor:
        """The same for any labels: (T,). One that is no word of its own is judged by the words most like it."""
        return self.mixtures(labels) @ self.probabilities(picture)

    def mixtures(self, labels: Sequence[str]) -> Tensor:
        """What each label means in :attr:`words`: (T, words), rows sum to one."""
        place = {word: number for number, word in enumerate(self.words)}
        mixed = torch.zeros(len(labels), len(self.words))
        new = [row for row, label in enumerate(labels) if label.lower() not in place]
        for row, label in enumerate(labels):
            if row not in new:
                mixed[row, place[label.lower()]] = 1
        if new:
            queries = label_queries.build([labels[row] for row in new])
            mixed[new] = (queries @ self._word_queries.T / NAME_TEMPERATURE).softmax(-1)
        return mixed

    def stand_ins(self, label: str) -> list[str]:
        """The three words that a label is judged by most; none where it is a word itself."""
        if label.lower() in self.words:
            return []
        return [self.words[place] for place in self.mixtures([label])[0].topk(3).indices.tolist()]

    def label_maps(self, picture: Image.Image, labels: Sequence[str], side: int) -> Tensor:
        """Where in the picture each label is seen, 0..1: (T, side, side).

        The classifiers are linear in the parts of a picture, so that each part can be classified alone.
        """
        mixed = self.mixtures(labels)
        total, seen = torch.zeros(len(labels), side, side), torch.zeros(side, side)
        looks: Any  # a Classifier
        for looks in self.classifiers:
            shown = torch.einsum("bkhw,kn,tn->bthw", looks.maps(self._pixels(looks, picture)), self.kinds, mixed)
            for part, box in zip(shown.cpu(), everyday.squares(*picture.size), strict=True):
                _add(total, seen, part, box, picture.size)
        return total / seen.clamp(min=1)

    @cached_property
    def _word_queries(self) -> Tensor:
        return label_queries.build(self.words)

    def _pixels(self, looks: Any, picture: Image.Image) -> Tensor:
        prepare = looks.preprocessing.transform()
        return torch.stack([prepare(square) for square in everyday.cut(picture)]).to(self.kinds.device)


class ClipZeroShot(ZeroShot):
    """The same words by a CLIP, named as in :mod:`models.label_queries`, with open_clip's own short prompt templates.

    It compares a picture with the most particular word of each class, and with a person.
    """

    queries: Tensor

    def __init__(self, name: str) -> None:
        nn.Module.__init__(self)
        from open_clip import SIMPLE_IMAGENET_TEMPLATES

        self.text_encoder = name
        self.prompts = [template("{}") for template in SIMPLE_IMAGENET_TEMPLATES]
        self.clip = CLIP(name)
        self.name = f"CLIP {name.removeprefix(label_queries.OPEN_CLIP)} (nothing was trained)"
        self.words = everyday.words()
        named = {row[0]: row for row in [*everyday.classes(), ("person",)]}
        self.register_buffer("kinds", everyday.kinds(tuple(named.values())))
        self.register_buffer("queries", label_queries.build(list(named), name, self.prompts))
        self.requires_grad_(False).eval()

    def probabilities(self, picture: Image.Image) -> Tensor:
        return (self._cosines(picture, self.queries) @ self.kinds).amax(0).clamp(max=1).cpu()

    def label_probabilities(self, picture: Image.Image, labels: Sequence[str]) -> Tensor:
        """The same for any labels, each beside all the words, (T,): for CLIP no label is new."""
        known = dict(zip(self.words, self.probabilities(picture), strict=True))
        new = [label for label in labels if label.lower() not in known]
        if new:
            asked = label_queries.build(new, self.text_encoder, self.prompts).to(self.queries)
            for label, query in zip(new, asked, strict=True):
                beside = self._cosines(picture, torch.cat([query[None], self.queries]))
                known[label.lower()] = beside[:, 0].amax().cpu()
        return torch.stack([known[label.lower()] for label in labels])

    def stand_ins(self, label: str) -> list[str]:
        return []

    def label_maps(self, picture: Image.Image, labels: Sequence[str], side: int) -> Tensor:
        """The same by looking at nine overlapping parts of the picture, each half as wide and high."""
        total, seen = torch.zeros(len(labels), side, side), torch.zeros(side, side)
        wide, high = picture.width / 2, picture.height / 2
        for number in range(9):
            left, top = number % 3 * wide / 2, number // 3 * high / 2
            box = (round(left), round(top), round(left + wide), round(top + high))
            part = self.label_probabilities(picture.crop(box), labels)
            _add(total, seen, part[:, None, None], box, picture.size)
        return total / seen.clamp(min=1)

    def _cosines(self, picture: Image.Image, queries: Tensor) -> Tensor:
        prepare = self.clip.preprocessing.transform()
        pixels = torch.stack([prepare(square) for square in everyday.cut(picture)]).to(self.queries.device)
        return (CLIP_SCALE * F.normalize(self.clip(pixels).float(), dim=-1) @ queries.T).softmax(-1)


def _add(total: Tensor, seen: Tensor, part: Tensor, box: tuple[int, int, int, int], size: tuple[int, int]) -> None:
    """Adds the map of a part of a picture, (T, h, w), where ``box`` of the picture's ``size`` in pixels is."""
    side = len(seen)
    left, right = (round(box[at] * side / size[0]) for at in (0, 2))
    top, bottom = (round(box[at] * side / size[1]) for at in (1, 3))
    rows, columns = slice(top, max(bottom, top + 1)), slice(left, max(right, left + 1))
    shape = seen[rows, columns].shape
    total[:, rows, columns] += F.interpolate(part[None], shape, mode="bilinear", align_corners=False)[0]
    seen[rows, columns] += 1


def installed_classifiers() -> list[str]:
    """The encoders whose ImageNet weights installed packages bring."""
    return [name for name, (package, _) in PACKAGED.items() if importlib.util.find_spec(package) is not None]
