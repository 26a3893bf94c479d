"""What a refresh needs to know: how a store was made, how much of it is new, and whether a new model is good enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pyarrow.compute as pc

from storage.store import Snapshot, Store
from tasks.evaluation.rows import FINAL
from tasks.machine.dag import stages
from tasks.machine.declaration import Stage
from tasks.machine.inputs import Inputs
from tasks.machine.planning import PlanError, made_with
from tasks.machine.rounds import last_round
from tasks.settings.base import Settings

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
    rounds = last_round(store, "ram")
    if not rounds:
        raise PlanError(
            f"the store {store.url} holds no retrained model yet, so there is nothing to refresh: run the pipeline "
            "(ram-data-engine) first"
        )
    found: dict[str, Settings] = {}
    for stage in stages(rounds):
        snapshot = store.snapshot(stage.outputs[0])
        if snapshot is not None:
            found[stage.name] = made_with(stage, snapshot)
    return Made(rounds, found)


@dataclass(frozen=True)
class Change:
    """What is new since a model was trained: ``images`` that came, left or changed, and others that were ``relabelled``
    since, by decisions of a person or by another annotator."""

    images: int
    relabelled: int

    def __str__(self) -> str:
        said = [f"{self.images:,} came, left or changed"] if self.images else []
        said += [f"{self.relabelled:,} with other tags"] if self.relabelled else []
        return f"images: {', '.join(said)}" if said else "nothing is new"


def change_since(store: Store, model: Snapshot) -> Change:
    """What is new since ``model`` was trained. Raises :class:`PlanError` where what it was trained on is not there."""
    images = _differing(store, _then_and_now(store, model, "pairs"), "SELECT image_id, fingerprints FROM {name}")
    labels = _then_and_now(store, model, "label_system")
    taught = """
        SELECT image_id, name, type, kept, target FROM {name} JOIN {name}_labels USING (tag_id) WHERE active
    """
    tags = _differing(store, _then_and_now(store, model, "tag_verdicts"), taught, labels)
    return Change(len(images), len(tags - images))


def _then_and_now(store: Store, model: Snapshot, alias: str) -> tuple[Snapshot, Snapshot]:
    name = model.inputs[alias].artifact
    then, now = store.snapshot(name, model.inputs[alias].key), store.snapshot(name)
    if then is None or now is None:
        raise PlanError(f"the store {store.url} lacks the {name} that its model was trained on: run the pipeline")
    return then, now


def _differing(
    store: Store, both: tuple[Snapshot, Snapshot], rows: str, labels: tuple[Snapshot, Snapshot] | None = None
) -> set[str]:
    """The images whose ``rows`` (a query) are others in the second snapshot than in the first."""
    known = [{(part.partition, part.digest, *one.gone(part.partition)) for part in one.parts} for one in both]
    same = known[0] & known[1] if labels is None or labels[0].digest == labels[1].digest else set()
    snapshots = {}
    for name, one in zip(("before", "after"), both, strict=True):
        parts = (part for part in one.parts if (part.partition, part.digest, *one.gone(part.partition)) not in same)
        snapshots[name] = replace(one, parts=tuple(parts))
    if labels is not None:
        snapshots |= {"before_labels": labels[0], "after_labels": labels[1]}
    before, after = (f"({rows.format(name=name)})" for name in ("before", "after"))
    found = Inputs(store, snapshots).sql(
        f"SELECT DISTINCT image_id FROM (({before} EXCEPT {after}) UNION ALL ({after} EXCEPT {before}))"
    )
    return set(found["image_id"].to_pylist())


def newest(store: Store, artifact: str) -> Snapshot:
    """The snapshot that was made last, be it the latest or held back."""
    return store.snapshots(artifact)[0]


def final_map(store: Store, metrics: Snapshot) -> float:
    """The mAP over all tags of the model that a store's users get, between 0 and 1."""
    table = store.table(metrics)
    overall = table.filter(pc.field("tag").is_null() & (pc.field("metric") == "mAP") & (pc.field("subset") == "all"))
    values = dict(zip(overall["model"].to_pylist(), overall["value"].to_pylist(), strict=True))
    for row in FINAL:
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
