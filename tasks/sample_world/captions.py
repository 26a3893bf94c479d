"""Captions of a layout in ordinary English, as people write them: each names only some of what can be seen."""

from __future__ import annotations

from dataclasses import dataclass, field

from tasks.sample_world.layout import Group, Layout
from tasks.sample_world.nouns import KINDS, NOUNS, PEOPLE, plural
from tasks.sample_world.scenes import Rng, Scene

SCENE_NAMED = 0.65
OBJECTS_NAMED = ((1, 0.2), (2, 0.48), (3, 0.32))  # numbers of objects and their chances
CASUAL = 0.12
WEB_NOISE = 0.08

SIZE_WORDS = {"big": ("big", "large", "huge"), "small": ("small", "little", "tiny")}
PARTICIPLES = {
    "fly": "flying",
    "swim": "swimming",
    "float": "floating",
    "drive": "driving",
    "run": "running",
    "jump": "jumping",
    "sleep": "sleeping",
    "burn": "burning",
    "shine": "shining",
}
THING_WORDS = {"bicycle": ("bicycle", "bike"), "surfboard": ("surfboard",)}
UNIQUE = {"sun", "moon"}  # "the sun"
UNCOUNTED = {"bread", "cheese", "corn", "ice cream"}  # "some bread"
NUMBERS = {2: ("two", "two", "a couple of"), 3: ("three", "several", "some"), 4: ("four", "several", "many")}
CASUAL_STARTS = ("look at {}", "just {}", "so cute: {}", "I love this, {}", "this is {}", "found {}", "here is {}")
CASUAL_ENDS = ("", "!", "!!", " :)", " today", ", what a day")
WEB_STYLES = (
    "Stock photo: {}",
    "IMG_{n}: {}",
    "Free wallpaper - {}",
    "{} - royalty free",
    "{} | 4k wallpaper",
    "{} (photo no. {n})",
    "{} #photooftheday",
)


@dataclass(frozen=True)
class _Chances:
    """How likely a caption is to name what could be said of the objects that it is about, and of their scene."""

    actions: float = 1.0
    attributes: float = 1.0
    scene_attributes: float = 1.0


FULLY, PARTLY = _Chances(), _Chances(actions=0.75, attributes=0.55, scene_attributes=0.4)


@dataclass
class _Words:
    """A text under way, and what it has named."""

    mentions: dict[tuple[str, str], None] = field(default_factory=dict)

    def name(self, tag: str, type_: str) -> None:
        self.mentions[(tag, type_)] = None


@dataclass(frozen=True)
class Caption:
    """A caption and the tags that it names, as (name, type)."""

    text: str
    mentions: tuple[tuple[str, str], ...]


def other_words(layout: Layout) -> tuple[tuple[str, str], ...]:
    """The other words by which ``layout.tags`` may be called, as (word, type): synonyms, wider terms, compounds."""
    scene = layout.scene
    found = [(word, "scene") for word in scene.words]
    if scene.attribute:
        found += [(f"{scene.attribute} {word}", "scene") for word in scene.words]
    for name, type_ in layout.tags:
        if type_ == "object":
            words = PEOPLE.get(name) or (NOUNS[name].words if name in NOUNS else THING_WORDS[name])
            found += [(word, "object") for word in (*words, *KINDS.get(name, ()))]
        if type_ == "attribute":
            found += [(word, "attribute") for word in SIZE_WORDS.get(name, ())]
    return tuple(dict.fromkeys(pair for pair in found if pair not in layout.tags))


