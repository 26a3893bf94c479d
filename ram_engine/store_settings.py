"""The settings of a run of a store: those of a preset, those that were chosen for the store before, or chosen now.

What `auto` chose lies beside the artifacts in ``settings.yaml``, a preset file like any other, so that neither more
data nor another machine changes it unasked, which would compute everything again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ram_engine import configuration
from ram_engine.at_hand import facts_of
from ram_engine.automatic import EFFORTS, Effort, as_yaml, choose, settings_of
from ram_engine.configuration import AUTO, CHOSEN_FOR, ConfigurationError
from storage.addresses import concealed, revealed
from storage.store import Store
from tasks.machine.dag import stages
from tasks.machine.planning import made_with
from tasks.machine.rounds import rounds_of
from tasks.settings.executor import ExecutorSettings
from tasks.settings.ingest import IngestSettings
from tasks.settings.pipeline import PipelineSettings
from tasks.sources.source import Source

FILE = "settings.yaml"
DEFAULT = "sample"  # the preset, and the source
GROWN = 3  # times the pictures that settings were chosen for, from which on a person is told
Tell = Callable[[str], None]


def settle(
    url: str, preset: str, source: Sequence[str], sets: Sequence[str], tell: Tell, keep: bool = False
) -> tuple[PipelineSettings, ExecutorSettings]:
    """The settings for the store at ``url``, with ``source`` and ``sets`` applied.

    Without a ``preset`` they are those that were chosen for the store before; `auto`'s where it has pictures of one's
    own; else the sample's. Without a ``source`` the store's own is meant. ``keep`` writes down what is chosen now.
    Raises :class:`ConfigurationError` with a sentence for a person.
    """
    effort, sets = _effort(sets)
    outside = [one for one in sets if one.startswith(("ingest.", "executor."))]
    plain, executor = configuration.configure({}, source, outside)
    store = Store(url, create=None)
    named = bool(source) or any(one.startswith("ingest.source") for one in outside)
    last = None if named else _last_source(store)
    ingest = plain.ingest if last is None else plain.ingest.model_copy(update={"source": last})
    kept = None if preset else _kept(store)
    if kept is not None and effort in ("", kept.get(CHOSEN_FOR, {}).get("effort")):
        if not named and last is None:
            raise ConfigurationError(f"the store {store.url} holds no pictures yet: name the source, as in {EXAMPLE}")
        values: str | Mapping[str, Any] = kept
        _tell_kept(store, kept, tell)
    elif preset == AUTO or (not preset and (effort or kept is not None or ingest.source.kind_of() != DEFAULT)):
        if not named and last is None:
            raise ConfigurationError(f"{AUTO} chooses settings for pictures of your own: name them, as in {EXAMPLE}")
        values = _chosen(store, ingest, executor, sets, effort or "normal", tell, keep)
    elif effort:
        raise ConfigurationError(f"effort is the dial of the preset {AUTO}, and {preset} has its own settings")
    else:
        values = preset or DEFAULT
    settings, executor = configuration.configure(values, source, sets)
    if last is None or last.kind_of() == DEFAULT or settings.ingest.source.kind_of() != DEFAULT:
        return settings, executor
    tell(f"the source is the one that the store was made from: {_called(last)}")
    return settings.model_copy(update={"ingest": settings.ingest.model_copy(update={"source": last})}), executor


EXAMPLE = "--source csv:captions.csv"


def settings_of_store(url: str, tell: Tell) -> tuple[PipelineSettings, ExecutorSettings]:
    """The settings that a store was made with, stage by stage; of stages that have not run those of its next run."""
    settings, executor = settle(url, "", [], [], tell)
    store = Store(url, create=False)
    rounds = rounds_of(store)
    made = {
        stage.section: made_with(stage, snapshot)
        for stage in reversed(stages(rounds))  # of several rounds the first: the last one's are in part its own
        if stage.section == stage.declared.identifier and (snapshot := store.snapshot(stage.outputs[0])) is not None
    }
    return settings.model_copy(update={**made, "rounds": max(rounds, settings.rounds)}), executor


def _effort(sets: Sequence[str]) -> tuple[Effort | str, list[str]]:
    """The effort that is set, or "", and the other sets."""
    others = [one for one in sets if one.partition("=")[0].strip() != "effort"]
    values = [one.partition("=")[2].strip() for one in sets if one not in others]
    for value in values:
        if value not in EFFORTS:
            raise ConfigurationError(f"effort is {', '.join(EFFORTS[:-1])} or {EFFORTS[-1]}, not '{value}'")
    return (values[-1] if values else ""), others


def _last_source(store: Store) -> Source | None:
    pairs = store.snapshot("pairs")
    if pairs is None or not pairs.settings:
        return None
    ingest: IngestSettings = configuration.checked(IngestSettings, {"source": pairs.settings["source"]}, "ingest.")
    return ingest.source.mapped(revealed)


def _called(source: Source) -> str:
    return " and ".join(":".join(filter(None, [part.kind_of(), concealed(part.place())])) for part in source.sources())


def _place(store: Store) -> str:
    return f"{store.url.rstrip('/')}/{FILE}"


def _kept(store: Store) -> dict[str, Any] | None:
    text = store.read_text(FILE)
    return None if text is None else configuration.parse(text, _place(store))


def _tell_kept(store: Store, kept: Mapping[str, Any], tell: Tell) -> None:
    then = kept.get(CHOSEN_FOR, {})
    tell(f"settings as pinned in {_place(store)} (--preset {AUTO} chooses anew)")
    pairs = store.snapshot("pairs")
    if pairs is not None and then.get("pictures") and pairs.rows >= GROWN * then["pictures"]:
        tell(f"they were chosen for {then['pictures']:,} pictures, and there are {pairs.rows:,} now")


def _chosen(
    store: Store,
    ingest: IngestSettings,
    executor: ExecutorSettings,
    sets: Sequence[str],
    effort: str,
    tell: Tell,
    keep: bool,
) -> dict[str, Any]:
    """What `auto` chooses, told line by line, and written down where it is to be kept."""
    named = [setting for setting in sets if setting.startswith(("train_baseline.annotator", "build_labels.tag_list"))]
    plain = configuration.configure({}, sets=named)[0]
    baseline = plain.train_baseline
    ready = None if baseline.is_trained else baseline.annotator.model_dump(mode="json")
    chosen_effort = next(one for one in EFFORTS if one == effort)
    facts = facts_of(ingest, executor, store, chosen_effort, ready, bool(plain.build_labels.tag_list))
    choices = choose(facts)
    tell(f"settings for {facts}:")
    for choice in choices:
        tell(f"  {choice}")
    if keep:
        store.write_text(FILE, as_yaml(facts, choices))
    told = "are" if keep else "will be, once it runs,"
    tell(f"they {told} pinned in {_place(store)}; change them there, or with --set")
    return settings_of(choices)
