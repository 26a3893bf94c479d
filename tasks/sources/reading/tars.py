"""WebDataset tars, as img2dataset writes them: members of one key are a sample, told by their suffixes.

Nothing is unpacked: members are read by their place in the archive, and a name only names.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.sources.item import SHARD_BYTES, SourceItem, size_in
from tasks.sources.reading.columns import Columns, item_of

PIECE = 256  # samples, or as many as reach SHARD_BYTES
BLOCK = 512  # bytes of a tar: it ends with blocks of zeros
MEMBER_BYTES = 512 * 2**20
SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")


def divide_tar(item: SourceItem) -> Iterator[SourceItem]:
    """The pieces of a tar: only its headers are read. Where it breaks off, an item says so; what came before stays."""
    first, rows, key, broken = 0, 0, "", ""
    try:
        with open(item.path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined] # it would keep all of them
                if member.isdir():
                    continue
                member_key = _key(member.name)
                if member_key != key:
                    if rows == PIECE or member.offset - first >= SHARD_BYTES:
                        yield _piece(item, first, rows, member.offset - first)
                        first, rows = member.offset, 0
                    key, rows = member_key, rows + 1
            file.seek(tar.offset)  # a header that is no header ends an archive as silently as its end does
            if file.read(BLOCK) != bytes(BLOCK):
                broken = f"the archive has no end: it breaks off or is damaged at byte {tar.offset}"
    except (tarfile.TarError, EOFError, OSError) as error:
        broken = f"the archive breaks off: {error}"
    if broken:
        yield SourceItem(item.name, item.name, problem=("archive_damaged", broken), version=item.version)
    if rows:
        yield _piece(item, first, rows, size_in(item.version) - first)


def read_tar(piece: SourceItem, columns: Columns) -> Iterator[SourceItem]:
    """The samples of a piece, in order."""
    with open(piece.path, "rb") as file:
        file.seek(piece.start)
        with tarfile.open(fileobj=file, mode="r:") as tar:
            sample: dict[str, bytes] = {}
            problem: tuple[str, str] | None = None
            key, done, seen = "", 0, set[str]()
            for member in _members(tar):
                member_key = _key(member.name)
                if member_key != key:
                    if key:
                        yield _sample(piece, key, sample, problem, columns)
                        done += 1
                    if done == piece.rows:
                        return
                    twice = ("duplicate_key", f"the key '{member_key}' stands more than once")
                    problem = twice if member_key in seen else None
                    key, sample = member_key, {}
                    seen.add(member_key)
                suffix = PurePosixPath(member.name).name.partition(".")[2].lower()
                if problem is None:
                    problem = _unfit(member, suffix, sample)
                if problem is None and (content := tar.extractfile(member)) is not None:
                    try:
                        sample[suffix] = content.read()
                    except tarfile.TarError as error:
                        problem = ("sample_damaged", f"the member '{member.name}' breaks off: {error}")
            if key:
                yield _sample(piece, key, sample, problem, columns)


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Files and links, as far as the archive goes; where it breaks off, its division has said so."""
    try:
        for member in tar:
            tar.members = []  # type: ignore[attr-defined]
            if not member.isdir():
                yield member
    except (tarfile.TarError, EOFError):
        return


def divide_statuses(item: SourceItem) -> Iterator[SourceItem]:
    """The list that img2dataset writes beside each tar, where it names images that were not fetched."""
    try:
        status = pq.read_table(item.path, columns=["status"])["status"]
    except Exception:  # no such column, or no Parquet: it is no such list
        return
    failed = len(status) - (pc.sum(pc.equal(status, "success")).as_py() or 0)
    if failed:
        yield _piece(item, 0, failed, 0)


def read_statuses(piece: SourceItem, columns: Columns) -> Iterator[SourceItem]:
    """The images that were not fetched, each with its status as the problem."""
    names = [name for name in ("key", "url", "status", "error_message") if name in pq.read_schema(piece.path).names]
    table = pq.read_table(piece.path, columns=names)
    for row in table.filter(pc.not_equal(pc.fill_null(table["status"], "unknown"), "success")).to_pylist():
        row["status"] = row["status"] or "unknown"
        yield item_of(row, columns, f"{piece.name}/{row.get('key')}", f"{piece.name} {row.get('url')}")


def _sample(
    piece: SourceItem, key: str, sample: dict[str, bytes], problem: tuple[str, str] | None, columns: Columns
) -> SourceItem:
    name = f"{piece.name}/{key}"
    if problem is not None:
        return SourceItem(name, name, problem=problem)
    row: dict[str, Any] = {}
    try:
        about = json.loads(sample["json"]) if "json" in sample else {}
        text = sample["txt"].decode("utf-8").strip() if "txt" in sample else None
    except ValueError as error:  # of JSON and of UTF-8 alike
        return SourceItem(name, name, problem=("sample_damaged", f"its text cannot be read: {error}"))
    if isinstance(about, dict):
        row = {str(column): value for column, value in about.items()}
    if text and not any(row[column] for column in columns.caption_columns(row)):
        row.pop("captions", None)
        row[(*columns.captions, "caption")[0]] = text
    suffix = next((suffix for suffix in SUFFIXES if suffix in sample), "")
    if not suffix:
        held = ", ".join(sample) or "nothing"
        return SourceItem(name, name, problem=("row_without_image", f"the sample holds {held}"))
    return item_of(row, columns, name, name, data=sample[suffix])


def _unfit(member: tarfile.TarInfo, suffix: str, sample: dict[str, bytes]) -> tuple[str, str] | None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        return "member_outside_archive", f"the member's name '{member.name}' leads out of the archive"
    if not member.isfile():
        return "member_is_link", f"the member '{member.name}' is a link"
    if member.size > MEMBER_BYTES:
        return "member_too_large", f"the member '{member.name}' has {member.size:,} bytes"
    if suffix in sample:
        return "duplicate_key", f"the member '{member.name}' stands more than once"
    return None


def _key(name: str) -> str:
    """All of a member's name up to the first dot of its last step."""
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.partition('.')[0]}"


def _piece(item: SourceItem, start: int, rows: int, size: int) -> SourceItem:
    return SourceItem(
        item.name, item.where, path=item.path, version=item.version, source=item.source, container=item.container,
        start=start, rows=rows, size=size,
    )  # fmt: skip
