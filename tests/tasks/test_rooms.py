"""Rooms: the project's members, those of installed packages, and what is said of those that do not fit."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import TypeAdapter, ValidationError

from tasks.exports.room import EXPORTS
from tasks.settings import rooms
from tasks.settings.rooms import Member, Room, RoomError
from tasks.sources.room import SOURCES
from tests.package import lay


class Drink(Member):
    """What is drunk."""


class Tea(Drink):
    """Leaves in hot water.

    More about them, which no table shows.
    """

    kind: Literal["tea"] = "tea"
    minutes: int = 3


class Water(Drink):
    """Water, as it is."""

    kind: Literal["water"] = "water"


PROJECT = """
[project]
name = "ram-engine-drinks"
version = "1.2"

[project.entry-points."test.drinks"]
coffee = "drinks:Coffee"
milk = "drinks:Milk"
tea = "drinks:Tea"
mud = "drinks:Mud"
no-drink = "drinks:NOTHING"
broken = "drinks_that_break:Any"
"""
MODULE = '''
from typing import Literal

from tests.tasks.test_rooms import Drink, Tea

NOTHING = "water"


class Coffee(Drink):
    """Beans in hot water."""

    kind: Literal["coffee"] = "coffee"
    beans: str = "arabica"


class Milk(Drink):
    """It is no tea."""

    kind: Literal["tea"] = "tea"


class Mud(Drink):
    """It has no kind."""

    kind: str = "mud"
'''


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room[Drink]]:
    """A room into which a package brings a member that fits, and five that do not."""
    files = {"pyproject.toml": PROJECT, "drinks.py": MODULE, "drinks_that_break.py": "import no_such_library"}
    lay(tmp_path, files)
    monkeypatch.syspath_prepend(str(tmp_path))
    rooms._entry_points.cache_clear()
    yield Room("drink", "test.drinks", Drink, (Tea, Water))
    rooms._entry_points.cache_clear()
    sys.modules.pop("drinks", None)


def test_an_installed_member_stands_beside_the_projects_own(room: Room[Drink]) -> None:
    assert list(room.members) == ["tea", "water", "coffee"]
    coffee = room.named("coffee")
    assert (coffee.package, coffee.about()) == ("ram-engine-drinks 1.2", "Beans in hot water.")
    assert {member.package for member in room.own} == {""}
    chosen = TypeAdapter(room.union()).validate_python({"kind": "coffee", "beans": "robusta"})
    assert type(chosen) is coffee
    assert chosen.beans == "robusta"
    with pytest.raises(ValidationError, match="does not match any of the expected tags: 'tea', 'water', 'coffee'"):
        TypeAdapter(room.union()).validate_python({"kind": "beer"})


def test_what_does_not_fit_is_left_out_with_its_reason_and_package(room: Room[Drink]) -> None:
    reasons = {
        "broken": "No module named 'no_such_library'",
        "milk": "its kind 'tea' is there already",
        "tea": "its kind 'tea' is there already",
        "mud": "it is no Drink with a `kind",
        "no-drink": "it is no Drink with a `kind",
    }
    assert set(room.left_out) == set(reasons)
    for name, reason in reasons.items():
        assert reason in room.left_out[name]
        assert "ram-engine-drinks 1.2" in room.left_out[name]
    assert room.named("tea") is Tea
    with pytest.raises(RoomError, match=r"'broken' of ram-engine-drinks 1\.2 is left out: No module named"):
        room.named("broken")


def test_an_unknown_kind_names_the_near_one(room: Room[Drink]) -> None:
    with pytest.raises(RoomError, match="there is no drink 'cofee'; did you mean 'coffee'"):
        room.named("cofee")
    with pytest.raises(RoomError, match=r"did you mean 'wine'\? \(there are: wine, tea"):
        room.named("wien", ["wine"])


def test_a_form_has_a_tab_a_member_with_its_first_line(room: Room[Drink]) -> None:
    schema = TypeAdapter(room.union()).json_schema()
    tabs = [schema["$defs"][tab["$ref"].rpartition("/")[2]] for tab in schema["anyOf"]]
    assert "oneOf" not in schema
    assert [(tab["title"], tab["description"]) for tab in tabs] == [
        ("tea", "Leaves in hot water."),
        ("water", "Water, as it is."),
        ("coffee", "Beans in hot water."),
    ]


@pytest.mark.parametrize("own", [SOURCES, EXPORTS], ids=["sources", "exports"])
def test_every_member_of_the_project_is_a_file_and_says_what_it_is(own: Room[Any]) -> None:
    folder = Path(sys.modules[own.base.__module__].__file__ or "").parent
    assert len({member.__module__ for member in own.own}) == len(own.own)
    for member in own.own:
        assert Path(sys.modules[member.__module__].__file__ or "").parent == folder
        assert member.about().endswith(".")
        assert len(member.about()) < 120
        assert [name for name, field in member.model_fields.items() if not field.description] == ["kind"]
