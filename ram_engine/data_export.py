"""`ram-engine export` of data sets: what a store holds as a folder that others read."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ram_engine.runs import latest_model
from storage.store import Store
from tasks.exports.request import ExportedTag, Request
from tasks.exports.room import EXPORTS
from tasks.exports.rows import ExportError

if TYPE_CHECKING:
    from tasks.exports.writing.exported_rows import ExportedStore, Selection

UNCALIBRATED = 0.68


def export_data(store: Store, kind: str, folder: Path, selection: Selection) -> Mapping[str, int]:
    """Writes the data of ``store`` into ``folder`` and returns what was written, by split or by kind of change.

    The folder is there whole or not at all: it is written under another name and renamed. Raises ExportError where it
    is not empty, or where there is nothing to export.
    """
    from tasks.exports.writing.exported_rows import ExportedStore

    export = EXPORTS.named(kind)()
    if folder.exists() and any(folder.iterdir()):
        raise ExportError(f"the folder {folder} is not empty: name a new one")
    exported = ExportedStore(store)
    folder.parent.mkdir(parents=True, exist_ok=True)
    writing = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        written = export.write(Request(writing, folder.name, _tags(store, exported), exported, selection))
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
