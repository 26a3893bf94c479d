"""WebDataset tars, as img2dataset writes them: members of one key are a sample, told by their suffixes.

Nothing is unpacked: members are read by their place in the archive, and a name only names.
"""

from __future__ import annotations

import contextlib
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import groupby, islice
from pathlib import PurePosixPath
from typing import IO, Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.images.decoding import MAX_BYTES
from tasks.sources.fitness import Problem, guarded, problem_of
from tasks.sources.item import SHARD_BYTES, SourceItem, size_in
from tasks.sources.reading.columns import Columns, item_of
from tasks.sources.reading.table_rows import rows_of

PIECE = 256  # samples, or as many as reach SHARD_BYTES
BLOCK = 512  # bytes of a tar: it ends with blocks of zeros
SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")
MOST_BYTES = {"json": 16 * 2**20, "txt": 16 * 2**20}  # of a member; of any other MAX_BYTES
HEADER_BYTES = 8192  # of a long name, which is written before its member
HEADERS = (*tarfile.GNU_TYPES[:2], tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)


def divide_tar(item: SourceItem) -> Iterator[SourceItem]:
    """The pieces of a tar: only its headers are read. Where it breaks off, an item says so; what came before stays."""
    first = rows = 0
    broken = ""
    try:
        with open(item.path, "rb") as file, _opened(file) as tar:
            for _, members in groupby(_members(tar), _key):
                start = next(members).offset
                if rows and (rows == PIECE or start - first >= SHARD_BYTES):
                    yield _piece(item, first, rows, start - first)
                    first, rows = start, 0
                rows += 1
            file.seek(tar.offset)  # a header that is no header ends an archive as silently as its end does
            if file.read(BLOCK) != bytes(BLOCK):
                broken = f"the archive has no end: it breaks off or is damaged at byte {tar.offset}"
    except Exception as error:  # the headers of strangers raise anything
        broken = f"the archive breaks off: {error}"
    if broken:
        yield SourceItem(item.name, item.name, problem=("archive_damaged", broken), version=item.version)
    if rows:
        yield _piece(item, first, rows, size_in(item.version) - first)


def read_tar(piece: SourceItem, columns: Columns) -> Iterator[SourceItem]:
    """The samples of a piece, in order."""
    with open(piece.path, "rb") as file:
        file.seek(piece.start)
        with _opened(file) as tar:
            seen = set[str]()
            for key, members in islice(groupby(_whole(_members(tar)), _key), piece.rows):
                name = f"{piece.name}/{key}"
                twice = ("duplicate_key", f"the key '{key}' stands more than once") if key in seen else None
                yield guarded(name, name, partial(_sample, tar, name, members, twice, columns))
                seen.add(key)


