"""What a run of the whole pipeline would compute, with its cost, before anything is started."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from storage.store import DamagedPartError, Store
from tasks.machine import costs, planning
from tasks.machine.dag import stage_named, stages
from tasks.machine.declaration import Stage
from tasks.machine.forthcoming import Forthcoming, new_bytes, source_note
from tasks.machine.planning import PlanError, StagePlan
from tasks.machine.stage_run import Again, StageRun
from tasks.settings.build_labels import NO_CAPTION
from tasks.settings.pipeline import PipelineSettings


@dataclass(frozen=True)
class PlannedStage:
    """A stage's outlook. ``state`` is done, kept, to do (its inputs are there) or waiting (they will change)."""

    stage: Stage
    state: str
    work: StagePlan | None = None  # None where its inputs will change before it runs
    shards: int = 0
    rows: int = 0
    seconds: float = 0.0
    bytes: float = 0.0  # that it will add to the store
    note: str = ""


@dataclass(frozen=True)
class Request:
    """What a run of the pipeline is asked for, by names of stages; empty names ask for nothing.

    ``start`` is the first stage to look at: those before it stay as the store has them. ``until`` is the last one.
    ``force`` is a stage to compute although it is done. Raises ValueError for a name that is no stage's.
    """

    rounds: int = 1
    start: str = ""
    until: str = ""
    force: str = ""
    retry_rejected: bool = False
    refit: bool = False

    def __post_init__(self) -> None:
        for name in filter(None, (self.start, self.until, self.force)):
            stage_named(name, self.rounds)

    def stages(self) -> tuple[Stage, ...]:
        """The stages from ``start`` to ``until``."""
        listed = stages(self.rounds)
        names = [stage.name for stage in listed]
        first = names.index(self.start) if self.start else 0
        last = names.index(self.until) if self.until else len(names) - 1
        return listed[first : last + 1]

    def again(self, stage: Stage) -> Again:
        """What of a stage is to be computed although it is done."""
        return Again(
            force=stage.name == self.force, refit=self.refit and stage.frozen, retry_rejected=self.retry_rejected
        )


def outlook(
    store: Store,
    settings: PipelineSettings,
    request: Request,
    plan: Callable[[StageRun], StagePlan] = planning.plan,
) -> list[PlannedStage]:
    """What a run would compute, with its cost by what this store has measured, else by first guesses.

    ``plan`` plans a stage. Where only some images are new, stages that work image by image count these alone, and
    what is frozen stays. Raises PlanError where a run could not come to its end: there is no tag to learn.
    """
    planned: list[PlannedStage] = []
    pairs = store.snapshot("pairs")
    coming = Forthcoming(store, pairs.rows if pairs else 0)
    paces = costs.paces(store, settings.rounds)
    for stage in request.stages():
        if planning.left_out(store, stage, settings) or coming.lacks(stage.split):
            continue
        if stage.name == "build-labels" and coming.captionless and not settings.build_labels.tag_list:
            raise PlanError(f"build-labels: {NO_CAPTION}")
        run = StageRun(store, stage, stage.settings_of(settings), again=request.again(stage))
        stale = sorted(coming.rows.keys() & set(stage.inputs.values()))
        work = None
        if not stale:
            with contextlib.suppress(PlanError, DamagedPartError):  # the run computes a damaged part again
                work = plan(run)
        recipe = coming.recipe(run) if work is None else work.recipe
        if work is not None and work.kept:
            planned.append(PlannedStage(stage, "kept" if work.note else "done", work, note=work.note))
        elif stale and stage.frozen and coming.same_recipe(run, recipe):
            planned.append(PlannedStage(stage, "kept", note=planning.AS_FITTED))
        else:
            rows = coming.rows_for(run, recipe) if work is None else work.rows
            if work is not None and stage.name == "ingest":
                coming.ingested(work)
            planned.append(_to_compute(run, costs.Pricing(paces, settings.encode), work, rows, stale))
            coming.add(stage, rows, recipe)
    return planned


def _to_compute(
    run: StageRun, pricing: costs.Pricing, work: StagePlan | None, rows: int, stale: list[str]
) -> PlannedStage:
    stage = run.stage
    notes = [f"after {', '.join(stale)}"] if stale else []
    stored: float | None = None
    if work is not None and stage.name == "ingest":
        notes.append(source_note(work))
        stored = new_bytes(work)
    if stored is None:
        stored = pricing.stored_bytes(stage, run.settings, rows)
    if folds := getattr(run.settings, "folds", 0) if stage.model else 0:
        notes.append(f"with {folds} fold models, so that none annotates what it saw: {folds} times the training")
    return PlannedStage(
        stage,
        "waiting" if work is None else "to do",
        work,
        len(work.shards) if work is not None else 0,
        rows,
        pricing.seconds(stage, run.settings, rows),
        stored,
        "; ".join(filter(None, notes)),
    )


def cost(planned: Iterable[PlannedStage]) -> tuple[float, float]:
    """The seconds that a run will take, and the bytes that it will add to the store; the stages' and its own."""
    todo = [one for one in planned if one.state not in ("done", "kept")]
    if not todo:
        return 0.0, 0.0
    return costs.RUN_SECONDS + sum(one.seconds for one in todo), costs.RUN_BYTES + sum(one.bytes for one in todo)
