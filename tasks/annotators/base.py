"""What an annotator is: settings that make it, and what it may be asked. Nothing here loads a model or torch.

An annotator answers about images that it did not learn from, or as if it had not: how it does so is its own concern.
What it says is worth something only once `calibrate` has counted it: its scores need not be probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from tasks.images.files import ImageFiles
from tasks.images.tokens import StoredTokens
from tasks.settings.generate import GenerateSettings
from tasks.settings.rooms import Member
from tasks.settings.training import TrainSettings

if TYPE_CHECKING:
    from tasks.annotators.evidence import AnnotatorEvidence
    from tasks.machine.inputs import Inputs
    from tasks.training.data import TagColumns

PART = 32  # images that are answered together
REGIONS_AT_ONCE = 512
NO_CAPTIONS = GenerateSettings(captions=0)


@dataclass(frozen=True, eq=False)
class Batch:
    """Images to answer about.

    ``pairs`` are their rows of the artifact, ``files`` their image files; ``stored`` has the image tokens that `encode`
    stored; ``named`` (images, tags) is what their captions name, which an annotator that learnt from them leaves out.
    """

    pairs: pa.Table
    files: ImageFiles
    stored: StoredTokens
    named: NDArray[np.bool_]

    def __len__(self) -> int:
        return int(self.pairs.num_rows)

    @cached_property
    def ids(self) -> list[str]:
        ids: list[str] = self.pairs["image_id"].to_pylist()
        return ids

    @cached_property
    def pictures(self) -> list[Image.Image]:
        """The decoded pictures, RGB."""
        return self.files.pictures(self.pairs)

    def tokens(self, size: int = 0) -> NDArray[np.float32]:
        """(images, 1 + N, C): the stored tokens at ``size`` pixels (0: the least size), the mean token first."""
        return self.stored.at(self.ids, size or self.stored.least_size).astype(np.float32)

    def subset(self, rows: Sequence[int] | NDArray[np.intp]) -> Batch:
        """Some of the images; the batch itself where these are all."""
        if np.array_equal(rows, np.arange(len(self))):
            return self
        return Batch(
            self.pairs.take(pa.array(rows, pa.int64())), self.files, self.stored, self.named[np.asarray(rows, np.intp)]
        )


@dataclass(frozen=True)
class Answers:
    """What an annotator says of the images of a batch.

    ``scores`` (images, columns of the annotator): more is surer, as logits are; they are counted in steps of a
    twentieth from -20 to 20. ``captions`` are lists of texts, one an
    image; empty where it writes none. ``rejected`` has the places of the images that it could not answer about, and a
    sentence why.
    """

    scores: NDArray[np.floating]
    captions: Sequence[Sequence[str]] = ()
    rejected: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Regions:
    """Regions of a batch's pictures: for each the place ``images`` (R,) of its picture in the batch, ``boxes`` (R, 4)
    as x0, y0, x1, y1 in shares of the picture, and ``columns`` (R,), which of the annotator's columns is asked for."""

    images: NDArray[np.intp]
    boxes: NDArray[np.float32]
    columns: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class AnnotatorContext:
    """What an annotator is made with.

    ``folder`` is what its training or adoption left; ``tags`` are the active tags; ``device`` is as torch names it;
    ``writing`` says how captions are written. ``bars`` (the artifact ``tag_bars``) are there once it was calibrated.
    """

    folder: Path
    tags: TagColumns
    device: str
    writing: GenerateSettings = NO_CAPTIONS
    bars: pa.Table | None = None


class Annotator:
    """Says which tags and captions images have. Subclasses answer :meth:`annotate`; the rest they may leave.

    ``columns`` (n,) are the numbers of the tags, among those of the context, that its scores are about. ``writes``:
    whether it writes captions.
    """

    columns: NDArray[np.intp]
    writes: bool = False

    def annotate(self, batch: Batch) -> Answers:
        """The answers about the images of one of the :meth:`parts` of a batch.

        Where it raises, each image of the batch is asked about alone, and one at which it raises again is rejected.
        """
        raise NotImplementedError

    def parts(self, batch: Batch) -> Iterator[NDArray[np.intp]]:
        """The rows of the batch that are answered together."""
        return in_parts(len(batch))

    def tokens(self, batch: Batch) -> Any:
        """(images, 1 + N, C): the image tokens that the features of regions are taken from; the stored ones."""
        return batch.tokens()

    def find(
        self, batch: Batch, columns: Sequence[Sequence[int]], max_regions: int
    ) -> Sequence[Sequence[tuple[int, tuple[float, float, float, float], float]]] | None:
        """Where in its pictures the annotator sees some of its ``columns``: for each picture (column, box, score), as a
        region proposer gives them; None: it cannot tell."""
        return None

    def look(self, batch: Batch, regions: Regions) -> NDArray[np.floating] | None:
        """The score (R,) of each region's own column, given the region alone, on the scale of its other scores; None:
        it looks at whole pictures only."""
        return None


@dataclass(frozen=True)
class Adoption:
    """What an annotator that is not trained is adopted with: a training's settings and inputs, the ``folder``
    that will hold it, the device, and where progress is told (done, all, of what)."""

    settings: TrainSettings
    inputs: Inputs
    folder: Path
    device: str
    progress: Callable[[int, int, str], None]


class AnnotatorSettings(Member):
    """The base of all annotators.

    What one says of the images that are held out to calibrate on is measured when it is adopted, unless it
    ``brings_evidence`` of its own.
    """

    brings_evidence: ClassVar[bool] = False

    def make(self, context: AnnotatorContext) -> Annotator:
        """The annotator, ready to be asked."""
        raise NotImplementedError

    def adopt(self, adoption: Adoption) -> None:
        """Puts into the folder what :meth:`make` will read: by default nothing."""

    def evidence(self, folder: Path, tags: TagColumns) -> AnnotatorEvidence:
        """What it says of images that it did not learn from, by tag: what `calibrate` counts."""
        from tasks.annotators.evidence import of_adopted

        return of_adopted(folder, tags)


def in_parts(count: int) -> Iterator[NDArray[np.intp]]:
    """The rows 0, .., ``count`` - 1, so many at a time as are answered together."""
    for start in range(0, count, PART):
        yield np.arange(start, min(start + PART, count))


def named_tags(ids: Sequence[str], caption_tags: pa.Table, tags: TagColumns) -> NDArray[np.bool_]:
    """(images, tags): what the captions of each of ``ids`` name."""
    place = {image_id: row for row, image_id in enumerate(ids)}
    named = np.zeros((len(ids), len(tags.ids)), bool)
    for row in caption_tags.select(["image_id", "tag_ids"]).to_pylist():
        if row["image_id"] in place:
            named[place[row["image_id"]], [tags.column[tag] for tag in row["tag_ids"] if tag in tags.column]] = True
    return named
