"""From a row of a foreign table, or a tar's sample, to an item: which columns are what."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from storage.schemas import OF_IMAGE
from tasks.sources.fitness import REASONS, guarded, problem_of
from tasks.sources.item import SPLITS, ReadyTags, SourceItem, extra_of, inside
from tasks.sources.reading.table_rows import rows_of

CAPTIONS = ("captions", "caption", "text", "texts", "sentences", "sentence", "alt_text", "alt")
IMAGES = ("image", "jpg", "jpeg", "png", "webp", "img", "image_bytes")
URLS, LICENCES = ("url", "image_url"), ("licence", "license")
# What our own exports write and ingest finds out by itself.
OWN = frozenset(
    [
        "image_id",
        "split",
        "sources",
        "name",
        "captions",
        "caption",
        "generated_captions",
        "tags",
        "tag_types",
        "tag_scores",
        "tag_sources",
        "regions",
        "width",
        "height",
        "sha256",
        "key",
        "status",
        "error_message",
    ]
)


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are what; empty: they are told by their names. ``kept`` empty: all others are kept."""

    captions: tuple[str, ...] = ()
    image: str = ""
    tags: str = ""
    kept: tuple[str, ...] = ()

    def caption_columns(self, names: Iterable[str]) -> list[str]:
        """The columns of captions among ``names``; the first whose name says so where none was set."""
        names = list(names)
        if self.captions:
            return [name for name in self.captions if name in names]
        known = _by_lower_name(names)
        return [known[name] for name in CAPTIONS if name in known][:1]

    def image_column(self, names: Iterable[str]) -> str:
        """The column of images among ``names``; empty: there is none."""
        names = list(names)
        if self.image:
            return self.image if self.image in names else ""
        known = _by_lower_name(names)
        return next((known[name] for name in IMAGES if name in known), "")

    def read(self, schema: pa.Schema) -> list[str]:
        """The columns of a table that are read: those that have a meaning, and those whose values may be plain."""
        names = schema.names
        meant = {*self.caption_columns(names), self.image_column(names), self.tags}
        meant |= {name for wanted in (URLS, LICENCES) for name in _known(names, wanted)}
        return list(dict.fromkeys(field.name for field in schema if field.name in meant or _may_be_plain(field.type)))


def items_of(
    table: pa.Table | pa.RecordBatch, columns: Columns, file: str, first: int, folders: Sequence[Path], named: str = ""
) -> Iterator[SourceItem]:
    """The items of the rows of a ``file``, of which the table begins with the ``first``.

    A row is called by its number, or by the column ``named`` where it has that.
    """
    for number, row in enumerate(rows_of(table), first):
        name, where = f"{file}/{number}", f"{file} row {number}"
        if isinstance(row, Exception):
            yield SourceItem(name, where, problem=problem_of(row))
            continue
        if isinstance(own := row.get(named), str | int | float) and own:
            name = f"{file}/{own}"
        yield guarded(name, where, partial(item_of, row, columns, name, where, folders))


def item_of(
    row: Mapping[str, Any],
    columns: Columns,
    name: str,
    where: str,
    folders: Sequence[Path] = (),
    data: bytes | None = None,
) -> SourceItem:
    """The item of a row; unfit ones carry their problem.

    ``data`` is the image file where it is no column. A path within one of the ``folders`` may stand for it, and no
    other: a row may come from anyone, and would make any picture of this machine a part of the data.
    """
    status = row.get("status")
    if isinstance(status, str) and status != "success":
        detail = str(row.get("error_message") or "the source could not fetch it")
        told = (status, detail) if status in REASONS else ("not_fetched", f"{status}: {detail}")
        return SourceItem(name, where, url=_first(row, URLS), problem=told)
    named = columns.caption_columns(row)
    image = columns.image_column(row)
    captions: list[str] = []
    for column in named:
        values = row[column] if isinstance(row[column], list | tuple) else [row[column]]
        if not all(value is None or isinstance(value, str) for value in values):
            return SourceItem(name, where, problem=("caption_not_text", f"the column '{column}' holds {values[0]!r}"))
        captions += [value.strip() for value in values if value and value.strip()]
    tags = _tags(row.get(columns.tags)) if columns.tags else None
    path = ""
    if data is None:
        data, path, problem = _image(row.get(image), folders)
        if problem is not None:
            return SourceItem(name, where, problem=problem)
    used = {*named, image, columns.tags, *(_known(row, URLS)), *(_known(row, LICENCES))}
    extra = {
        column: value
        for column, value in row.items()
        if column not in used and column not in OWN and (not columns.kept or column in columns.kept)
    }
    original = row.get("sha256")
    if isinstance(original, str) and data is not None and hashlib.sha256(data).hexdigest() != original:
        extra["original_sha256"] = original
    split = row.get("split")
    return SourceItem(
        name=name,
        where=where,
        captions=tuple(dict.fromkeys(captions)),
        split=split if isinstance(split, str) and split in SPLITS else "",
        path=path,
        url=_first(row, URLS),
        licence=_first(row, LICENCES),
        extra=extra_of(extra),
        ready_tags=tags,
        data=data,
    )


def _image(value: Any, folders: Sequence[Path]) -> tuple[bytes | None, str, tuple[str, str] | None]:
    """File contents or path of an image column's value, and what is wrong with it."""
    if isinstance(value, bytes):
        return value, "", None
    if isinstance(value, Mapping):
        if value.get("bytes") is not None:
            return value["bytes"], "", None
        value = value.get("path")
    if not isinstance(value, str) or not value:
        return None, "", ("image_missing", "the row holds neither the image's bytes nor its path")
    folder = next((folder for folder in folders if inside(folder, value)), None)
    if folder is None:
        return None, "", ("image_outside_folder", f"'{value}' leads out of the folder of the data")
    return None, str(folder / value), None


def _tags(value: Any) -> ReadyTags:
    """Tags that the source names for the whole image."""
    names = value.split(";") if isinstance(value, str) else value or []
    return ((OF_IMAGE, tuple((str(name).strip(), "") for name in names if name and str(name).strip())),)


def _by_lower_name(names: Iterable[str]) -> dict[str, str]:
    return {name.lower(): name for name in names}


def _may_be_plain(type_: pa.DataType) -> bool:
    """Whether its values may be texts, numbers, yes or no, which are all that is kept of other columns."""
    kinds = (
        pa.types.is_nested,
        pa.types.is_temporal,
        pa.types.is_decimal,
        pa.types.is_binary,
        pa.types.is_large_binary,
    )
    values = type_.value_type if pa.types.is_dictionary(type_) else type_
    return not any(is_kind(values) for is_kind in kinds)


def _known(names: Iterable[str], wanted: tuple[str, ...]) -> list[str]:
    known = _by_lower_name(names)
    return [known[name] for name in wanted if name in known][:1]


def _first(row: Mapping[str, Any], wanted: tuple[str, ...]) -> str | None:
    value = next((row[name] for name in _known(row, wanted)), None)
    return str(value) if value not in (None, "") else None
