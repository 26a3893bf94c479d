"""Rules between settings: each stands once, refused by the settings themselves and by any form of their JSON schema."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel


@dataclass(frozen=True)
class Demand:
    """What a value must be: ``holds`` tells of it, ``schema`` is the same in JSON schema."""

    holds: Callable[[Any], bool]
    schema: Mapping[str, Any]


def equal(value: Any) -> Demand:
    return Demand(lambda given: bool(given == value), {"const": value})


def at_least(least: int) -> Demand:
    return Demand(lambda given: bool(given >= least), {"minimum": least})


def matching(pattern: str) -> Demand:
    """A text in which the regular expression is found."""
    return Demand(lambda given: re.search(pattern, given) is not None, {"pattern": pattern})


def empty() -> Demand:
    """A list with nothing in it."""
    return Demand(lambda given: not given, {"maxItems": 0})


@dataclass(frozen=True)
class Rule:
    """Where the setting ``name`` is as ``when`` says, others must be as ``demands`` say; ``why`` is told where they are
    not."""

    name: str
    when: Demand
    demands: Mapping[str, Demand]
    why: str

    def check(self, settings: BaseModel) -> None:
        """Raises ValueError where the settings break the rule."""
        kept = (demand.holds(getattr(settings, name)) for name, demand in self.demands.items())
        if self.when.holds(getattr(settings, self.name)) and not all(kept):
            raise ValueError(self.why)

    def schema(self, model: type[BaseModel]) -> dict[str, Any]:
        """The rule in JSON schema; settings whose defaults would break it may not be left out."""
        fields = model.model_fields
        left_out = [name for name, demand in self.demands.items() if not demand.holds(fields[name].default)]
        return {
            "if": {"properties": {self.name: dict(self.when.schema)}, "required": [self.name]},
            "then": {
                "properties": {name: dict(demand.schema) for name, demand in self.demands.items()},
                "required": left_out,
            },
        }


def in_schema(rules: Sequence[Rule]) -> Callable[[dict[str, Any], type[BaseModel]], None]:
    """For ``json_schema_extra``: adds the rules to a model's schema."""

    def add(schema: dict[str, Any], model: type[BaseModel]) -> None:
        schema["allOf"] = [rule.schema(model) for rule in rules]

    return add
