"""Rooms: what can be exchanged, a folder a kind of thing, a file a member. Installed packages may bring members too.

A member is a frozen settings model. Its ``kind`` names it on the command line, in presets, forms and keys; its other
fields are its settings; ``files()`` are the files that it reads; and it makes what it stands for only when that is
asked of it, so that planning loads no library that a member needs. A package adds one by an entry point::

    [project.entry-points."ram_engine.sources"]
    birds = "birds.source:BirdSource"
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, ClassVar, Union, cast, get_args

from pydantic import BaseModel, BeforeValidator, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from tasks.settings.base import Settings


class RoomError(ValueError):
    """An installed package brings a member that does not fit its room; the message names the package."""


class Member(Settings):
    """A member of a room. Subclasses have ``kind: Literal["name"] = "name"``."""

    package: ClassVar[str] = ""  # name and version of the package that brought it; "" for the project's own

    @classmethod
    def kind_of(cls) -> str:
        """The member's ``kind``."""
        field = cls.model_fields.get("kind")
        return str(get_args(field.annotation)[0]) if field is not None and get_args(field.annotation) else ""

    @classmethod
    def about(cls) -> str:
        """The first line of its docstring: what forms and tables say of it."""
        return (cls.__doc__ or "").strip().splitlines()[0] if cls.__doc__ else ""


@dataclass(frozen=True)
class Room:
    """The members of one kind of thing: the project's ``own`` and those of installed packages.

    ``what`` is what a person calls one of them; ``group`` is the entry points' group; ``base`` is the class that all of
    them have.
    """

    what: str
    group: str
    base: type[Member]
    own: tuple[type[Member], ...]

    @cached_property
    def members(self) -> dict[str, type[Member]]:
        """Member by kind, the project's own first. Raises :class:`RoomError` where an installed one does not fit."""
        members = {member.kind_of(): member for member in self.own}
        for entry in sorted(entry_points(group=self.group), key=lambda entry: entry.name):
            member = self._loaded(entry)
            kind = member.kind_of()
            if kind in members:
                raise RoomError(f"{member.package} brings the {self.what} '{kind}', which is there already")
            members[kind] = member
        return members

    def union(self) -> Any:
        """The type of a setting that is one of the members: the ``kind`` says which.

        A text says it as well, as :func:`from_text` reads it.
        """
        members = tuple(self.members.values())
        reader = BeforeValidator(lambda value: from_text(value, self.members, self.what))
        if len(members) == 1:
            return Annotated[members[0], reader]
        return Annotated[cast(Any, Union)[members], Field(discriminator="kind"), _Tabs(), reader]

    def _loaded(self, entry: EntryPoint) -> type[Member]:
        brought_by = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else entry.value
        try:
            member = entry.load()
        except Exception as error:
            raise RoomError(f"{brought_by} brings the {self.what} '{entry.name}', which fails: {error}") from error
        if not (isinstance(member, type) and issubclass(member, self.base) and member.kind_of()):
            raise RoomError(
                f"{brought_by} brings the {self.what} '{entry.name}', which is no {self.base.__name__} with a kind"
            )
        member.package = brought_by
        return member


def from_text(value: Any, members: Mapping[str, type[BaseModel]], what: str) -> Any:
    """The settings that a text names: ``KIND``, or ``KIND:VALUE`` with the value of the member's first setting.

    ``csv:captions.csv`` is ``{"kind": "csv", "path": "captions.csv"}``. What is no text stays as it is. Raises
    ValueError where there is no member of that kind.
    """
    if not isinstance(value, str):
        return value
    kind, _, first = value.partition(":")
    if kind not in members:
        near = difflib.get_close_matches(kind, members, 1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"there is no {what} '{kind}'{hint} (there are: {', '.join(members)})")
    names = [name for name in members[kind].model_fields if name != "kind"]
    if first and not names:
        raise ValueError(f"the {what} '{kind}' has no settings: write {kind} alone")
    return {"kind": kind, names[0]: first} if first else {"kind": kind}


class _Tabs:
    """A union as Prefect's form draws it: ``anyOf`` gives tabs, it knows no ``oneOf``."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core)
        schema.pop("discriminator", None)
        if "oneOf" in schema:
            schema["anyOf"] = schema.pop("oneOf")
        return schema