class _Header(tarfile.TarInfo):
    """A header that is believed for its own member alone, and whose name takes no more memory than a name does."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        header.size = max(0, header.size)  # a negative one would lead back, for ever
        if header.type == tarfile.XGLTYPE:  # what is said of all members that follow: a piece does not see it
            header.type = tarfile.XHDTYPE
        if header.type in HEADERS and header.size > HEADER_BYTES:  # read as a member of its own, which is no image
            header.type = tarfile.REGTYPE
        return header

    def _proc_gnusparse_00(self, member: tarfile.TarInfo, *_: Any) -> None:
        member.sparse = b""  # it is refused, and its map, which may be damaged, is not read

    _proc_gnusparse_01 = _proc_gnusparse_10 = _proc_gnusparse_00


def _opened(file: IO[bytes]) -> tarfile.TarFile:
    return tarfile.open(fileobj=file, mode="r:", tarinfo=_Header)


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """All but folders. Raises :class:`tarfile.ReadError`, or what a damaged header raises, where the archive breaks
    off."""
    end = -1
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined] # it would keep all of them
        if tar.offset <= end:
            raise tarfile.ReadError(f"the size of '{member.name}' leads back")
        end = tar.offset
        if not member.isdir():
            yield member


def _whole(members: Iterator[tarfile.TarInfo]) -> Iterator[tarfile.TarInfo]:
    """The members as far as the archive goes; where it breaks off, its division has said so."""
    with contextlib.suppress(Exception):
        yield from members


def divide_statuses(item: SourceItem) -> Iterator[SourceItem]:
    """The list that img2dataset writes beside each tar, where it names images that were not fetched."""
    try:
        failed = pc.sum(_not_fetched(pq.read_table(item.path, columns=["status"]))).as_py()
    except Exception:  # no such column, or no Parquet: it is no such list
        return
    if failed:
        yield _piece(item, 0, failed, 0)


def read_statuses(piece: SourceItem, columns: Columns) -> Iterator[SourceItem]:
    """The images that were not fetched, each with its status as the problem."""
    names = [name for name in ("key", "url", "status", "error_message") if name in pq.read_schema(piece.path).names]
    table = pq.read_table(piece.path, columns=names)
    for number, row in enumerate(rows_of(table.filter(_not_fetched(table)))):
        if isinstance(row, Exception):
            yield SourceItem(f"{piece.name}/{number}", piece.name, problem=problem_of(row))
        else:
            row["status"] = str(row["status"] or "unknown")
            name, where = f"{piece.name}/{row.get('key')}", f"{piece.name} {row.get('url')}"
            yield guarded(name, where, partial(item_of, row, columns, name, where))


def _not_fetched(statuses: pa.Table) -> pa.ChunkedArray:
    return pc.fill_null(pc.not_equal(statuses["status"].cast(pa.string()), "success"), True)


def _sample(
    tar: tarfile.TarFile, name: str, members: Iterable[tarfile.TarInfo], problem: Problem | None, columns: Columns
) -> SourceItem:
    sample: dict[str, tarfile.TarInfo] = {}
    for member in members:
        suffix = PurePosixPath(member.name).name.partition(".")[2].lower()
        problem = problem or _unfit(member, suffix, sample)
        sample[suffix] = member
    if problem is not None:
        return SourceItem(name, name, problem=problem)
    row: dict[str, Any] = {}
    suffix = next((suffix for suffix in SUFFIXES if suffix in sample), "")
    if not suffix:
        held = ", ".join(sample) or "nothing"
        return SourceItem(name, name, problem=("row_without_image", f"the sample holds {held}"))
    try:
        about = json.loads(_content(tar, sample["json"])) if "json" in sample else {}
        text = _content(tar, sample["txt"]).decode("utf-8").strip() if "txt" in sample else None
        data = _content(tar, sample[suffix])
    except (ValueError, RecursionError) as error:  # of JSON and of UTF-8 alike
        return SourceItem(name, name, problem=("sample_damaged", f"it cannot be read: {error}"))
    if isinstance(about, dict):
        row = {str(column): value for column, value in about.items()}
    if text and not any(row[column] for column in columns.caption_columns(row)):
        row.pop("captions", None)
        row[(*columns.captions, "caption")[0]] = text
    return item_of(row, columns, name, name, data=data)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """What a regular member holds. Raises ValueError where it breaks off."""
    file = tar.extractfile(member)
    assert file is not None
    try:
        return file.read()
    except tarfile.TarError as error:
        raise ValueError(f"the member '{member.name}' breaks off: {error}") from error


def _unfit(member: tarfile.TarInfo, suffix: str, sample: Mapping[str, tarfile.TarInfo]) -> Problem | None:
    path, most = PurePosixPath(member.name), MOST_BYTES.get(suffix, MAX_BYTES)
    if path.is_absolute() or ".." in path.parts:
        return "member_outside_archive", f"the member's name '{member.name}' leads out of the archive"
    if member.issym() or member.islnk():
        return "member_is_link", f"the member '{member.name}' is a link"
    if not member.isfile() or member.issparse():
        return "member_not_regular", f"the member '{member.name}' is a pipe, a device or a sparse file"
    if member.size > most:
        return "member_too_large", f"the member '{member.name}' has {member.size:,} bytes, more than {most:,}"
    if suffix in sample:
        return "duplicate_key", f"the member '{member.name}' stands more than once"
    return None


def _key(member: tarfile.TarInfo) -> str:
    """All of a member's name up to the first dot of its last step."""
    folder, slash, last = member.name.rpartition("/")
    return f"{folder}{slash}{last.partition('.')[0]}"


def _piece(item: SourceItem, start: int, rows: int, size: int) -> SourceItem:
    return SourceItem(
        item.name, item.where, path=item.path, version=item.version, source=item.source, container=item.container,
        start=start, rows=rows, size=size,
    )  # fmt: skip
