"""What a run of the whole pipeline would compute, with its cost, before anything is started."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from storage.store import DamagedPartError, Store
from tasks import ingest, planning
from tasks.planning import Again, PlanError, StagePlan
from tasks.settings import IngestSettings, PipelineSettings, Settings
from tasks.stages import Stage, stage_named, stages


@dataclass(frozen=True)
class PlannedStage:
    """A stage's outlook. ``state`` is done, kept, to do (its inputs are there) or waiting (they will change)."""

    stage: Stage
    state: str
    shards: int
    rows: int
    seconds: float
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


def plan(store: Store, stage: Stage, settings: Settings, again: Again = Again()) -> StagePlan:
    """What a stage would compute now. Raises PlanError where an input is missing."""
    if isinstance(settings, IngestSettings):
        return ingest.plan(store, stage, settings, again)
    return planning.plan_stage(store, stage, settings, again)


def outlook(store: Store, settings: PipelineSettings, request: Request) -> list[PlannedStage]:
    """What a run would compute, with seconds from this store's own history or from first guesses."""
    planned: list[PlannedStage] = []
    changed: set[str] = set()
    pairs = store.snapshot("pairs")
    images = pairs.rows if pairs else 0
    for stage in request.stages():
        if planning.left_out(store, stage, settings):
            continue
        chosen = stage.settings_of(settings)
        stale = sorted(changed & set(stage.inputs.values()))
        work = None
        if not stale:
            with contextlib.suppress(PlanError, DamagedPartError):  # the run computes a damaged part again
                work = plan(store, stage, chosen, request.again(stage))
        if work is not None and work.kept:
            planned.append(PlannedStage(stage, "kept" if work.note else "done", 0, 0, 0.0, work.note))
            continue
        rows = images if work is None else work.rows
        shards = 0 if work is None else len(work.shards)
        seconds = planning.estimate(store, stage, chosen, rows)
        notes = [f"after {', '.join(stale)}"] if stale else []
        if folds := getattr(chosen, "folds", 0) if stage.model else 0:
            notes.append(f"with {folds} fold models, so that none annotates what it saw: {folds} times the training")
        state = "to do" if work is not None else "waiting"
        planned.append(PlannedStage(stage, state, shards, rows, seconds, "; ".join(notes)))
        changed |= set(stage.outputs)
        if stage.name == "ingest":
            images += work.rows if work else 0
    return planned
