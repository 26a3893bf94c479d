"""Regions from a detector in ONNX form with a fixed list of classes: YOLOX (Ge et al. 2021, arXiv 2107.08430).

Its graph takes pictures (1, 3, S, S), BGR in 0..255, scaled to fit and padded with grey on the right and below. It
gives (1, N, 5 + classes): for every cell of the grids of strides 8, 16 and 32 the centre and size of a box, still in
cells, that there is a thing (0..1), and what it is (0..1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.ops import nms

from models.regions.proposer import Proposal

STRIDES = (8, 16, 32)
GREY = 114
SAME_PLACE = 0.5  # boxes of one class that overlap by more are one


def read_classes(path: Path | str) -> list[list[str]]:
    """The words for each class, in the order of the detector's: a class a line, and more words for it after commas.

    "person, man, woman": where a picture is said to show a man, the detector looks for persons.
    """
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return [[word.strip().lower() for word in line.split(",") if word.strip()] for line in lines if line.strip()]


class OnnxDetectorProposer:
    """Boxes of the tags that ``classes`` (tag id -> number of a class) name; of other tags it knows nothing.

    At most ``max_regions`` a tag, each with a score (thing times class) of ``threshold`` or more. Raises ValueError
    where the graph is no YOLOX of ``class_count`` classes; needs ONNX Runtime (the extra ``onnx``).
    """

    def __init__(
        self,
        graph: Path | str,
        classes: Mapping[int, int],
        class_count: int,
        max_regions: int = 2,
        threshold: float = 0.3,
        threads: int = 0,
    ) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        self.session: Any = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        (given,), (said, *more) = self.session.get_inputs(), self.session.get_outputs()
        side = given.shape[-1]
        cells = sum((side // stride) ** 2 for stride in STRIDES) if isinstance(side, int) else 0
        if more or list(said.shape) != [1, cells, 5 + class_count]:
            raise ValueError(
                f"{graph}: gives {[output.shape for output in (said, *more)]} where a YOLOX of {class_count} classes "
                f"at {side} pixels gives [1, {cells}, {5 + class_count}]: check the list of classes"
            )
        self.input = given.name
        self.side = side
        self.classes = classes
        self.max_regions = max_regions
        self.threshold = threshold
        self.cells, self.strides = _grid(side)

    def propose(self, images: Sequence[Image.Image], tag_ids: Sequence[Sequence[int]]) -> list[list[Proposal]]:
        """``images`` are RGB pictures."""
        return [self._look(image, tags) for image, tags in zip(images, tag_ids, strict=True)]

    def presence(self, image: Image.Image) -> NDArray[np.float32]:
        """(classes,): the best score of each class anywhere in an RGB picture, 0..1: a detector used as a tagger."""
        pixels, _ = _letterbox(image, self.side)
        (output,) = self.session.run(None, {self.input: pixels})
        best: NDArray[np.float32] = (output[0, :, 4:5] * output[0, :, 5:]).max(axis=0)
        return best

    def _look(self, image: Image.Image, tags: Sequence[int]) -> list[Proposal]:
        known = [tag for tag in tags if tag in self.classes]
        if not known:
            return []
        pixels, scale = _letterbox(image, self.side)
        (output,) = self.session.run(None, {self.input: pixels})
        boxes = self._boxes(output[0, :, :4], scale, image.size)
        there = (boxes[:, 2:] > boxes[:, :2]).all(1)
        found = []
        for tag in known:
            scores = output[0, :, 4] * output[0, :, 5 + self.classes[tag]]
            likely = np.flatnonzero((scores >= self.threshold) & there)
            kept = nms(torch.from_numpy(boxes[likely]), torch.from_numpy(scores[likely]), SAME_PLACE)
            for one in likely[kept.numpy()[: self.max_regions]]:
                x0, y0, x1, y1 = (float(value) for value in boxes[one])
                found.append(Proposal(tag, (x0, y0, x1, y1), float(scores[one])))
        return found

    def _boxes(self, raw: NDArray[np.float32], scale: float, size: tuple[int, int]) -> NDArray[np.float32]:
        """(N, 4) as x0, y0, x1, y1 in shares of the picture, cut at its edges; a size that is no number is none."""
        centre = (raw[:, :2] + self.cells) * self.strides
        half = np.exp(raw[:, 2:].clip(max=20)) * self.strides / 2
        corners = np.concatenate([centre - half, centre + half], axis=1) / scale
        shares = corners / np.array([*size, *size], np.float32)
        return np.nan_to_num(shares, nan=0.0).clip(0, 1).astype(np.float32)


def _letterbox(image: Image.Image, side: int) -> tuple[NDArray[np.float32], float]:
    """The picture as the detector sees it, (1, 3, side, side), and how much it was scaled."""
    scale = min(side / image.width, side / image.height)
    width, height = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    canvas = np.full((side, side, 3), GREY, np.float32)
    canvas[:height, :width] = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float32)
    return np.ascontiguousarray(canvas[:, :, ::-1].transpose(2, 0, 1)[None]), scale


def _grid(side: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The column and row of every cell (N, 2), and its stride in pixels (N, 1)."""
    cells, strides = [], []
    for stride in STRIDES:
        rows, columns = np.mgrid[: side // stride, : side // stride]
        cells.append(np.stack([columns.ravel(), rows.ravel()], axis=1))
        strides.append(np.full((cells[-1].shape[0], 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)
