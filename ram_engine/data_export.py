"""`ram-engine export` of data sets: what a store holds as a folder that others read, and its card."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ram_engine.runs import latest_model
from storage.exports import WRITERS, ExportedTag, ExportError, Request
from storage.exports.rows import markdown_table as table
from storage.store import Snapshot, Store
from tasks.machine.inputs import connect
from tasks.settings.ingest import source_titles

if TYPE_CHECKING:
    from tasks.data.exported_rows import ExportedStore, Selection

UNCALIBRATED = 0.68
REGIONS = ("coco", "webdataset", "fiftyone")  # the formats that have a place for them
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


def export_data(store: Store, format_: str, folder: Path, selection: Selection) -> Mapping[str, int]:
    """Writes the data of ``store`` into ``folder`` and returns what was written, by split or by kind of change.

    The folder is there whole or not at all: it is written under another name and renamed. Raises ExportError where it
    is not empty, or where there is nothing to export.
    """
    from tasks.data.exported_rows import ExportedStore

    if folder.exists() and any(folder.iterdir()):
        raise ExportError(f"the folder {folder} is not empty: name a new one")
    exported = ExportedStore(store)
    folder.parent.mkdir(parents=True, exist_ok=True)
    writing = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        request = Request(
            folder=writing,
            tables=exported.changes(selection) if format_ == "diff" else exported.rows(selection, format_ in REGIONS),
            tags=_tags(store, exported),
            extra={} if format_ == "diff" else exported.extra_columns(selection),
            card=_card(store, exported, format_, folder.name, selection),
            images=selection.images,
            name=folder.name,
        )
        written = WRITERS[format_](request)
        writing.chmod(0o777 & ~_umask())
        if folder.exists():
            folder.rmdir()
        writing.rename(folder)
    except BaseException:
        shutil.rmtree(writing, ignore_errors=True)
        raise
    return written


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _tags(store: Store, exported: ExportedStore) -> list[ExportedTag]:
    """The active tags with the thresholds of the store's best model, which are those of whatever it was trained on."""
    thresholds: dict[tuple[str, str], float] = {}
    best = latest_model(store)
    if best is not None:
        folder = store.model_folder(best) / "whole"
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        for label in json.loads((folder / "labels.json").read_text(encoding="utf-8")):
            own = label.get("threshold")
            thresholds[label["name"], label["type"]] = config.get("threshold", UNCALIBRATED) if own is None else own
    return [
        ExportedTag(tag.tag_id, tag.name, tag.type, thresholds.get(tag.key, UNCALIBRATED)) for tag in exported.active
    ]


def _card(store: Store, exported: ExportedStore, format_: str, name: str, selection: Selection) -> str:
    """The dataset card: counts, licences, how it was made. No path of the machine stands in it."""
    pairs = exported.snapshots["pairs"]
    with connect(store, {"pairs": pairs}) as connection:
        where = "WHERE $split = '' OR split = $split"
        splits, licences = (
            connection.execute(
                f"SELECT {column}, count(*) FROM pairs {where} GROUP BY ALL ORDER BY 2 DESC, 1 LIMIT 30",
                {"split": selection.split},
            ).fetchall()
            for column in ("split", "coalesce(licence, 'not known')")
        )
    files = "\n".join(f"  - split: {split}\n    path: data/{split}-*.parquet" for split, _ in splits)
    if format_ == "diff":
        files = "  - split: train\n    path: data/changes.parquet"
    parts = [METADATA.format(name=json.dumps(name), files=files), f"# {name}", _what(format_)]
    parts += ["## Images", table(("split", "images"), [(split, f"{count:,}") for split, count in splits])]
    parts += ["## Licences", table(("licence", "images"), [(one.replace("|", "/"), f"{n:,}") for one, n in licences])]
    parts += ["The images and captions stay under the terms of where they come from."]
    parts += ["## How it was made", _made(exported.snapshots, selection), "## Tags", _tag_table(exported)]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _what(format_: str) -> str:
    if format_ == "diff":
        return (
            "What the data engine of [RAM](https://arxiv.org/abs/2306.03514) made of the tags of image captions: a row "
            "says that a tag was `added` to an image, `removed` from it, or that a caption's word was `changed` into a "
            "tag of another name, with the stage that did it and why. Images are named by `sha256` and, where the "
            "source has one, by `url`; none is in here."
        )
    return (
        "Images with captions and tags of everyday words, made by the data engine of "
        "[RAM](https://arxiv.org/abs/2306.03514). Nobody labelled by hand: tags were parsed from captions, added by a "
        "model that was trained on them, and cleaned. `tag_sources` says who said a tag (caption, generated caption, "
        "predicted, or a person's hand), `tag_scores` how probable the annotator thinks it."
    )


def _made(snapshots: Mapping[str, Snapshot], selection: Selection) -> str:
    lines = [f"* Source: {', '.join(source_titles(snapshots['pairs'].settings.get('source', {})))}."]
    for name, said in (
        ("label_system", "Label system"),
        ("generated", "Tags and captions added by"),
        ("regions", "Regions found by"),
        ("tag_verdicts", "Tags kept or removed by"),
        ("screening", "Images left out by"),
    ):
        if name in snapshots:
            one = snapshots[name]
            lines.append(f"* {said}: stage `{one.stage}`, version {one.stage_version}, snapshot {one.key}.")
    chosen = {
        "split": selection.split,
        "score of a tag at least": selection.min_score or "",
        "said by": ", ".join(selection.sources),
    }
    lines += [f"* Only {name} {value}." for name, value in chosen.items() if value]
    return "\n".join(lines)


def _tag_table(exported: ExportedStore) -> str:
    counts = Counter(tag.type for tag in exported.active)
    return table(("type", "tags"), [(type_, f"{count:,}") for type_, count in counts.most_common()])
