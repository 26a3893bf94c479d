"""`ram-engine labels`: the label system as a spreadsheet and back, what it covers, what changed."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Annotated

import typer

from flows.terminal import Terminal
from ram_engine.options import StoreOption, default_store
from storage.keys import digest
from storage.store import Snapshot, Store, StoreError
from tasks.labels import edits, rules, sheet
from tasks.labels.counts import Word, count_words
from tasks.labels.coverage import coverage as covered_by
from tasks.labels.diff import diff as changes_between
from tasks.labels.lookup import recount
from tasks.labels.synonyms import propose
from tasks.labels.tags import Tag, read_tags, tags_table
from tasks.machine import planning
from tasks.machine.dag import stage_named
from tasks.machine.inputs import Inputs
from tasks.machine.stage_run import StageRun
from tasks.settings.build_labels import BuildLabelsSettings

SHOWN_EVIDENCE = 5  # the surest proposals of a tag

# The captions of the lowest image ids: as good as drawn by lot, and the same every time.
EXAMPLES = """
    SELECT tag_id, min_by(caption, image_id, 3) AS captions
    FROM (
        SELECT UNNEST(t.tag_ids) AS tag_id, p.captions[t.caption_index + 1] AS caption, t.image_id
        FROM caption_tags AS t JOIN pairs AS p ON t.image_id = p.image_id
        WHERE t.caption_index >= 0  -- below: tags that the source gives the image, and no caption
    )
    GROUP BY tag_id
"""

app = typer.Typer(help="Curate the label system by hand.", no_args_is_help=True)
console = Terminal()
DEFAULT_STORE = default_store()


@app.command("export")
def export_sheet(
    file: Annotated[Path, typer.Argument(help="The CSV to write.")], store: StoreOption = DEFAULT_STORE
) -> None:
    """Write the label system as a spreadsheet: frequency, type, captions, proposed merges with their evidence."""
    opened = Store(store, create=False)
    version = _version(opened)
    tags = read_tags(opened.table(version))
    # Spreadsheets take a file for UTF-8 only when it begins with this mark.
    text = sheet.write(tags, _evidence(tags, _settings(version)), _examples(opened))
    file.write_text(text, encoding="utf-8-sig", newline="")
    console.print(f"{file}: {sum(not tag.retired for tag in tags):,} tags of version {version.key[:8]}")


@app.command("import")
def import_sheet(
    file: Annotated[Path | None, typer.Argument(help="The edited CSV; none: only --rules.")] = None,
    rule_file: Annotated[Path | None, typer.Option("--rules", help="A rule file, applied after the CSV.")] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Check an edited spreadsheet or a rule file, and make a new version of the label system."""
    if file is None and rule_file is None:
        raise ValueError("name a spreadsheet, or a rule file with --rules")
    opened = Store(store, create=False)
    version = _version(opened)
    tags = read_tags(opened.table(version))
    rows = sheet.rows_of(tags) if file is None else sheet.read(_text(file))
    if rule_file is not None:
        rows, touched = rules.apply(rows, rules.read(_text(rule_file)))
        for rule, count in touched.items():
            console.print(f"rule {rule}: {count:,} {'row' if count == 1 else 'rows'}")
    changes = sheet.compare(tags, rows, _known_to_models(opened))
    if not changes:
        console.print("nothing changed")
        return
    after = publish(opened, version, changes)
    counted = Counter(change.what for change in changes_between(tags, read_tags(opened.table(after))))
    summary = ", ".join(f"{count:,} {what}" for what, count in sorted(counted.items()))
    console.print(f"version {after.key[:8]} follows {version.key[:8]}: {summary}")
    for note in _homeless(tags, changes, read_tags(opened.table(after))):
        console.print(note)


