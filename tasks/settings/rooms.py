"""Rooms: what can be exchanged, a folder a kind of thing, a file a member. Installed packages may bring members too.

A member is a frozen settings model. Its ``kind`` names it on the command line, in presets, forms and keys; its other
fields are its settings; ``files()`` are the files that it reads; and it makes what it stands for only when that is
asked of it, so that planning loads no library that a member needs. A package adds one by an entry point::

    [project.entry-points."ram_engine.sources"]
    birds = "birds:BirdSource"

A package's module imports the class of its room's members from the room (``from tasks.sources import Source``), which
loads no other member: so it does not matter which of the two is imported first.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Generic, TypeVar, Union, cast, get_args

from pydantic import BaseModel, BeforeValidator, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from tasks.settings.base import Settings


class RoomError(ValueError):
    """There is no member of that kind, or the one that an installed package brings does not fit; with the mend."""


class Member(Settings):
    """A member of a room. Subclasses have ``kind: Literal["name"] = "name"``."""

    package: ClassVar[str] = ""  # name and version of the package that brought it; "" for the project's own

    def identity(self) -> dict[str, Any]:
        """The package that brought it counts too: another version of it may make something else."""
        return {**super().identity(), **({"package": self.package} if self.package else {})}

    @classmethod
    def kind_of(cls) -> str:
        """The member's ``kind``; "" for a class that is no member by itself."""
        field = cls.model_fields.get("kind")
        return str(field.default) if field is not None and get_args(field.annotation) == (field.default,) else ""

    @classmethod
    def about(cls) -> str:
        """The first line of its docstring: what forms and tables say of it."""
        return (cls.__doc__ or "").strip().partition("\n")[0]

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core)
        handler.resolve_ref_schema(schema).update(title=cls.kind_of(), description=cls.about())
        return schema


AnyMember = TypeVar("AnyMember", bound=Member)


@dataclass(frozen=True)
class Room(Generic[AnyMember]):
    """The members of one kind of thing: the project's ``own`` and those of installed packages.

    ``what`` is what a person calls one of them; ``group`` is the entry points' group; ``base`` is the class that all of
    them have.
    """

    what: str
    group: str
    base: type[AnyMember]
    own: tuple[type[AnyMember], ...]

    @property
    def members(self) -> dict[str, type[AnyMember]]:
        """Member by kind, the project's own first."""
        return self._entered[0]

    @property
    def left_out(self) -> dict[str, str]:
        """What installed packages bring that does not fit, by the entry point's name: a sentence that says why.

        One that fails leaves the others, and every command that has no need of it, as they are.
        """
        return self._entered[1]

    def named(self, kind: str, others: Iterable[str] = ()) -> type[AnyMember]:
        """The member ``kind``. Raises :class:`RoomError` naming the nearest of its kinds and of ``others``."""
        if kind in self.members:
            return self.members[kind]
        raise RoomError(self.left_out.get(kind) or unknown(kind, [*others, *self.members], self.what))

    def union(self, *others: type[Member]) -> Any:
        """The type of a setting that is one of the members, or of ``others``: the ``kind`` says which.

        A text says it as well, as :func:`from_text` reads it.
        """
        every: tuple[type[Member], ...] = (*self.members.values(), *others)
        members = {member.kind_of(): member for member in every}
        reader = BeforeValidator(lambda value: from_text(value, members, self.what, self.left_out))
        if len(members) == 1:
            return Annotated[next(iter(members.values())), reader]
        return Annotated[cast(Any, Union)[tuple(members.values())], Field(discriminator="kind"), _Tabs(), reader]

    @cached_property
    def _entered(self) -> tuple[dict[str, type[AnyMember]], dict[str, str]]:
        members = {member.kind_of(): member for member in self.own}
        left_out: dict[str, str] = {}
        for entry in installed(self.group):
            try:
                member = self._loaded(entry)
                if (kind := member.kind_of()) in members:
                    raise RoomError(f"its kind '{kind}' is there already")
                member.package = package_of(entry)
                members[kind] = member
            except Exception as error:  # whatever a package's module raises
                left_out[entry.name] = (
                    f"the {self.what} '{entry.name}' of {package_of(entry)} is left out: {error} ({entry.value})"
                )
        return members, left_out

    def _loaded(self, entry: EntryPoint) -> type[AnyMember]:
        member = entry.load()
        if not (isinstance(member, type) and issubclass(member, self.base) and member.kind_of()):
            raise RoomError(f'it is no {self.base.__name__} with a `kind: Literal["name"] = "name"`')
        return member


def installed(group: str) -> list[EntryPoint]:
    """What installed packages bring to a group, by name."""
    return sorted(_entry_points().select(group=group), key=lambda entry: entry.name)


def package_of(entry: EntryPoint) -> str:
    """Name and version of the package that brings it."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else entry.value


@cache
def _entry_points() -> Any:
    """Those of all installed packages: finding them reads a file a package."""
    return entry_points()


def from_text(
    value: Any, members: Mapping[str, type[BaseModel]], what: str, left_out: Mapping[str, str] = MappingProxyType({})
) -> Any:
    """The settings that a text names: ``KIND``, or ``KIND:VALUE`` with the value of the member's first setting.

    ``csv:captions.csv`` is ``{"kind": "csv", "path": "captions.csv"}``. What is no text stays as it is. Raises
    :class:`RoomError` where there is no member of that kind; ``left_out`` says of some why.
    """
    if not isinstance(value, str):
        return value
    kind, _, first = value.partition(":")
    if kind not in members:
        raise RoomError(left_out.get(kind) or unknown(kind, members, what))
    names = [name for name in members[kind].model_fields if name != "kind"]
    if first and not names:
        raise RoomError(f"the {what} '{kind}' has no settings: write {kind} alone")
    return {"kind": kind, names[0]: first} if first else {"kind": kind}


def unknown(kind: str, kinds: Iterable[str], what: str) -> str:
    """That there is no member of that kind, with the nearest that there is."""
    return f"there is no {what} '{kind}'{nearest(kind, kinds)} (there are: {', '.join(kinds)})"


def nearest(word: str, known: Iterable[str], before: str = "") -> str:
    """Asks whether the nearest of the ``known`` words was meant, told with what stands ``before`` it; "" if none is
    near."""
    near = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean '{before}{near[0]}'?" if near else ""


class _Tabs:
    """A union as Prefect's form draws it: ``anyOf`` gives tabs, it knows no ``oneOf``."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core)
        schema.pop("discriminator", None)
        if "oneOf" in schema:
            schema["anyOf"] = schema.pop("oneOf")
        return schema