def describe_partly(layout: Layout, rng: Rng) -> Caption:
    """One caption of what its writer happened to notice."""
    groups = [group for group in layout.groups if not group.never_captioned]
    words = _Words()
    with_scene = rng.random() < SCENE_NAMED
    if not groups:
        return _finish(_scene_alone(layout.scene, words, rng, PARTLY.scene_attributes), words, rng)
    numbers, chances = zip(*OBJECTS_NAMED, strict=True)
    number = min(int(rng.choice(numbers, p=chances)), len(groups))
    sizes = [group.placements[0].size * len(group.placements) ** 0.5 for group in groups]
    total = sum(sizes)
    picked = rng.choice(len(groups), number, replace=False, p=[size / total for size in sizes])
    chosen = [groups[index] for index in picked]
    text = _sentence(layout.scene, chosen, with_scene, words, rng, PARTLY)
    return _finish(text, words, rng)


def describe_fully(layout: Layout, rng: Rng) -> tuple[Caption, ...]:
    """Captions that together name everything but the never-captioned nouns and what is said of these alone."""
    groups = [group for group in layout.groups if not group.never_captioned]
    captions = []
    for start in range(0, max(len(groups), 1), 2):
        words = _Words()
        chosen = groups[start : start + 2]
        if chosen:
            text = _sentence(layout.scene, chosen, start == 0, words, rng, FULLY)
        else:
            text = _scene_alone(layout.scene, words, rng, 1.0)
        captions.append(Caption(_written(text, rng), tuple(words.mentions)))
    return tuple(captions)


def _finish(text: str, words: _Words, rng: Rng) -> Caption:
    if rng.random() < CASUAL and not text.startswith("there"):
        start, end = _pick(CASUAL_STARTS, rng), _pick(CASUAL_ENDS, rng)
        return Caption(start.format(text) + end, tuple(words.mentions))
    if rng.random() < WEB_NOISE:
        text = _pick(WEB_STYLES, rng).format(text, n=rng.integers(100, 9999))
        return Caption(text, tuple(words.mentions))
    return Caption(_written(text, rng), tuple(words.mentions))


def _written(text: str, rng: Rng) -> str:
    """Capitals and a full stop, as people do or do not."""
    style = rng.random()
    if style < 0.35:
        return text
    return text[0].upper() + text[1:] + ("." if style < 0.8 else "")


def _pick(choices: tuple[str, ...], rng: Rng) -> str:
    return choices[rng.integers(len(choices))]


def _article(phrase: str) -> str:
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def _sentence(scene: Scene, groups: list[Group], with_scene: bool, words: _Words, rng: Rng, chances: _Chances) -> str:
    """Up to three objects in one sentence."""
    doing = [_doing(group, words, rng) if rng.random() < chances.actions else "" for group in groups]
    nouns = [_noun_phrase(group, words, rng, chances.attributes) for group in groups]
    where = _where(scene, groups, words, rng, chances.scene_attributes) if with_scene else ""
    parts = [f"{noun} {act}".strip() for noun, act in zip(nouns, doing, strict=True)]
    are = "are" if len(groups) > 1 or len(groups[0].placements) > 1 else "is"
    there = f"there {'are' if len(groups[0].placements) > 1 else 'is'} "
    if len(groups) == 1:
        forms = [f"{parts[0]} {where}", f"{there}{parts[0]} {where}"]
        if doing[0]:
            forms.append(f"{nouns[0]} {are} {doing[0]} {where}")
            forms.append(f"{nouns[0]} {doing[0]} {where}")
        elif where:
            forms.append(f"{where} {are} {nouns[0]}")
            forms.append(f"{nouns[0]} {are} {where}")
    elif len(groups) == 2:
        relation = _relation(groups[0], groups[1], rng)
        forms = [
            f"{parts[0]} {relation} {parts[1]} {where}",
            f"{parts[0]} {relation} {parts[1]} {where}",
            f"{parts[0]} and {parts[1]} {where}",
            f"{there}{parts[0]} {relation} {parts[1]} {where}",
        ]
        if doing[0]:
            forms.append(f"{nouns[0]} {doing[0]} {where or relation} {'and ' if where else ''}{parts[1]}")
            forms.append(f"{parts[0]} {where}, {parts[1]} {_pick(('nearby', 'beside it', 'close by'), rng)}")
        elif where:
            forms.append(f"{where}, {nouns[0]} and {parts[1]}")
    else:
        relation = _relation(groups[0], groups[1], rng)
        forms = [
            f"{parts[0]}, {parts[1]} and {parts[2]} {where}",
            f"{parts[0]} {relation} {parts[1]} and {parts[2]} {where}",
            f"{there}{parts[0]}, {parts[1]} and {parts[2]} {where}",
            f"{parts[0]} and {parts[1]} {where}, {parts[2]} {_pick(('nearby', 'behind them'), rng)}",
        ]
    return " ".join(_pick(tuple(forms), rng).split()).replace(" ,", ",")


