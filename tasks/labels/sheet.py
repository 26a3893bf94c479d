"""The label system as a spreadsheet that a person edits, and the checks of what comes back.

Columns that a person edits: ``name``, ``type``, ``status`` (active, off, retired), ``merge_into`` (the id or the name
of the tag that takes this one's words), ``synonyms``, ``groundable`` (yes, no) and ``prompt``. The others are to be
read. A row taken out retires its tag; a row without ``tag_id`` makes a new one.
"""

from __future__ import annotations

import csv
import difflib
import io
import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from storage.spreadsheets import SheetWriter, guarded, text_of
from tasks.labels.edits import STATUSES, Edit, apply
from tasks.labels.tags import TYPES, Tag, role

READ_ONLY = ("count", "evidence", "examples")
COLUMNS = ("tag_id", "name", "type", "status", "merge_into", "synonyms", "groundable", "prompt", *READ_ONLY)
REQUIRED = ("tag_id", "name")
YES = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


class SheetError(ValueError):
    """A spreadsheet that cannot be taken over. ``problems``: one sentence each, with the row where there is one."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problems))


@dataclass(frozen=True)
class Row:
    """A row as a person left it; ``line`` is its number in the spreadsheet. None: the column is not there."""

    line: int
    tag_id: int | None
    name: str
    type: str | None = None
    status: str | None = None
    merge_into: str = ""
    synonyms: tuple[str, ...] | None = None
    groundable: bool | None = None
    prompt: str | None = None


def rows_of(tags: Iterable[Tag]) -> list[Row]:
    """The rows of all tags that are not retired, as the spreadsheet has them before any change."""
    kept = [tag for tag in tags if not tag.retired]
    return [
        Row(
            line=line,
            tag_id=tag.tag_id,
            name=tag.name,
            type=tag.type,
            status="active" if tag.active else "off",
            synonyms=tag.synonyms,
            groundable=tag.groundable,
            prompt=tag.prompt,
        )
        for line, tag in enumerate(kept, 2)
    ]


def write(
    tags: Iterable[Tag],
    evidence: Mapping[int, Sequence[str]] | None = None,
    examples: Mapping[int, Sequence[str]] | None = None,
) -> str:
    """The spreadsheet as CSV text; ``evidence`` and ``examples`` (captions) by tag id."""
    tags = list(tags)
    counts = {tag.tag_id: tag.count for tag in tags}
    out = io.StringIO(newline="")
    writer = SheetWriter(out, COLUMNS)
    for row in rows_of(tags):
        assert row.tag_id is not None
        writer.write(
            {
                "tag_id": row.tag_id,
                "name": row.name,
                "type": row.type,
                "status": row.status,
                "merge_into": row.merge_into,
                "synonyms": _join(row.synonyms or ()),
                "groundable": "yes" if row.groundable else "no",
                "prompt": row.prompt,
                "count": counts[row.tag_id],
                "evidence": "; ".join((evidence or {}).get(row.tag_id, ())),
                "examples": " | ".join((examples or {}).get(row.tag_id, ())),
            }
        )
    return out.getvalue()


def read(text: str) -> list[Row]:
    """The rows of a spreadsheet saved as CSV, with commas, semicolons or tabs.

    Raises :class:`SheetError` with a sentence for each unknown or missing column and each cell that cannot be read.
    """
    columns, records = records_of(text)
    problems = [
        f"unknown column '{name}'{_nearest(name, COLUMNS)}; it may be {', '.join(COLUMNS)}"
        for name in columns
        if name not in COLUMNS
    ]
    problems += [f"the column '{name}' is missing" for name in REQUIRED if name not in columns]
    problems += [f"the column '{name}' stands there twice" for name in COLUMNS if columns.count(name) > 1]
    if problems:
        raise SheetError(problems)
    rows = []
    for line, cells in records:
        try:
            rows.append(_row(line, columns, cells))
        except ValueError as error:
            problems.append(f"row {line}: {error}")
    if problems:
        raise SheetError(problems)
    return rows


def records_of(text: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The columns of a CSV text, and its rows that are not empty, with their number as a spreadsheet counts them."""
    text = text.removeprefix("\ufeff")
    header = text.partition("\n")[0]
    try:
        records = list(csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count)))
    except csv.Error as error:
        raise SheetError([f"this is no CSV: {error}"]) from None
    columns = [name.strip() for name in records[0]] if records else []
    stripped = ((line, [text_of(cell.strip()).strip() for cell in cells]) for line, cells in enumerate(records[1:], 2))
    return columns, [(line, cells) for line, cells in stripped if any(cells)]


