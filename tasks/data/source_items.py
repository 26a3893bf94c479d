"""What the sources hold now: items by their fingerprints, which tell a new or a changed one without reading it.

A file of many images is divided into pieces. The fingerprint of one is ``<words>.<start>.<rows>.<contents>-<version>``:
what matters beside the contents, where it lies, a key of what was read (empty before), and the file's size and time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from storage import sources
from storage.keys import digest
from storage.sources import Columns, SourceItem
from storage.sources.containers import contents_digest
from tasks.sample_world import world
from tasks.settings.ingest import IngestSettings
from tasks.settings.sources import (
    CsvSource,
    DatasetsSource,
    HuggingFaceSource,
    Img2datasetSource,
    LabelsSource,
    MixedSource,
    OfficialSource,
    OneSource,
    SampleSource,
)

TAG_LISTS = ("tag_list_types.txt", "tag_list.txt")  # as our own export writes them
SAMPLE_LICENCE = "CC-BY-4.0 (pictures by Twemoji)"
PIECE = re.compile(r"(?P<words>\w+)\.(?P<start>\d+)\.(?P<rows>\d+)\.(?P<contents>\w*)-(?P<version>\w+-\w+)")


def named_sources(source: OneSource | MixedSource) -> dict[str, OneSource]:
    """The sources by name: the kind and the file or folder, with a number where two are called the same."""
    found: dict[str, OneSource] = {}
    for one in source.parts if isinstance(source, MixedSource) else (source,):
        name = plain = one.kind if isinstance(one, SampleSource) else f"{one.kind}:{_last_step(one)}"
        number = 2
        while name in found:
            name, number = f"{plain} {number}", number + 1
        found[name] = one
    return found


def _last_step(source: Any) -> str:
    return PurePath(source.path or source.evaluation).name


def list_items(source: OneSource) -> list[SourceItem]:
    """All items of a source, or its files of many images, without opening an image."""
    if isinstance(source, SampleSource):
        version = f"{digest([world.VERSION, source.model_dump(mode='json')])}-0"
        return [
            SourceItem(name, f"sample world {name}", split=split, version=version, licence=SAMPLE_LICENCE)
            for name, split in world.item_names(source)
        ]
    if isinstance(source, OfficialSource):
        beside = [Path(source.path or source.evaluation).with_name(name) for name in TAG_LISTS]
        tags = source.tags or str(next((file for file in beside if file.is_file()), beside[-1]))
        return sources.list_official(source.path, source.images, tags, source.evaluation, source.limit)
    if isinstance(source, DatasetsSource):
        return sources.list_dataset(source.path, source.configuration, source.subset, columns_of(source))
    if isinstance(source, HuggingFaceSource | Img2datasetSource):
        return sources.list_folder(source.path, columns_of(source))
    if isinstance(source, LabelsSource):
        return sources.list_labels(source.path, source.images, source.limit)
    listing = sources.list_csv if isinstance(source, CsvSource) else sources.list_coco
    return listing(source.path, source.images, source.limit)


def columns_of(source: OneSource) -> Columns:
    """Which columns of a source's tables are what."""
    if isinstance(source, HuggingFaceSource):
        return Columns(source.captions, source.image, source.tags, source.columns)
    return Columns(kept=source.columns) if isinstance(source, Img2datasetSource) else Columns()


def list_all(settings: IngestSettings, version: int, known: Iterable[re.Match[str]]) -> dict[str, SourceItem]:
    """All items of all sources by their fingerprints, files of many images divided into pieces."""
    pieces: dict[str, set[str]] = {}  # of files that were read before, by what tells a file but its time
    for one in known:
        size = one["version"].partition("-")[0]
        pieces.setdefault(f"{one['words']}-{size}", set()).add(one[0])
    items: dict[str, SourceItem] = {}
    for name, source in named_sources(settings.source).items():
        left = source.limit if not isinstance(source, SampleSource) and source.limit else None
        for listed in list_items(source):
            item = replace(listed, source=name)
            if not item.container:
                items[fingerprint(item, settings, version)] = item
                continue
            words = _piece_words(item, source, settings, version)
            before = pieces.get(f"{words}-{item.version.partition('-')[0]}", set())
            before = {one for one in before if one.endswith(f"-{item.version}")} or before
            if before and left is None and all(_same_piece(one, item, source) for one in before):
                items |= {one: _piece_of(item, one) for one in sorted(before)}
                continue
            for piece in sources.divide(item):
                if left is not None:
                    piece = replace(piece, rows=min(piece.rows, left))
                    left -= piece.rows
                if not piece.container:
                    items[fingerprint(replace(piece, source=name), settings, version)] = replace(piece, source=name)
                elif piece.rows:
                    start = f"{words}.{piece.start}.{piece.rows}."
                    same = [one for one in before if one.startswith(start) and one.endswith(f"-{item.version}")]
                    items[same[0] if same else f"{start}-{item.version}"] = piece
    return items


def _piece_words(item: SourceItem, source: OneSource, settings: IngestSettings, version: int) -> str:
    """What matters for the images of a file besides its contents."""
    chosen = source.model_dump(mode="json", exclude={"path", "limit"})
    limited = not isinstance(source, SampleSource) and source.limit > 0
    shares = [settings.calibrate_share, settings.test_share]
    return digest([version, item.source, item.name, item.container, chosen, limited, settings.max_pixels, shares])


def _same_piece(known: str, item: SourceItem, source: OneSource) -> bool:
    """Whether a piece that was read before holds the same now: by the file's size and time, else by its contents."""
    found = PIECE.fullmatch(known)
    if found is None or found["version"] == item.version:
        return found is not None
    return contents_digest(read_piece(_piece_of(item, known), source)) == found["contents"]


def _piece_of(item: SourceItem, known: str) -> SourceItem:
    """The piece of a file that a fingerprint names."""
    _, start, rows, _ = known.split(".")
    return replace(item, start=int(start), rows=int(rows))


def unread(name: str) -> str:
    """The fingerprint that a piece had before it was read."""
    found = PIECE.fullmatch(name)
    return f"{found['words']}.{found['start']}.{found['rows']}.-{found['version']}" if found else name


def read_piece(piece: SourceItem, source: OneSource) -> list[SourceItem]:
    """The images of a piece, with their contents."""
    if isinstance(source, DatasetsSource):
        return list(sources.read(piece, columns_of(source), source.configuration, source.subset))
    return list(sources.read(piece, columns_of(source)))


def fingerprint(item: SourceItem, settings: IngestSettings, version: int) -> str:
    """``<words>-<size>-<time>``: it changes when the image file, its captions or the settings that matter change."""
    words = digest(
        [
            version,
            item.name,
            item.captions,
            item.split,
            item.problem,
            [item.source, item.url, item.licence, item.extra, item.ready_tags],
            settings.max_pixels,
            "" if item.split else [settings.calibrate_share, settings.test_share],
        ]
    )
    return f"{words}-{item.version or '0-0'}"
