"""What the sources hold now: items by their fingerprints, which tell a new or a changed one without reading it.

A file of many images is divided into pieces; one that was divided before and stays as it is, is not divided again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from tasks.settings.ingest import IngestSettings
from tasks.sources.fitness import images_of, items_of, pieces_of
from tasks.sources.item import SourceItem, size_in
from tasks.sources.listing.fingerprints import Fingerprint, contents_key, of_file, of_image
from tasks.sources.source import Source


def named_sources(source: Source) -> dict[str, Source]:
    """The sources that one is made of, by their labels, with a number where two are called the same."""
    named: dict[str, Source] = {}
    for part in source.sources():
        name = label = part.label()
        number = 2
        while name in named:
            name, number = f"{label} {number}", number + 1
        named[name] = part
    return named


def list_all(
    settings: IngestSettings, version: int, known: Iterable[Fingerprint] = ()
) -> Iterator[tuple[Fingerprint, SourceItem]]:
    """All items of all sources with their fingerprints, one by one, files of many images divided into pieces.

    ``version`` is the stage's; ``known`` are the pieces of files that were read before. A source may list an item
    twice.
    """
    read_before: dict[tuple[str, str], set[Fingerprint]] = {}
    for fingerprint in known:
        read_before.setdefault(fingerprint.but_time, set()).add(fingerprint)
    for name, source in named_sources(settings.source).items():
        left = source.most() or None
        for listed in items_of(source):
            item = replace(listed, source=name)
            if not item.container:
                yield of_image(item, source, settings, version), item
                continue
            whole = of_file(item, source, settings, version)
            before = read_before.get(whole.but_time, set())
            before = {piece for piece in before if piece.version == item.version} or before
            if before and left is None and all(_same(fingerprint, item, source) for fingerprint in before):
                of_a_row = size_in(item.version) // sum(fingerprint.rows for fingerprint in before)
                for fingerprint in sorted(before):
                    yield fingerprint, replace(_piece(item, fingerprint), size=fingerprint.rows * of_a_row)
                continue
            unread = {fingerprint.unread(): fingerprint for fingerprint in sorted(before)}
            for piece in _divided(item, source, left):
                left = None if left is None else left - piece.rows
                if piece.container:
                    new = replace(whole, start=piece.start, rows=piece.rows)
                    yield unread.get(new, new), piece
                else:  # what is wrong with the file
                    yield of_image(piece, source, settings, version), piece


def _divided(file: SourceItem, source: Source, left: int | None) -> list[SourceItem]:
    """The pieces of a file with the ``left`` first of its rows (None: all of them), and what is wrong with it."""
    pieces = []
    for divided in pieces_of(source, file):
        piece = replace(divided, source=file.source)
        if left is not None:
            piece = replace(piece, rows=min(piece.rows, left))
            left -= piece.rows
        if piece.rows or not piece.container:
            pieces.append(piece)
    return pieces


def _same(known: Fingerprint, file: SourceItem, source: Source) -> bool:
    """Whether a piece that was read before holds the same now: by the file's size and time, else by its contents."""
    return known.version == file.version or contents_key(images_of(source, _piece(file, known))) == known.contents


def _piece(file: SourceItem, known: Fingerprint) -> SourceItem:
    """The piece of a file that a fingerprint names."""
    return replace(file, start=known.start, rows=known.rows)
