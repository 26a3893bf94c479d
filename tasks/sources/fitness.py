"""Which rows can be taken: every item of every source passes here, when it is listed and when it is read.

What a source holds comes from strangers. A row that cannot be taken becomes an item with its problem, and costs no
other row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeGuard

from storage.schemas import DESCRIBED
from tasks.images.decoding import MAX_BYTES, ImageError
from tasks.sources.item import SPLITS, SourceError, SourceItem
from tasks.sources.source import Source

Problem = tuple[str, str]  # a reason and a sentence

ROW_BYTES = 2**20  # of the texts of a row: names, captions, tags and other columns
MOST_CAPTIONS = 10_000  # of an image
PIECE_BYTES = 2**30  # of a piece of a file as it is read: SHARD_BYTES, unless its headers lie about it
SHOWN = 500  # characters of a name or a sentence that is told
LARGEST_NUMBER = 2**63 - 1

# Every reason for which a row is set apart. A source of an installed package may have its own beside them.
REASONS = {
    "not_utf8": "a name, a caption or another column holds what is not UTF-8",
    "row_malformed": "a quote is not closed, JSON is nested too deeply, a value is not of its kind",
    "too_large": "the row's texts are larger than 1 MiB, it has more than 10,000 captions, or its piece has over 1 GiB",
    "row_without_image": "the row names no image",
    "row_without_caption": "it has no caption, and `ingest.bare=reject`",
    "row_without_tag": "a label has no tag",
    "caption_not_text": "the caption is no text",
    "unknown_split": "the split is none that there is",
    "unknown_type": "the type of a tag is none that there is",
    "unknown_mark": "`described` is neither yes nor no",
    "unknown_label": "a label is none of the list of tags",
    "labels_do_not_fit": "there are more or fewer lists of labels than captions",
    "image_missing": "the image is not there, or cannot be opened",
    "image_outside_folder": "the image's name leads out of the folder of images",
    "image_empty": "the image file has no content",
    "image_truncated": "the image file breaks off",
    "image_unreadable": "the file is no image, or a damaged one",
    "image_too_large": "it has more pixels than `ingest.max_pixels`, or more than 256 MB",
    "image_too_slow": "a JPEG of more than 100 scans, or an image that takes longer than 30 seconds to decode",
    "duplicate_key": "a sample, or a member of it, stands more than once in a tar",
    "member_outside_archive": "a member's name leads out of the tar",
    "member_is_link": "a member of a tar is a link",
    "member_not_regular": "a member of a tar is a pipe, a device or a sparse file",
    "member_too_large": "a member of a tar has more than 256 MB, or a text more than 1 MiB",
    "sample_damaged": "a sample's text or JSON cannot be read",
    "archive_damaged": "a tar breaks off: what comes after is not read",
    "file_unreadable": "a file, or a stretch of its rows, cannot be read",
    "foreign_schema": "a Parquet file has no column of images, or none of captions",
    "failed_to_download": "img2dataset could not fetch the image",
    "failed_to_resize": "img2dataset could not resize the image",
    "not_fetched": "the image has another status than success",
}


def fit(item: SourceItem) -> SourceItem:
    """The item as it is, or one with the problem for which it cannot be taken.

    What passes has texts that are UTF-8, which can be written to any file, and sizes within the limits above.
    """
    try:
        problem = _problem(item)
    except Exception as error:  # what it holds is not even what an item is made of
        problem = problem_of(error)
    if problem is None:
        return item
    reason, detail = item.problem if _is_told(item.problem) else problem
    return SourceItem(
        shown(item.name), shown(item.where), version=shown(item.version), problem=(shown(reason), shown(detail))
    )


def guarded(name: str, where: str, make: Callable[[], SourceItem]) -> SourceItem:
    """The item that ``make`` gives, or one with what it raised as the problem."""
    try:
        return make()
    except Exception as error:  # rows of strangers raise anything
        return SourceItem(name, where, problem=problem_of(error))


def problem_of(error: Exception) -> Problem:
    """What is wrong with a row at which ``error`` was raised."""
    if isinstance(error, ImageError):
        return error.reason, error.detail
    if isinstance(error, UnicodeError):
        return "not_utf8", "the row holds what is not UTF-8"
    if isinstance(error, RecursionError):
        return "row_malformed", "the row holds something that is nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return "row_malformed", f"the row is no JSON near '{error.doc[error.pos : error.pos + 40]}': {error.msg}"
    return "row_malformed", f"the row cannot be read: {type(error).__name__}: {error}"


def items_of(source: Source) -> Iterator[SourceItem]:
    """The items of a source. Raises :class:`SourceError` where the source as a whole cannot be listed."""
    try:
        yield from map(fit, source.items())
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(f"{source.title()} cannot be listed: {type(error).__name__}: {error}") from error


def pieces_of(source: Source, file: SourceItem) -> Iterator[SourceItem]:
    """The pieces of a file of many images, and what is wrong with it."""
    return _to_the_end(source.divide, file)


def images_of(source: Source, item: SourceItem) -> Iterator[SourceItem]:
    """The images of an item, or of a piece: what is more than PIECE_BYTES of them is not kept."""
    held = 0
    for image in _to_the_end(source.read, item):
        held += len(image.data or b"") + len(image.extra) + sum(map(len, image.captions))
        if item.container and held > PIECE_BYTES:
            detail = f"the rows of this piece of the file have more than {PIECE_BYTES:,} bytes together"
            image = SourceItem(image.name, image.where, problem=image.problem or ("too_large", detail))
        yield image


def shown(text: object) -> str:
    """A text of a stranger as it can be written and told: of a long one the beginning, and UTF-8 all of it."""
    whole = text if isinstance(text, str) else type(text).__name__
    told = whole[: SHOWN + 1].encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    return told if len(told) <= SHOWN else f"{told[: SHOWN - 3]} .."


def _to_the_end(read: Callable[[SourceItem], Iterable[SourceItem]], whole: SourceItem) -> Iterator[SourceItem]:
    """What is read of an item, fit, and where that breaks off an item that says so."""
    try:
        yield from map(fit, read(whole))
    except SourceError:
        raise
    except Exception as error:
        reason = "file_unreadable" if whole.container else "image_unreadable"
        detail = f"it cannot be read: {type(error).__name__}: {error}"
        yield fit(SourceItem(whole.name, whole.where, version=whole.version, problem=(reason, detail)))


def _problem(item: SourceItem) -> Problem | None:
    size = 0
    for what, text in _texts(item):
        if not isinstance(text, str):
            return "row_malformed", f"its {what} is {type(text).__name__}, and should be a text"
        try:
            size += len(text.encode())
        except UnicodeEncodeError:
            return "not_utf8", f"its {what} holds what is not UTF-8"
    if size > ROW_BYTES:
        return "too_large", f"its texts have {size:,} bytes, more than {ROW_BYTES:,}"
    if item.problem is not None:
        return None if _is_told(item.problem) and len(item.problem[1]) <= SHOWN else ("row_malformed", "it is unfit")
    if "\0" in item.name or "\0" in item.path:
        return "row_malformed", "its name holds a NUL"
    if len(item.captions) > MOST_CAPTIONS:
        return "too_large", f"it has {len(item.captions):,} captions, more than {MOST_CAPTIONS:,}"
    if item.split not in SPLITS:
        return "unknown_split", f"split '{item.split}' is none of {', '.join(SPLITS[1:])}"
    if not all(type(at) is int and DESCRIBED <= at < len(item.captions) for at, _ in item.ready_tags or ()):
        return "labels_do_not_fit", "its tags belong to a caption that it does not have"
    sizes = (item.start, item.rows, item.size)
    if not all(type(size) is int and abs(size) <= LARGEST_NUMBER for size in sizes) or min(sizes[:2]) < 0:
        return "file_unreadable", "its headers name sizes that no file has"
    if item.extra != "{}":
        columns = json.loads(item.extra)
        if not isinstance(columns, dict):
            return "row_malformed", f"its columns are {type(columns).__name__}, and should be a JSON object"
        if "\\u" in item.extra:
            json.dumps(columns, ensure_ascii=False).encode()  # raises where an escape is no character
    if item.data is not None and not isinstance(item.data, bytes):
        return "row_malformed", f"its image is {type(item.data).__name__}, and should be bytes"
    if item.data is not None and len(item.data) > MAX_BYTES:
        return "image_too_large", f"its image has {len(item.data):,} bytes, more than {MAX_BYTES:,}"
    return None


def _texts(item: SourceItem) -> Iterator[tuple[str, object]]:
    """All texts of an item, and what they are."""
    yield from (("name", item.name), ("place", item.where), ("path", item.path), ("version", item.version))
    yield from (("split", item.split), ("container", item.container))
    yield from ((what, text) for what, text in (("URL", item.url), ("licence", item.licence)) if text is not None)
    yield "columns", item.extra
    yield from (("caption", caption) for caption in _listed(item.captions))
    for _, tags in _listed(() if item.ready_tags is None else item.ready_tags):
        for name, type_ in tags:
            yield from (("tag", name), ("tag's type", type_))
    yield from (("problem", text) for text in item.problem or ())


def _is_told(problem: object) -> TypeGuard[Problem]:
    if not (isinstance(problem, tuple) and len(problem) == 2 and all(isinstance(text, str) for text in problem)):
        return False
    return problem[0] != ""


def _listed(values: Sequence[Any]) -> Sequence[Any]:
    if not isinstance(values, tuple | list):
        raise TypeError(f"{type(values).__name__} is no list")
    return values
