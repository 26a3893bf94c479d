"""From a preset, `--source` and `--set` to checked settings; mistakes name the nearest right word."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import fsspec
import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from tasks.settings.base import Settings
from tasks.settings.executor import ExecutorSettings
from tasks.settings.pipeline import PipelineSettings
from tasks.settings.rooms import Member, Room, RoomError, from_text, nearest, unknown
from tasks.sources.room import SOURCES

AUTO = "auto"
CHOSEN_FOR = "chosen_for"  # in a preset file: what `auto` chose its settings for


class ConfigurationError(ValueError):
    """A preset, a source or a setting that is not there, or a value that does not fit."""


def preset_names() -> list[str]:
    """The presets that come with the package, beside `auto`, which is chosen for a store."""
    folder = resources.files("ram_engine").joinpath("presets")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def read_preset(preset: str) -> dict[str, Any]:
    """The settings of a preset by its name, or of a YAML file by its path or URL."""
    if preset in preset_names():
        return parse(resources.files("ram_engine").joinpath(f"presets/{preset}.yaml").read_text("utf-8"), preset)
    if not preset.endswith((".yaml", ".yml")):
        names = [AUTO, *preset_names()]
        raise ConfigurationError(f"{unknown(preset, names, 'preset')}, or name a YAML file")
    try:
        with fsspec.open(preset, encoding="utf-8", mode="rt") as file:
            return parse(file.read(), preset)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the preset {preset} cannot be read: {error}") from error


def parse(text: str, name: str) -> dict[str, Any]:
    """The settings in the YAML ``text`` of the file ``name``."""
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{name} is no YAML: {error}") from error
    if not isinstance(values, dict) or not all(isinstance(values[name], dict) for name in {*values} - {"rounds"}):
        raise ConfigurationError(f"{name} should have settings by their sections, as in `judge: {{doubt: 0.1}}`")
    return values


def configure(
    preset: str | Mapping[str, Any], source: str | Sequence[str] = (), sets: Sequence[str] = ()
) -> tuple[PipelineSettings, ExecutorSettings]:
    """The settings of a preset with ``source`` (``csv:captions.csv``, or several) and ``sets`` (``a.b=c``) applied.

    ``preset`` is a name, a YAML file, or what such a file holds; `auto` is chosen by
    :func:`ram_engine.store_settings.settle`. Raises :class:`ConfigurationError` with a sentence for a person.
    """
    values: dict[str, Any] = read_preset(preset) if isinstance(preset, str) else copy.deepcopy(dict(preset))
    values.pop(CHOSEN_FOR, None)
    named = [_source(text) for text in ([source] if isinstance(source, str) else source) if text]
    if named:
        together = {"kind": "mixed", "parts": named} if len(named) > 1 else named[0]
        values.setdefault("ingest", {})["source"] = together
    for one in sets:
        name, equals, value = one.partition("=")
        if not equals:
            raise ConfigurationError(f"--set {one}: write it as name=value, such as judge.outlier_share=0.2")
        _set(values, name.strip(), _value(one, value))
    executor = values.pop("executor", {})
    settings: PipelineSettings = checked(PipelineSettings, values)
    for name, stage in settings:
        for path in stage.files() if isinstance(stage, Settings) else ():
            if not Path(path).is_file():
                raise ConfigurationError(f"a setting of {name} names the file {path}, which does not exist")
    return settings, checked(ExecutorSettings, executor, "executor.")


def kinds_in_words(room: Room[Any]) -> str:
    """The members of a room with what they are, for the help of an option."""
    return " ".join(f"{kind}: {member.about()}" for kind, member in room.members.items())


def as_sets(annotator: str, proposer: str) -> list[str]:
    """What ``--annotator`` and ``--proposer`` (KIND or KIND:VALUE, or empty) are as ``sets``."""
    named = {"train_baseline.annotator": annotator, "ground.proposer": proposer}
    return [f"{setting}={json.dumps(text, ensure_ascii=False)}" for setting, text in named.items() if text]


def _source(source: str) -> dict[str, Any]:
    kind, _, path = source.partition(":")
    try:
        member = SOURCES.named(kind)
    except RoomError as error:
        raise ConfigurationError(f"{error}; write csv:captions.csv, say") from error
    if "path" not in member.model_fields:
        return {"kind": kind}
    if not path:
        raise ConfigurationError(f"--source {kind} needs a file or a folder, as in --source csv:PATH; several mix")
    return {"kind": kind, "path": path}


def _value(one: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(
            f"--set {one}: its value is no YAML; put quotes around a text, as in 'a: b'"
        ) from error


def _set(values: dict[str, Any], name: str, value: Any) -> None:
    *outer, last = name.split(".")
    model: type[BaseModel] = PipelineSettings
    where = values
    for number, step in enumerate(outer):
        field = _field(model, step, name, ".".join(outer[:number]))
        model, where[step] = _inner(field, where.get(step), name)
        where = where[step]
    _field(model, last, name, ".".join(outer))
    where[last] = value


def _field(model: type[BaseModel], step: str, name: str, prefix: str) -> FieldInfo:
    """The setting ``step``; raises naming the nearest one where it is unknown."""
    known = dict(model.model_fields)
    if model is PipelineSettings:
        known["executor"] = FieldInfo(annotation=ExecutorSettings)
    if step not in known:
        hint = nearest(step, known, before=f"{prefix}." if prefix else "")
        raise ConfigurationError(f"there is no setting '{name}'{hint}; there are: {', '.join(sorted(known))}")
    return known[step]


def _inner(field: FieldInfo, value: Any, name: str) -> tuple[type[BaseModel], dict[str, Any]]:
    """The model of the settings within a setting, and what they are so far; of several members its kind says which."""
    of_field = get_args(field.annotation) or (field.annotation,)
    models = [model for model in of_field if isinstance(model, type) and issubclass(model, BaseModel)]
    if not models:
        raise ConfigurationError(f"there is no setting '{name}': what stands before its last dot has no settings")
    of_member = issubclass(models[0], Member)
    fits = value is None or isinstance(value, dict | str if of_member else dict)
    if not fits:
        raise ConfigurationError(f"setting {name}: what stands before its last dot is {value!r}, which has no settings")
    if not of_member:
        return models[0], value or {}
    members = {model.kind_of(): model for model in models if issubclass(model, Member)}
    try:
        values = from_text(value, members, "kind") or {}
        kind = values.setdefault("kind", field.default.kind)
        if kind not in members:
            raise RoomError(unknown(kind, members, "kind"))
    except RoomError as error:
        raise ConfigurationError(f"{name}: {error}") from error
    return members[kind], values


def checked(model: type[Any], values: Mapping[str, Any], prefix: str = "") -> Any:
    """``values`` as a ``model`` of settings. Raises :class:`ConfigurationError` that names the setting."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        where = (prefix + ".".join(_steps(problem["loc"], values))).rstrip(".")
        if problem["type"] == "union_tag_invalid":
            kind, kinds = problem["ctx"]["tag"], problem["ctx"]["expected_tags"].replace("'", "").split(", ")
            raise ConfigurationError(f"setting {where}: {unknown(kind, kinds, 'kind')}") from error
        if problem["type"] == "union_tag_not_found":
            raise ConfigurationError(f"setting {where}: its `kind` is missing, as in `{{kind: csv, ..}}`") from error
        if problem["type"] == "missing":
            raise ConfigurationError(f"the setting {where} is missing: say --set {where}=..") from error
        if problem["type"] == "value_error":  # a sentence for a person already
            raise ConfigurationError(f"setting {where}: {problem['ctx']['error']}") from error
        hint = " (no such setting)" if problem["type"] == "extra_forbidden" else ""
        raise ConfigurationError(f"setting {where}: {problem['msg']}{hint}, not {problem['input']!r}") from error


def _steps(place: Sequence[str | int], values: Any) -> Iterator[str]:
    """The names that lead to a setting within ``values``: pydantic also names the kind that was chosen on the way."""
    for step in place:
        if isinstance(values, str) and step == values.partition(":")[0]:
            continue
        if isinstance(values, Mapping) and step not in values and step == values.get("kind"):
            continue
        yield str(step)
        within = (isinstance(values, Mapping) and step in values) or isinstance(values, list | tuple)
        values = values[step] if within else None
