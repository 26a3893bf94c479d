"""What stands where in a picture of the sample world, before anything is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.sample_world.nouns import ACTIVITIES, GENDER_SIGNS, NOUNS, SKIN_TONES, Activity, Noun
from tasks.sample_world.scenes import SCENES, SIZE, Rng, Scene

ACTION_CHANCE = 0.55
TINT_CHANCE = 0.6
PERSON_CHANCE = 0.4
PLURAL_CHANCE = 0.14
SIZE_CHANCE = 0.16  # of being strikingly big or small
OUT_OF_PLACE = 0.05  # the weight of a noun in a scene where it does not belong
MOST_COVERED = 0.4  # the share of a picture that nearer ones may hide
TINTS = {
    "red": (215, 40, 45),
    "blue": (45, 90, 220),
    "green": (50, 160, 70),
    "yellow": (245, 205, 50),
    "purple": (140, 70, 190),
    "pink": (245, 135, 180),
    "black": (45, 45, 50),
    "white": (240, 240, 240),
    "orange": (245, 140, 40),
    "brown": (135, 85, 50),
}
HIGH = {"sun", "moon", "cloud", "rainbow"}  # always in the upper part


@dataclass(frozen=True)
class Placement:
    """One picture of a noun: centre, size and turn are in pixels and degrees."""

    emoji: str
    x: float
    y: float
    size: float
    turn: float
    mirrored: bool


@dataclass(frozen=True)
class Group:
    """One noun of a picture: once or several times, all alike."""

    name: str
    placements: tuple[Placement, ...]
    attributes: tuple[str, ...] = ()
    tint: str = ""
    action: str = ""
    activity: Activity | None = None

    @property
    def never_captioned(self) -> bool:
        return self.name in NOUNS and NOUNS[self.name].never_captioned


@dataclass(frozen=True)
class Layout:
    """A picture: its scene and what stands there, the farthest first."""

    scene: Scene
    groups: tuple[Group, ...]

    @property
    def tags(self) -> tuple[tuple[str, str], ...]:
        """All that can be said, as (name, type), without repetition."""
        tags = [(self.scene.name, "scene")]
        if self.scene.attribute:
            tags.append((self.scene.attribute, "attribute"))
        for group in self.groups:
            tags.append((group.name, "object"))
            if group.activity and group.activity.thing:
                tags.append((group.activity.thing, "object"))
            tags.extend((attribute, "attribute") for attribute in group.attributes)
            if group.action:
                tags.append((group.action, "action"))
        return tuple(dict.fromkeys(tags))


def _chances() -> dict[str, np.ndarray]:
    """For each scene's name the chance of every noun, so that a noun's total over the scenes follows its weight."""
    names = [scene.name for scene in SCENES]
    likely = np.array([[1.0 if name in noun.scenes else OUT_OF_PLACE for noun in NOUNS.values()] for name in names])
    weights = np.array([noun.weight for noun in NOUNS.values()]) ** 0.8
    for _ in range(50):  # alternate: each noun's total follows its weight, each scene's total is one
        likely *= weights / likely.sum(0)
        likely /= likely.sum(1, keepdims=True)
    return dict(zip(names, likely, strict=True))


_CHANCES = _chances()
_NOUNS = tuple(NOUNS.values())


def compose(rng: Rng) -> Layout:
    """A new picture of three to seven nouns."""
    scene = SCENES[rng.integers(len(SCENES))]
    number = int(rng.choice([3, 4, 5, 6, 7], p=[0.22, 0.28, 0.25, 0.15, 0.1]))
    chosen = rng.choice(len(_NOUNS), number, replace=False, p=_CHANCES[scene.name])
    taken: list[tuple[float, float, float]] = []
    groups = [_noun_group(rng, scene, _NOUNS[index], taken) for index in chosen]
    activities = [activity for activity in ACTIVITIES if scene.name in activity.scenes]
    if activities and rng.random() < PERSON_CHANCE:
        groups.append(_person(rng, scene, activities[rng.integers(len(activities))], taken))
    groups.sort(key=lambda group: max(place.y + place.size / 2 for place in group.placements))
    return Layout(scene, tuple(groups))


def _noun_group(rng: Rng, scene: Scene, noun: Noun, taken: list[tuple[float, float, float]]) -> Group:
    action = _action(rng, scene, noun)
    attributes: list[str] = []
    tint = ""
    if noun.tintable and (not noun.colour or rng.random() < TINT_CHANCE):
        tint = list(TINTS)[rng.integers(len(TINTS))]
    if tint or noun.colour:
        attributes.append(tint or noun.colour)
    size = rng.uniform(62, 118)
    if not noun.never_captioned and rng.random() < SIZE_CHANCE:
        attributes.append("big" if rng.random() < 0.5 else "small")
        size = rng.uniform(150, 190) if attributes[-1] == "big" else rng.uniform(36, 48)
    number = 1
    if size < 120 and noun.name not in HIGH and not noun.never_captioned and rng.random() < PLURAL_CHANCE:
        number = int(rng.integers(2, 5))
        size = min(size, 80)
    emoji = noun.emojis[rng.integers(len(noun.emojis))]
    tilted = {"jump": 24, "run": -10, "fly": 12}.get(action, 0)
    places = []
    for _ in range(number):
        scale = size * rng.uniform(0.9, 1.1)
        x, y = _spot(rng, scene, noun.name, action, scale, taken)
        mirrored = bool(rng.random() < 0.5)
        turn = rng.normal(0, 7) + (tilted if mirrored else -tilted)
        places.append(Placement(emoji, x, y, scale, turn, mirrored))
    return Group(noun.name, tuple(places), tuple(attributes), tint, action)


def _action(rng: Rng, scene: Scene, noun: Noun) -> str:
    """What the noun does here, if anything: nobody swims on land or drives in the kitchen."""
    fitting = {
        "fly": scene.ground in ("air", "land", "water"),
        "swim": scene.ground == "water",
        "float": scene.ground == "water",
        "drive": scene.name in ("street", "city", "desert", "field", "mountain"),
        "run": scene.ground == "land",
        "jump": True,
        "sleep": scene.ground in ("land", "room"),
        "burn": True,
        "shine": True,
    }
    actions = [action for action in noun.actions if fitting[action]]
    if not actions:
        return ""
    certain = {"burn", "shine"} | ({"fly"} if scene.ground == "air" else set()) | {"swim", "float"}
    action = actions[rng.integers(len(actions))]
    return action if action in certain or rng.random() < ACTION_CHANCE else ""


def _person(rng: Rng, scene: Scene, activity: Activity, taken: list[tuple[float, float, float]]) -> Group:
    gender = activity.gender or ("man", "woman")[rng.integers(2)]
    emoji = f"{activity.emoji}-{SKIN_TONES[rng.integers(len(SKIN_TONES))]}"
    if not activity.gender:
        emoji += f"-200d-{GENDER_SIGNS[gender]}-fe0f"
    size = rng.uniform(80, 130)
    x, y = _spot(rng, scene, gender, "", size, taken)
    place = Placement(emoji, x, y, size, rng.normal(0, 4), bool(rng.random() < 0.5))
    return Group(gender, (place,), (), "", activity.action, activity)


def _spot(
    rng: Rng, scene: Scene, name: str, action: str, size: float, taken: list[tuple[float, float, float]]
) -> tuple[float, float]:
    """A centre that hides no more than a part of what is there already; up to an eighth may lie outside."""
    horizon = scene.horizon * SIZE
    edge = size * 0.38
    if scene.ground == "air":
        low, high = edge, SIZE - edge
    elif name in HIGH or action == "fly":
        low, high = edge, max(horizon + 20, edge + 40)
    else:
        low, high = max(horizon - size * 0.2, edge), SIZE - edge
    best, least = (0.0, 0.0), np.inf
    for _ in range(14):
        x, y = rng.uniform(edge, SIZE - edge), rng.uniform(low, max(high, low + 1))
        covered = 0.0
        for other_x, other_y, other_size in taken:
            reach = (size + other_size) / 2
            wide, tall = max(0.0, reach - abs(x - other_x)), max(0.0, reach - abs(y - other_y))
            smaller = min(size, other_size)
            covered = max(covered, min(wide, smaller) * min(tall, smaller) / smaller**2)
        if covered < least:
            best, least = (x, y), covered
        if covered < MOST_COVERED * rng.random():
            break
    taken.append((*best, size))
    return best
