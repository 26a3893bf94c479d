"""What a stage would compute: keys compared with what the store holds, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from pydantic import ValidationError

from storage.bare import TOLD_BY, are_bare
from storage.keys import digest, digest_file
from storage.names import SnapshotName, first_round_name
from storage.store import DamagedPartError, Part, Snapshot, Store
from tasks.machine.dag import MOST_ROUNDS, stages
from tasks.machine.declaration import Stage
from tasks.machine.stage_run import StageRun
from tasks.machine.worker import Shard
from tasks.settings.base import Settings
from tasks.settings.pipeline import PipelineSettings
from tasks.sources.item import file_version

NOT_READ = "none"  # in place of a key: an optional input is not to be read
AS_FITTED = "kept as it was fitted, although its inputs changed since (--refit makes it again)"

_splits: dict[tuple[str, str, str], bool] = {}  # by store, snapshot of pairs and split: whether there are some


class PlanError(RuntimeError):
    """A stage cannot be planned: an input is missing; the message says which stage makes it."""


class StageFailedError(RuntimeError):
    """A stage could not be finished; what it had done stays in the store."""


@dataclass(frozen=True)
class StagePlan:
    """A stage's work: the ``shards`` to compute, the parts that are ``done``, and the snapshot that will hold both.

    ``kept``: the snapshot ``key`` already answers, there is nothing to do. ``note`` says why something is reused
    although its inputs grew, or is not taken although it is there.
    """

    run: StageRun
    snapshots: Mapping[str, Snapshot]
    key: str
    recipe: str
    shards: tuple[Shard, ...] = ()
    done: Mapping[str, tuple[Part, ...]] | None = None  # by artifact
    tombstones: Mapping[str, list[str]] | None = None
    kept: bool = False
    note: str = ""
    made_from: Mapping[str, str] = field(default_factory=dict)  # see :func:`origins`

    @property
    def stage(self) -> Stage:
        return self.run.stage

    @property
    def settings(self) -> Settings:
        return self.run.settings

    @property
    def rows(self) -> int:
        """Input rows still to be computed."""
        return sum(shard.rows for shard in self.shards)

    def holds(self, run: StageRun) -> bool:
        """Whether it is a plan of the same run, and what it was made from is still what the store holds."""
        if (run.stage, run.settings, run.again) != (self.stage, self.settings, self.run.again) or run.again.inputs:
            return False
        reused = (self.done or {}).items()  # garbage is collected while earlier stages of a run compute
        if not all({part.key for part in parts} <= run.store.parts_present(artifact) for artifact, parts in reused):
            return False
        return origins(run) == self.made_from


def plan(run: StageRun) -> StagePlan:
    """What a stage would compute now. Linear in the number of parts.

    The work of a stage that reads no artifact comes from elsewhere: its own code plans it. Raises :class:`PlanError`
    where an input is missing.
    """
    made_from = origins(run)
    if not run.stage.inputs:
        planned: StagePlan = run.stage.code().plan(run)
    else:
        planned = _plan_inputs(run)
    return replace(planned, made_from=made_from)


def origins(run: StageRun) -> dict[str, str]:
    """What a plan is made from: the keys of the latest snapshots of a stage's inputs by alias, that of its own result
    under the name "", and the versions of the files that its settings name."""
    artifacts = {**run.stage.inputs, "": run.stage.outputs[0]}
    keys = {alias: run.store.latest_key(artifact) for alias, artifact in artifacts.items()}
    return keys | {f"file {path}": file_version(Path(path)) for path in run.settings.files()}


def _plan_inputs(run: StageRun) -> StagePlan:
    stage, again = run.stage, run.again
    snapshots = gather(run)
    if stage.kind == "training" and not again.warm_start:
        snapshots = {alias: snapshot for alias, snapshot in snapshots.items() if alias not in stage.carried}
    recipe = recipe_of(stage, run.settings, {alias: snapshot.recipe for alias, snapshot in snapshots.items()})
    drafted = StagePlan(run, snapshots, key="", recipe=recipe)
    if (fitted := _as_fitted(drafted)) is not None:
        return fitted
    if stage.kind == "map":
        return _plan_map(drafted)
    key = _whole_key(stage, run.settings, snapshots)
    if not again.force and complete(run, key):
        return replace(drafted, key=key, kept=True, note=held_back(run, key))
    rows = max((snapshot.rows for snapshot in snapshots.values()), default=0)
    if "pairs" in snapshots:
        rows = snapshots["pairs"].rows
    return replace(drafted, key=key, shards=(Shard(key=key, partition="", rows=rows, replace=again.force),), done={})


def gather(run: StageRun) -> dict[str, Snapshot]:
    """The snapshots that the run names (``artifact@key``, the key's beginning will do), else the latest of each input.

    Raises :class:`PlanError` where one that is needed is missing.
    """
    store, stage = run.store, run.stage
    chosen = {name.artifact: _chosen(run, name) for name in map(SnapshotName.parse, run.again.inputs)}
    snapshots: dict[str, Snapshot] = {}
    for alias, artifact in stage.inputs.items():
        latest = _latest_whole if alias in stage.carried else Store.snapshot
        snapshot = chosen[artifact] if artifact in chosen else latest(store, artifact)
        if snapshot is not None:
            snapshots[alias] = snapshot
        elif alias not in stage.optional:
            maker = next((other.name for other in stages(MOST_ROUNDS) if artifact in other.outputs), "")
            raise PlanError(
                f"{stage.name} needs '{artifact}', which the store {store.url} does not hold yet: run the stage "
                f"{maker} before it, or the whole pipeline"
            )
    return snapshots


def _latest_whole(store: Store, artifact: str) -> Snapshot | None:
    """The latest snapshot, or where files of it are gone, since they were damaged, the newest that has all of its own.

    A stage that goes on from its own result would wait for it for ever.
    """
    latest = store.snapshot(artifact)
    newest_first = [latest, *store.snapshots(artifact)] if latest is not None else []
    return next(filter(store.is_whole, newest_first), None)


def _chosen(run: StageRun, name: SnapshotName) -> Snapshot | None:
    read = sorted(run.stage.inputs.values())
    if name.artifact not in read:
        raise PlanError(f"{run.stage.name} does not read '{name.artifact}'; it reads {', '.join(read)}")
    return None if name.key == NOT_READ else snapshot_named(run.store, name)


def snapshot_named(store: Store, name: SnapshotName) -> Snapshot:
    """The one snapshot whose key begins as ``name`` says. Raises :class:`PlanError` where there is none, or several."""
    all_ = store.snapshots(name.artifact)
    fitting = [snapshot for snapshot in all_ if snapshot.key.startswith(name.key)]
    if len(fitting) != 1:
        there = ", ".join(snapshot.key for snapshot in all_) or "none"
        raise PlanError(f"{name} names {'several snapshots' if fitting else 'no snapshot'}; there are: {there}")
    return fitting[0]


def _as_fitted(drafted: StagePlan) -> StagePlan | None:
    """The plan that keeps a frozen stage's result; None where it is to be made, or made again."""
    run, stage, again = drafted.run, drafted.stage, drafted.run.again
    latest = run.store.snapshot(stage.outputs[0])
    if not stage.frozen or again.force or again.refit or again.inputs:
        return None
    if latest is None or latest.recipe != drafted.recipe or not complete(run, latest.key):
        return None  # a damaged or deleted result is no result
    changed = latest.key != _whole_key(stage, run.settings, drafted.snapshots)
    return replace(drafted, key=latest.key, kept=True, note=AS_FITTED if changed else "")


def held_back(run: StageRun, key: str) -> str:
    """Why the snapshot ``key`` of a stage is not to become the latest; "" where nothing speaks against it."""
    snapshot = run.store.snapshot(run.stage.outputs[0], key)
    return "" if snapshot is None else snapshot.held_back


def finish_plan(plan: StagePlan, shards: list[Shard], retry_rejected: bool = False) -> StagePlan:
    """Sorts ``shards`` into those whose parts are in the store and those to compute, and finds the snapshot's key."""
    store, stage, force = plan.run.store, plan.stage, plan.run.again.force
    key = digest([plan.stage.name, sorted((shard.partition, shard.key) for shard in shards), plan.tombstones])
    present = {artifact: store.parts_present(artifact) for artifact in stage.writes}
    known = {artifact: _known_parts(store, artifact) for artifact in stage.writes}
    retried = _with_rejected_rows(known) if retry_rejected else set()
    if not (force or retried) and complete(plan.run, key):
        return replace(plan, key=key, kept=True)
    done: dict[str, list[Part]] = {artifact: [] for artifact in stage.writes}
    todo = []
    for shard in shards:
        asked = force or shard.key in retried
        found = {} if asked else _find(store, shard, known, present)
        if len(found) == len(stage.writes):
            for artifact, part in found.items():
                done[artifact].append(part)
        else:
            todo.append(replace(shard, replace=asked))
    return replace(plan, key=key, shards=tuple(todo), done={artifact: tuple(parts) for artifact, parts in done.items()})


def complete(run: StageRun, key: str) -> bool:
    """Whether every output of the run's stage has the snapshot ``key`` with all of its files."""
    snapshots = [run.store.snapshot(artifact, key) for artifact in run.stage.outputs]
    return all(snapshot is not None and run.store.is_whole(snapshot) for snapshot in snapshots)


def _with_rejected_rows(known: Mapping[str, Mapping[str, Part]]) -> set[str]:
    return {
        part.key
        for artifact, parts in known.items()
        if first_round_name(artifact).endswith("_rejected")
        for part in parts.values()
        if part.rows
    }


def _plan_map(plan: StagePlan) -> StagePlan:
    stage = plan.stage
    pinned = {alias: plan.snapshots[alias].digest for alias in stage.whole if alias in plan.snapshots}
    parts = {
        alias: {part.partition: part for part in plan.snapshots[alias].parts}
        for alias in stage.aligned
        if alias in plan.snapshots
    }
    base = [*stage.made_by, _dumped(plan.settings), pinned]
    first = next(iter(stage.aligned))
    shards = []
    for part in plan.snapshots[first].parts:
        aligned = {alias: parts[alias][part.partition] for alias in parts if part.partition in parts[alias]}
        key = digest([*base, {alias: one.digest for alias, one in aligned.items()}])
        inputs = {alias: (plan.snapshots[alias].artifact, one) for alias, one in aligned.items()}
        shards.append(Shard(key=key, partition=part.partition, parts=inputs, rows=plan.snapshots[first].rows_in(part)))
    tombstones = plan.snapshots[first].tombstones
    return finish_plan(replace(plan, tombstones=tombstones), shards, plan.run.again.retry_rejected)


def _find(
    store: Store, shard: Shard, known: Mapping[str, Mapping[str, Part]], present: Mapping[str, Set[str]]
) -> dict[str, Part]:
    """The shard's parts: of those that are ``present`` only such are opened as no snapshot told of."""
    found = {}
    for artifact, parts in known.items():
        part = parts.get(shard.key)
        if part is None and shard.key in present[artifact]:
            part = store.find_part(artifact, shard.key, shard.partition)
        if part is not None:
            found[artifact] = part
    return found


def _known_parts(store: Store, artifact: str) -> dict[str, Part]:
    """The latest snapshot's parts whose files are there, by key: their digests need not be taken again."""
    latest = store.snapshot(artifact)
    return {part.key: part for part in store.whole_parts(latest)} if latest is not None else {}


def _whole_key(stage: Stage, settings: Settings, snapshots: Mapping[str, Snapshot]) -> str:
    digests = {alias: snapshot.digest for alias, snapshot in snapshots.items() if alias not in stage.carried}
    return digest([*stage.made_by, _dumped(settings), digests])


def recipe_of(stage: Stage, settings: Settings, recipes: Mapping[str, str]) -> str:
    """The recipe of what a stage makes from inputs of these ``recipes`` (by alias)."""
    read = {alias: recipe for alias, recipe in recipes.items() if alias not in stage.carried}
    return digest([*stage.made_by, _dumped(settings), read])


def _dumped(settings: Settings) -> list[Any]:
    """The settings that change results, and names and digests of the files that they name."""
    files = []
    for path in settings.files():
        try:
            files.append([Path(path).name, digest_file(Path(path))])
        except OSError as error:
            raise PlanError(f"the settings name the file {path}, which cannot be read: {error.strerror}") from error
    return [settings.identity(), files]


def point_to(plan: StagePlan) -> dict[str, int]:
    """Makes the snapshots that already answer the latest ones, unless they are held back; returns the rows of each."""
    store, rows = plan.run.store, {}
    plan_held_back = held_back(plan.run, plan.key)
    for artifact in plan.stage.outputs:
        snapshot = store.snapshot(artifact, plan.key)
        if snapshot is None:
            raise PlanError(f"{artifact}: the snapshot {plan.key} vanished while it was read; run again")
        latest = store.snapshot(artifact)
        if not plan_held_back and (latest is None or latest.key != snapshot.key):
            store.point_to(snapshot)
        if not snapshot.model:
            rows[artifact] = snapshot.rows
    return rows


def changed_inputs(latest: Mapping[str, Snapshot], artifact: str) -> list[str]:
    """The inputs of an artifact's latest snapshot that have changed since, by the names that its code uses."""
    return [
        alias
        for alias, read in latest[artifact].inputs.items()
        if read.artifact != artifact  # itself: what it went on from
        and read.artifact in latest
        and latest[read.artifact].key != read.key
    ]


def made_with(stage: Stage, snapshot: Snapshot) -> Settings:
    """The settings that a stage made ``snapshot`` with. Raises :class:`PlanError` where they are not known here."""
    try:
        return type(stage.declared.usual).model_validate(snapshot.settings)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise PlanError(
            f"the settings that {stage.name} made {snapshot.name} with are not known here ({where}: {problem['msg']}): "
            "install the package that brought them, or run the stage with others"
        ) from error


def standing(latest: Mapping[str, Snapshot]) -> dict[str, str]:
    """By artifact what a person should know of it: that it is stale, or stays as it is although its inputs changed."""
    makers = {artifact: stage for stage in stages(MOST_ROUNDS) for artifact in stage.outputs}
    changed = {artifact: changed_inputs(latest, artifact) for artifact in latest}
    fitted = {artifact for artifact in latest if artifact in makers and _stays(makers[artifact], artifact, latest)}
    behind = _behind(latest, changed, fitted)
    told = {}
    for artifact in latest:
        stage, names = makers.get(artifact), _listed(changed[artifact])
        if names and artifact in fitted:
            told[artifact] = f"stays as it was fitted, before {names} changed (--refit fits it anew)"
        elif names and stage is not None and (stage.kind == "training" or stage.name == "evaluate"):
            told[artifact] = f"from before {names} changed: a run renews it, and a refresh that trains"
        elif names:
            told[artifact] = f"stale: {names} changed"
        elif behind[artifact]:
            told[artifact] = f"stale after {_listed(behind[artifact])}"
    return told


def _listed(artifacts: list[str]) -> str:
    """Two of them by name, and how many more: a model is made from ten, and the sentence has one line."""
    more = len(artifacts) - 2
    return ", ".join(artifacts[:2]) + (f" and {more} more" if more > 0 else "")


def _stays(stage: Stage, artifact: str, latest: Mapping[str, Snapshot]) -> bool:
    """Whether a run keeps the artifact of a frozen stage whatever data came, with the settings that made it."""
    recipes = {alias: latest[name].recipe for alias, name in stage.inputs.items() if name in latest}
    with suppress(PlanError):
        settings = made_with(stage, latest[artifact])
        return stage.frozen and latest[artifact].recipe == recipe_of(stage, settings, recipes)
    return False


def _behind(
    latest: Mapping[str, Snapshot], changed: Mapping[str, Sequence[str]], fitted: Set[str]
) -> dict[str, list[str]]:
    """By artifact those that it was made from, directly or not, whose own inputs ``changed``; not behind ``fitted``."""

    def stale(artifact: str) -> set[str]:
        if artifact in fitted:
            return set()
        sources = {read.artifact for read in latest[artifact].inputs.values()} & set(latest) - {artifact}
        return {name for name in sources - fitted if changed[name]} | {one for name in sources for one in stale(name)}

    return {artifact: sorted(stale(artifact)) for artifact in latest}


def left_out(store: Store, stage: Stage, settings: PipelineSettings) -> str:
    """Why a run has no use for the stage; empty: it has, or that is not known yet."""
    if stage.model == "ablation" and not settings.evaluate.ablation:
        return "evaluate.ablation is off"
    pairs = store.snapshot("pairs")
    if not stage.split or pairs is None:
        return ""
    asked = (store.url, pairs.key, stage.split)
    if asked not in _splits:  # a plan asks more than once, and where there are none each part is read for it
        try:
            _splits[asked] = any(_tells(store, pairs, part, stage.split) for part in pairs.parts)
        except DamagedPartError:  # nothing is known before the run has computed it again
            return ""
    return "" if _splits[asked] else f"no picture that has a caption or labels is of the split '{stage.split}'"


def _tells(store: Store, pairs: Snapshot, part: Part, split: str) -> bool:
    """Whether a picture of the split is in this part that is not bare; captions are read only where the split is."""
    if split not in store.rows_of(pairs, part, ["split"])["split"].unique().to_pylist():
        return False
    rows = store.rows_of(pairs, part, ["split", *TOLD_BY])
    return bool((pc.equal(rows["split"], split).to_numpy() & ~are_bare(rows)).any())
