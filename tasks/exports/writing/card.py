"""The card of a data set: counts, licences, how it was made. No path of the machine stands in it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

from storage.bare import IN_SQL
from storage.markdown import plain, table
from storage.store import Snapshot
from tasks.exports.writing.exported_rows import ExportedStore, Selection
from tasks.machine.inputs import connect
from tasks.settings.ingest import source_titles

METADATA = """\
---
pretty_name: {name}
task_categories: [image-classification, image-to-text]
tags: [image-tagging, recognize-anything, ram-engine]
configs:
- config_name: default
  data_files:
{files}
---
"""
METADATA_OF_IMAGES = {  # by whether it was left out
    True: "The image files were written without metadata (EXIF, XMP, IPTC, comments): place, camera and time are not "
    "in them. Those that are no JPEG, PNG or WebP became PNG.",
    False: "The image files are as they came, with whatever their metadata (EXIF) tells: it may name place, camera and "
    "time.",
}
MADE_BY = (
    ("label_system", "Label system"),
    ("generated", "Tags and captions added by"),
    ("regions", "Regions found by"),
    ("tag_verdicts", "Tags kept or removed by"),
    ("screening", "Images left out by"),
)


def card(
    exported: ExportedStore, selection: Selection, name: str, what: str, files: Mapping[str, str], images: bool
) -> str:
    """The README of a data set called ``name``; ``files`` are paths of its Parquet files by split, which may hold the
    ``images`` themselves."""
    splits, licences = (_counts(exported, column, selection) for column in ("split", "coalesce(licence, 'not known')"))
    listed = "\n".join(f"  - split: {split}\n    path: {path}" for split, path in files.items())
    parts = [
        METADATA.format(name=json.dumps(name), files=listed),
        f"# {plain(name)}",
        what,
        "## Images",
        table(("split", "images"), [(split, f"{count:,}") for split, count in splits]) + _bare(exported, selection),
        "## Licences",
        table(("licence", "images"), [(licence.replace("|", "/"), f"{count:,}") for licence, count in licences]),
        "The images and captions stay under the terms of where they come from.",
        *([METADATA_OF_IMAGES[selection.strip_exif]] if images else []),
        "## How it was made",
        _made(exported.snapshots, selection),
        "## Tags",
        table(("type", "tags"), _tags_by_type(exported)),
    ]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _counts(exported: ExportedStore, column: str, selection: Selection) -> list[tuple[str, int]]:
    """The values of a column of the pairs, the most frequent first, with how many images have each."""
    with connect(exported.store, {"pairs": exported.snapshots["pairs"]}) as database:
        counted = database.sql(
            f"SELECT {column} AS value, count(*) AS images FROM pairs WHERE $split = '' OR split = $split "
            "GROUP BY ALL ORDER BY images DESC, value LIMIT 30",
            split=selection.split,
        )
    return [(row["value"], row["images"]) for row in counted.to_pylist()]


def _bare(exported: ExportedStore, selection: Selection) -> str:
    """A sentence on images without captions; "" where there are none."""
    bare = dict(_counts(exported, f"{IN_SQL}::VARCHAR", selection)).get("true", 0)
    if not bare:
        return ""
    return f"\n\n{bare:,} of them came without captions: no caption names any of their tags."


def _made(snapshots: Mapping[str, Snapshot], selection: Selection) -> str:
    lines = [f"* Source: {plain(', '.join(source_titles(snapshots['pairs'].settings.get('source', {}))))}."]
    for name, said in MADE_BY:
        if name in snapshots:
            made = snapshots[name]
            lines.append(f"* {said}: stage `{made.stage}`, version {made.stage_version}, snapshot {made.key}.")
    chosen = {
        "split": selection.split,
        "score of a tag at least": selection.min_score or "",
        "said by": ", ".join(selection.sources),
    }
    lines += [f"* Only {name} {value}." for name, value in chosen.items() if value]
    return "\n".join(lines)


def _tags_by_type(exported: ExportedStore) -> list[tuple[str, str]]:
    counts = Counter(tag.type for tag in exported.active)
    return [(type_, f"{count:,}") for type_, count in counts.most_common()]