def _noun_phrase(group: Group, words: _Words, rng: Rng, attribute_named: float) -> str:
    words.name(group.name, "object")
    names = PEOPLE.get(group.name) or NOUNS[group.name].words
    word = names[0] if rng.random() < 0.6 else _pick(names, rng)
    adjectives = []
    for attribute in sorted(group.attributes, key=lambda name: name not in SIZE_WORDS):  # size before colour
        if rng.random() < attribute_named:
            words.name(attribute, "attribute")
            adjectives.append(_pick(SIZE_WORDS.get(attribute, (attribute,)), rng))
    number = len(group.placements)
    if number > 1:
        return " ".join([_pick(NUMBERS[number], rng), *adjectives, plural(word)])
    phrase = " ".join([*adjectives, word])
    if group.name in UNIQUE:
        return "the " + phrase
    if group.name in UNCOUNTED:
        return "some " + phrase
    return _article(phrase)


def _doing(group: Group, words: _Words, rng: Rng) -> str:
    if not group.action:
        return ""
    words.name(group.action, "action")
    if group.activity is None:
        return PARTICIPLES[group.action]
    if group.activity.thing:
        words.name(group.activity.thing, "object")
    return group.activity.phrase.format(_pick(THING_WORDS.get(group.activity.thing, ("",)), rng))


def _scene_words(scene: Scene, words: _Words, rng: Rng, attribute_named: float) -> str:
    words.name(scene.name, "scene")
    word = scene.words[0] if rng.random() < 0.65 else _pick(scene.words, rng)
    if scene.attribute and rng.random() < attribute_named:
        words.name(scene.attribute, "attribute")
        return f"{scene.attribute} {word}"
    return word


def _where(scene: Scene, groups: list[Group], words: _Words, rng: Rng, attribute_named: float) -> str:
    phrase = _scene_words(scene, words, rng, attribute_named)
    above = all(group.action in ("fly", "shine") for group in groups)
    where = "over the {}" if above and scene.ground != "air" else _pick(scene.where, rng)
    if phrase.endswith("s") or phrase == "sky":  # the woods, the mountains
        where = where.replace(" a {}", " the {}")
    return where.format(phrase)


def _scene_alone(scene: Scene, words: _Words, rng: Rng, attribute_named: float) -> str:
    phrase = _scene_words(scene, words, rng, attribute_named)
    return _pick(("the {}", "a view of the {}", "the {} this morning"), rng).format(phrase)


def _relation(first: Group, second: Group, rng: Rng) -> str:
    """How the first object lies to the second, from where they are drawn."""
    a, b = first.placements[0], second.placements[0]
    right, down = a.x - b.x, a.y - b.y
    reach = (a.size + b.size) / 2
    if abs(down) > max(abs(right), reach):
        return "above" if down < 0 else _pick(("below", "under"), rng)
    if abs(right) < reach * 0.7 and abs(down) < reach * 0.6:
        nearer = a.y + a.size / 2 > b.y + b.size / 2
        return "in front of" if nearer else "behind"
    if abs(right) < reach * 1.3:
        return _pick(("next to", "beside", "by"), rng)
    return _pick(("near", "and", "with", "close to"), rng)
