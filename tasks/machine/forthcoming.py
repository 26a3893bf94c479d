"""What a run will leave in a store, as far as that can be told before it: new rows, recipes, unfit rows of a source."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from storage.bare import are_bare
from storage.store import Store
from tasks.machine.declaration import Stage
from tasks.machine.planning import StagePlan, recipe_of
from tasks.machine.stage_run import StageRun
from tasks.sources.item import size_in
from tasks.sources.temporary import temporary_database

MOST_NAMED = 3  # unfit rows that a note names


@dataclass
class Forthcoming:
    """The artifacts that a run changes: their new ``rows``, and the ``recipes`` of all that it has looked at."""

    store: Store
    images: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    recipes: dict[str, str] = field(default_factory=dict)
    splits: set[str] | None = None  # of the images that come and are not bare; None: nothing is known of them

    def ingested(self, work: StagePlan) -> None:
        """Takes note of what `ingest` will do."""
        latest = self.store.snapshot("pairs")
        before = sum(map(len, latest.tombstones.values())) if latest is not None else 0
        leave = sum(map(len, (work.tombstones or {}).values())) - before
        self.images = max(work.rows, (latest.rows if latest is not None else 0) + work.rows - leave)
        if latest is None:
            kinds = {(item["split"], item["bare"], bool(item["container"])) for item in new_items(work)}
            if not any(told_when_read for _, _, told_when_read in kinds):
                self.splits = {split for split, bare, _ in kinds if not bare}

    @property
    def captionless(self) -> bool:
        """Whether it is known that there will be images, and none that has a caption or labels."""
        return bool(self.images) and self.splits == set()

    def lacks(self, split: str) -> bool:
        """Whether it is known that no image of ``split`` that has a caption or labels will be there."""
        drawn = {"test", "calibrate"} if "" in (self.splits or ()) else set()
        return bool(split) and self.splits is not None and split not in self.splits | drawn

    def recipe(self, run: StageRun) -> str:
        """The recipe that a stage's outputs will have."""
        recipes = {}
        for alias, artifact in run.stage.inputs.items():
            if artifact not in self.recipes and (snapshot := self.store.snapshot(artifact)) is not None:
                self.recipes[artifact] = snapshot.recipe
            if artifact in self.recipes:
                recipes[alias] = self.recipes[artifact]
        return recipe_of(run.stage, run.settings, recipes)

    def same_recipe(self, run: StageRun, recipe: str) -> bool:
        """Whether the stage's present result was made as it would be made now, from other rows perhaps."""
        latest = self.store.snapshot(run.stage.outputs[0])
        return latest is not None and latest.recipe == recipe and not (run.again.force or run.again.refit)

    def rows_for(self, run: StageRun, recipe: str) -> int:
        """The rows that a stage whose inputs will change has to compute: the new ones alone, where it maps them."""
        stage = run.stage
        whole = self.rows.keys() & set(stage.whole.values())
        if stage.kind == "map" and not whole and self.same_recipe(run, recipe):
            return max(self.rows[artifact] for artifact in stage.aligned.values() if artifact in self.rows)
        return self.images

    def add(self, stage: Stage, rows: int, recipe: str) -> None:
        """The stage will compute ``rows``."""
        self.rows |= dict.fromkeys(stage.outputs, rows)
        self.recipes |= dict.fromkeys(stage.outputs, recipe)


def new_items(work: StagePlan) -> Iterator[dict[str, Any]]:
    """The items of the source that `ingest` will read."""
    for shard in work.shards:
        columns = ["name", "path", "version", "reason", "split", "container"]
        items = shard.tables["items"]
        for item, bare in zip(items.select(columns).to_pylist(), are_bare(items).tolist(), strict=True):
            yield {**item, "bare": bare and bool(item["path"]) and not item["container"]}  # others tell when read


def new_bytes(work: StagePlan) -> int | None:
    """The bytes of the image files that `ingest` will store; None where some are no files before they are read."""
    files = temporary_database("files (path TEXT, version TEXT)")
    for item in new_items(work):
        if item["path"]:
            files.execute("INSERT INTO files VALUES (?, ?)", (item["path"], item["version"]))
        elif not item["reason"]:
            return None
    return sum(size_in(version) for _, version in files.execute("SELECT DISTINCT path, version FROM files"))


def source_note(work: StagePlan) -> str:
    """What is unfit of the rows that come, as far as listing the files tells: without opening an image."""
    reasons: Counter[str] = Counter()
    named: dict[str, list[str]] = {}
    rejects_bare = getattr(work.settings, "bare", "") == "reject"
    bare = 0
    for item in new_items(work):
        reason = item["reason"] or _of_file(item["path"], item["version"] or "")
        if not reason and item["bare"]:
            bare += 1
            reason = "row_without_caption" if rejects_bare else ""
        if reason:
            reasons[reason] += 1
            if reasons[reason] <= MOST_NAMED:
                named.setdefault(reason, []).append(item["name"])
    notes = []
    for reason, count in reasons.most_common():
        shown = ", ".join(named[reason]) + (", .." if count > MOST_NAMED else "")
        notes.append(f"{count:,} {reason} ({shown})")
    budget = getattr(work.settings, "error_budget", 1.0)
    if bare and not rejects_bare:
        notes.append(f"{bare:,} without a caption")
    if reasons.total() > budget * work.rows:
        notes.append(f"more than the error budget of {budget:.0%}: the run would stop there")
    return "; ".join(notes)


def _of_file(path: str, version: str) -> str:
    """Why an image's file cannot be read, by the names that `ingest` gives the reasons; "" where it may be."""
    if path and version.startswith("0-"):
        return "image_empty"
    return "image_missing" if version.startswith("missing") or (path and not os.access(path, os.R_OK)) else ""
