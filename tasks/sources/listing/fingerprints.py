"""Fingerprints: what tells a new or a changed item of a source without reading it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from storage.keys import digest
from tasks.settings.ingest import IngestSettings
from tasks.sources.item import SourceItem, file_version
from tasks.sources.source import Source


@dataclass(frozen=True, order=True, slots=True)
class Fingerprint:
    """Of an image ``<words>-<version>``, of a piece of a file ``<words>.<start>.<rows>.<contents>-<version>``.

    ``words`` is a key of all that matters beside the contents of the file, ``version`` is ``<size>-<time>`` of the file
    or whatever else stands for that. A piece has ``rows``, from ``start`` on; ``contents`` is a key of what was read
    of it, "" before it is read.
    """

    words: str
    start: int = 0
    rows: int = 0
    contents: str = ""
    version: str = ""

    @classmethod
    def parse(cls, text: str) -> Fingerprint:
        """The fingerprint that ``str`` gives. Raises ValueError for another text."""
        place, _, version = text.partition("-")
        if "." not in place:
            return cls(place, version=version)
        words, start, rows, contents = place.split(".")
        return cls(words, int(start), int(rows), contents, version)

    def __str__(self) -> str:
        place = f"{self.words}.{self.start}.{self.rows}.{self.contents}" if self.rows else self.words
        return f"{place}-{self.version}"

    @property
    def of_piece(self) -> bool:
        """Whether it is of a piece of a file of many images."""
        return self.rows > 0

    @property
    def but_time(self) -> tuple[str, str]:
        """What is the same of a file that was only touched: the words, and the size."""
        return self.words, self.version.partition("-")[0]

    def unread(self) -> Fingerprint:
        """What a piece had before it was read."""
        return replace(self, contents="")

    def read(self, images: Iterable[SourceItem]) -> Fingerprint:
        """What a piece has once its ``images`` are read: the same ones in a file that was touched have the same."""
        return replace(self, contents=contents_key(images))


def contents_key(images: Iterable[SourceItem]) -> str:
    """A key of all that the images of a piece are."""
    return digest(
        [
            [
                item.name, item.captions, item.split, item.url, item.licence, item.extra, item.ready_tags, item.problem,
                file_version(Path(item.path)) if item.path else hashlib.sha256(item.data or b"").hexdigest(),
            ]
            for item in images
        ]
    )  # fmt: skip


def of_image(item: SourceItem, source: Source, settings: IngestSettings, version: int) -> Fingerprint:
    """It changes when the image file, its captions or the settings that matter change; ``version`` is the stage's."""
    words = [
        version,
        item.name,
        item.captions,
        item.split,
        item.problem,
        [item.source, item.url, item.licence, item.extra, item.ready_tags],
        settings.max_pixels,
        "" if item.split else [settings.calibrate_share, settings.test_share],
        source.package,
        *([] if item.captions or item.ready_tags is not None else _bare(settings)),
    ]
    return Fingerprint(digest(words), version=item.version or "0-0")


def of_file(file: SourceItem, source: Source, settings: IngestSettings, version: int) -> Fingerprint:
    """Of a file of many images, whose pieces have the same words and the same version."""
    chosen = {name: value for name, value in source.absolute().identity().items() if name != "path"}
    shares = [settings.calibrate_share, settings.test_share]
    words = [
        version, file.source, file.name, file.container, chosen, source.most() > 0, settings.max_pixels, shares,
        *_bare(settings),
    ]  # fmt: skip
    return Fingerprint(digest(words), version=file.version)


def _bare(settings: IngestSettings) -> list[str]:
    """What becomes of bare pictures, where it is not the usual."""
    return [settings.bare] if settings.bare != "use" else []