@app.command()
def diff(
    before: Annotated[str, typer.Argument(help="A version, by the first letters of its key.")],
    after: Annotated[str, typer.Argument(help="Another version; none: the latest.")] = "",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Say what changed between two versions."""
    opened = Store(store, create=False)
    old, new = (read_tags(opened.table(_version(opened, key))) for key in (before, after))
    changes = changes_between(old, new)
    for change in changes:
        console.print(str(change))
    counted = Counter(change.what for change in changes)
    console.print(", ".join(f"{count:,} {what}" for what, count in sorted(counted.items())) or "nothing changed")


@app.command()
def coverage(
    lists: Annotated[list[Path], typer.Argument(help="Lists of categories, one a line.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Say which categories of a list the label system covers, through which synonym, and which it lacks."""
    opened = Store(store, create=False)
    version = _version(opened)
    tags, settings = read_tags(opened.table(version)), _settings(version)
    for path in lists:
        categories = [line.strip() for line in _text(path).splitlines() if line.strip()]
        found = covered_by(tags, categories, settings.merge_bar, settings.wordnet)
        for one in found:
            console.print(str(one))
        counted = Counter(one.how for one in found)
        missing = counted["near"] + counted["missing"]
        console.print(
            f"{path}: {len(found) - missing} of {len(found)} covered, {counted['name']} by name and "
            f"{counted['synonym']} through a synonym; {missing} missing"
        )


def publish(store: Store, version: Snapshot, changes: list[edits.Edit]) -> Snapshot:
    """Keeps ``changes`` for every rebuild to come, and makes the version of the label system that has them."""
    earlier = store.snapshot("label_edits")
    kept = edits.combine([] if earlier is None else edits.read_table(store.table(earlier)), changes)
    table = edits.table_of(kept)
    key = digest(["label_edits", table.to_pylist()])
    part = store.write_part("label_edits", key, "", table)
    store.publish(Snapshot("label_edits", key, stage="labels import", recipe=key, parts=(part,)))

    tags = edits.apply(read_tags(store.table(version)), changes)
    phrases = store.snapshot("phrases")
    if phrases is not None:
        tags = recount(tags, count_words(Inputs(store, {"phrases": phrases})))
    # With the recipe that build-labels has from now on, a run takes this version for its own and keeps it.
    build_labels = planning.plan(StageRun(store, stage_named("build-labels"), _settings(version)))
    key = digest(["label_system", version.key, key])
    part = store.write_part("label_system", key, "", tags_table(tags))
    made = Snapshot(
        "label_system",
        key,
        stage="labels import",
        recipe=build_labels.recipe,
        parts=(part,),
        settings=version.settings,
        inputs={alias: snapshot.name for alias, snapshot in build_labels.snapshots.items()},
        stage_version=build_labels.stage.version,
    )
    return store.publish(made)


def _version(store: Store, key: str = "") -> Snapshot:
    """The version whose key begins with ``key``, the latest without one."""
    if not key:
        latest = store.snapshot("label_system")
        if latest is None:
            raise StoreError(f"{store.url} has no label system yet: `ram-engine run --until build-labels` makes one")
        return latest
    versions = store.snapshots("label_system")
    found = [version for version in versions if version.key.startswith(key)]
    if len(found) != 1:
        known = ", ".join(version.key[:8] for version in versions) or "none"
        raise StoreError(f"'{key}' names {len(found)} versions of the label system; there are, newest first: {known}")
    return found[0]


def _settings(version: Snapshot) -> BuildLabelsSettings:
    return BuildLabelsSettings(**version.settings)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text: save it as 'CSV UTF-8'") from None


def _evidence(tags: list[Tag], settings: BuildLabelsSettings) -> dict[int, list[str]]:
    """For each tag the words that may mean the same, those that it has already marked as merged."""
    tags = [tag for tag in tags if not tag.retired]
    owners = {(word, tag.type): tag for tag in tags for word in tag.words}
    words = [Word(word, type_, tag.count if word == tag.name else 0) for (word, type_), tag in owners.items()]
    found: dict[int, list[str]] = defaultdict(list)
    for proposal in propose(words, wordnet=settings.wordnet):
        tag, other = owners[proposal.name, proposal.type], owners[proposal.word, proposal.type]
        if proposal.name == tag.name and len(found[tag.tag_id]) < SHOWN_EVIDENCE:
            found[tag.tag_id].append(f"{proposal}{' merged' if tag is other else ''}")
    return found


def _examples(store: Store) -> dict[int, list[str]]:
    """Captions that name each tag, as far as the store has them."""
    snapshots = {name: store.snapshot(name) for name in ("caption_tags", "pairs")}
    present = {name: snapshot for name, snapshot in snapshots.items() if snapshot is not None}
    if len(present) < len(snapshots):
        return {}
    rows = Inputs(store, present).sql(EXAMPLES).to_pylist()
    return {row["tag_id"]: row["captions"] for row in rows}


def _known_to_models(store: Store) -> dict[str, set[str]]:
    """The names of the tags that each model of the store has learnt."""
    known = {}
    for artifact in store.artifacts():
        snapshot = store.snapshot(artifact)
        if snapshot is not None and snapshot.model:
            files = store.model_folder(snapshot).rglob("labels.json")
            known[artifact] = {label["name"] for file in files for label in json.loads(file.read_text("utf-8"))}
    return known


def _homeless(before: list[Tag], changes: list[edits.Edit], after: list[Tag]) -> list[str]:
    """A note for each synonym that was taken out and is no tag of its own now."""
    names = {tag.tag_id: tag.name for tag in before}
    words = {(word, tag.type) for tag in after if not tag.retired for word in tag.words}
    types = {tag.tag_id: tag.type for tag in after}
    return [
        f"'{word}' left tag {edit.tag_id} '{names.get(edit.tag_id, '')}' and belongs to no tag now; "
        "a row for it, without a tag_id, makes it one"
        for edit in changes
        for word in edit.synonyms_dropped
        if (word, types[edit.tag_id]) not in words
    ]