def _row(line: int, columns: Sequence[str], cells: Sequence[str]) -> Row:
    if any(cells[len(columns) :]):
        raise ValueError("it has more cells than the header has columns")
    given = dict(itertools.zip_longest(columns, cells[: len(columns)], fillvalue=""))
    tag_id = None
    if given["tag_id"]:
        try:
            tag_id = int(given["tag_id"])
        except ValueError:
            raise ValueError(f"the tag_id '{given['tag_id']}' is not a whole number") from None
    if not given["name"]:
        raise ValueError("the name is empty; to remove a tag, set its status to retired or off")
    for column, allowed in (("type", TYPES), ("status", STATUSES), ("groundable", tuple(YES))):
        cell = given.get(column, "").lower()
        if cell and cell not in allowed:
            raise ValueError(f"the {column} '{given[column]}' is unknown{_nearest(cell, allowed)}; "
                             f"it may be {', '.join(allowed)}")  # fmt: skip
    return Row(
        line=line,
        tag_id=tag_id,
        name=given["name"],
        type=given.get("type", "").lower() or None,
        status=given.get("status", "").lower() or None,
        merge_into=given.get("merge_into", ""),
        synonyms=_split(given["synonyms"]) if "synonyms" in given else None,
        groundable=YES.get(given.get("groundable", "").lower()),
        prompt=given.get("prompt") or None,
    )


def compare(tags: Sequence[Tag], rows: Sequence[Row], known: Mapping[str, Iterable[str]] | None = None) -> list[Edit]:
    """What a person changed in ``rows`` against ``tags``.

    ``known`` holds the names of the tags that a checkpoint knows, by checkpoint: such a tag may be switched off but
    not retired. Raises :class:`SheetError` with one sentence for each row that is wrong.
    """
    problems: list[str] = []
    by_id = {tag.tag_id: tag for tag in tags}
    rows = _with_ids(by_id, rows, problems)
    edits: dict[int, Edit] = {}
    lines: dict[int, int] = {}
    wanted: dict[int, Row] = {}
    for row in rows:
        assert row.tag_id is not None
        if row.tag_id in lines:
            problems.append(f"row {row.line}: the tag_id {row.tag_id} stands in row {lines[row.tag_id]} already")
            continue
        lines[row.tag_id] = row.line
        wanted[row.tag_id] = row
        edits[row.tag_id] = _changes(by_id.get(row.tag_id), row)
    for tag in tags:
        if not tag.retired and tag.tag_id not in lines:
            edits[tag.tag_id] = Edit(tag.tag_id, status="retired")
    _resolve_merges(by_id, wanted, edits, problems)
    for tag_id, edit in edits.items():
        if edit.status == "retired" and tag_id in by_id:
            tag = by_id[tag_id]
            models = [model for model, names in (known or {}).items() if tag.name in names]
            if models:
                where = f"row {lines[tag_id]}" if tag_id in lines else "a missing row"
                problems.append(
                    f"{where}: tag {tag_id} '{tag.name}' is removed, but the checkpoint {' and '.join(models)} "
                    "knows it; keep its row with the status off"
                )
    if not problems:
        problems += _clashes(apply(tags, edits.values()), lines)
    if problems:
        raise SheetError(problems)
    return [edit for edit in edits.values() if not edit.empty]


def _with_ids(by_id: Mapping[int, Tag], rows: Iterable[Row], problems: list[str]) -> list[Row]:
    """The rows, new ones with an id: that of a retired tag of the same name and type, else the next that is free."""
    retired = {(tag.name, role(tag.type)): tag.tag_id for tag in by_id.values() if tag.retired}
    next_id = max(by_id, default=-1) + 1
    numbered = []
    for row in rows:
        if row.tag_id is None and row.type is None:
            problems.append(f"row {row.line}: the new tag '{row.name}' needs a type: {', '.join(TYPES)}")
            continue
        if row.tag_id is not None and row.tag_id not in by_id:
            problems.append(
                f"row {row.line}: there is no tag with the id {row.tag_id}; leave the tag_id of a new tag empty"
            )
            continue
        if row.tag_id is None:
            again = retired.pop((row.name, role(row.type or "")), None)
            row = replace(row, tag_id=next_id if again is None else again, status=row.status or "active")
            next_id += again is None
        numbered.append(row)
    return numbered


