"""What a refresh needs to know: how a store was made, how much of it is new, and whether a new model is good enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pyarrow.compute as pc

from storage.store import Snapshot, Store
from tasks.planning import PlanError
from tasks.settings import MOST_ROUNDS, PipelineSettings, Settings
from tasks.stages import Stage, of_round, stages

FINAL_ROWS = ("fine_tuned", "cleaning")  # of `metrics`: the model that a store's users get, the first that is there
UNDECIDED = "a candidate"


@dataclass(frozen=True)
class Made:
    """How a store was made last: its rounds, and the settings of each stage that was run, by the stage's name."""

    rounds: int
    settings: Mapping[str, Settings]

    def stages(self) -> list[Stage]:
        """The stages that were run, in their order."""
        return [stage for stage in stages(self.rounds) if stage.name in self.settings]


def made(store: Store) -> Made:
    """Raises :class:`PlanError` where no pipeline has run to its retrained model in this store."""
    rounds = max((n for n in range(1, MOST_ROUNDS + 1) if store.snapshot(of_round("ram", n)) is not None), default=0)
    if not rounds:
        raise PlanError(
            f"the store {store.url} holds no retrained model yet, so there is nothing to refresh: run the pipeline "
            "(ram-data-engine) first"
        )
    usual = PipelineSettings()
    found: dict[str, Settings] = {}
    for stage in stages(rounds):
        snapshot = store.snapshot(stage.outputs[0])
        if snapshot is not None:
            found[stage.name] = type(stage.settings_of(usual)).model_validate(snapshot.settings)
    return Made(rounds, found)


def changed_images(store: Store, model: Snapshot) -> int:
    """Images that came or left since ``model`` was trained."""
    name, _, key = model.inputs["pairs"].partition("@")
    then, now = store.snapshot(name, key), store.snapshot(name)
    if then is None or now is None:
        raise PlanError(f"the store {store.url} lacks the pairs that its model was trained on: run the pipeline")
    known = {part.partition for part in then.parts}
    came = sum(part.rows - len(now.gone(part.partition)) for part in now.parts if part.partition not in known)
    left = sum(len(set(now.gone(part.partition)) - set(then.gone(part.partition))) for part in then.parts)
    return came + left


def newest(store: Store, artifact: str) -> Snapshot:
    """The snapshot that was made last, be it the latest or held back."""
    return store.snapshots(artifact)[0]


def final_map(store: Store, metrics: Snapshot) -> float:
    """The mAP over all tags of the model that a store's users get, between 0 and 1."""
    table = store.table(metrics)
    overall = table.filter(pc.field("tag").is_null() & (pc.field("metric") == "mAP") & (pc.field("subset") == "all"))
    values = dict(zip(overall["model"].to_pylist(), overall["value"].to_pylist(), strict=True))
    for row in FINAL_ROWS:
        if row in values:
            return float(values[row])
    raise PlanError(f"the metrics {metrics.key} hold no mAP of the retrained model")


def promote(store: Store, snapshots: list[Snapshot]) -> None:
    """Makes candidates the latest; the models come last, so that no reader finds one without its logs."""
    for snapshot in sorted(snapshots, key=lambda one: bool(one.model)):
        store.publish(replace(snapshot, held_back=""))


def hold_back(store: Store, snapshots: list[Snapshot], reason: str) -> None:
    """Writes down why candidates did not become the latest."""
    for snapshot in snapshots:
        store.publish(replace(snapshot, held_back=reason))