def _changes(tag: Tag | None, row: Row) -> Edit:
    assert row.tag_id is not None
    if tag is None:
        return Edit(
            row.tag_id,
            row.name,
            row.type,
            row.status,
            synonyms_added=row.synonyms or (),
            groundable=row.groundable,
            prompt=row.prompt,
        )
    status = "retired" if tag.retired else "active" if tag.active else "off"
    old = set(tag.synonyms)
    new = tag.synonyms if row.synonyms is None else row.synonyms
    renamed = row.name != tag.name
    return Edit(
        tag.tag_id,
        name=row.name if renamed else None,
        type=row.type if row.type not in (None, tag.type) else None,
        status=row.status if row.status not in (None, status) else None,
        synonyms_added=tuple(word for word in new if word not in old and word != row.name),
        synonyms_dropped=tuple(word for word in tag.synonyms if word not in new and word != row.name),
        groundable=row.groundable if row.groundable not in (None, tag.groundable) else None,
        prompt=row.prompt if row.prompt not in (None, tag.prompt) else None,
    )


def _resolve_merges(
    by_id: Mapping[int, Tag], wanted: Mapping[int, Row], edits: dict[int, Edit], problems: list[str]
) -> None:
    """Fills ``merge_into`` of the edits: from the column, and where a tag's name is now another tag's synonym."""
    named: dict[tuple[str, str], int] = {}
    for tag_id, row in wanted.items():
        tag = by_id.get(tag_id)
        type_ = row.type or (tag.type if tag else "")
        named.setdefault((row.name, role(type_)), tag_id)
    targets: dict[int, int] = {}
    for tag_id, row in wanted.items():
        type_ = role(row.type or (by_id[tag_id].type if tag_id in by_id else ""))
        if row.merge_into:
            number = int(row.merge_into) if row.merge_into.isdecimal() else None
            target = number if number in wanted else named.get((row.merge_into, type_))
            if target is None:
                problems.append(f"row {row.line}: merge_into '{row.merge_into}' is no id and no name of its type")
            elif target == tag_id:
                problems.append(f"row {row.line}: '{row.name}' cannot merge into itself")
            else:
                targets[tag_id] = target
        for word in edits[tag_id].synonyms_added:
            other = named.get((word, type_))
            if other is not None and other != tag_id and other not in targets:
                targets[other] = tag_id
    for tag_id in sorted(targets, key=lambda one: wanted[one].line):
        path = [tag_id]
        while path[-1] in targets and targets[path[-1]] not in path:
            path.append(targets[path[-1]])
        if path[-1] in targets:
            around = path[path.index(targets[path[-1]]) :]
            if tag_id in around:
                names = " -> ".join(f"'{wanted[one].name}'" for one in [*around, around[0]])
                problems.append(f"row {wanted[tag_id].line}: the synonyms go in a circle: {names}")
            continue
        end = wanted[path[-1]]
        end_tag = by_id.get(path[-1])
        status = end.status or ("active" if end_tag is None or end_tag.active else "off")
        if status != "active":
            problems.append(
                f"row {wanted[tag_id].line}: '{wanted[tag_id].name}' merges into '{end.name}', which is {status}"
            )
        edits[tag_id] = replace(edits[tag_id], merge_into=targets[tag_id])


def _clashes(tags: Iterable[Tag], lines: Mapping[int, int]) -> list[str]:
    """A sentence for each word that two active tags of one role would have."""
    owners: dict[tuple[str, str], list[Tag]] = defaultdict(list)
    for tag in tags:
        if tag.active:
            for word in dict.fromkeys(tag.words):
                owners[word, role(tag.type)].append(tag)
    return [
        f"row {lines[tag.tag_id]}: '{word}' belongs to tag {first.tag_id} '{first.name}' (row {lines[first.tag_id]}) "
        f"and to tag {tag.tag_id} '{tag.name}': take it out of one, or merge them"
        for (word, _), (first, *others) in owners.items()
        for tag in others
    ]


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), 1)
    return f" (did you mean '{near[0]}'?)" if near else ""


def _join(words: Iterable[str]) -> str:
    """Words in a cell; each is guarded: where lists are cut at semicolons a spreadsheet makes cells of them."""
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=";").writerow(map(guarded, words))
    return out.getvalue().removesuffix("\r\n")


def _split(cell: str) -> tuple[str, ...]:
    fields = next(csv.reader(io.StringIO(cell, newline=""), delimiter=";", skipinitialspace=True), [])
    return tuple(dict.fromkeys(word for field in fields if (word := text_of(field.strip()).strip())))
