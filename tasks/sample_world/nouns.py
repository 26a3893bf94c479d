"""The nouns of the sample world: how they look, what they are called, where they stand and what they can be seen doing.

Pictures are SVGs of Twemoji (CC-BY 4.0, see NOTICE), named by their code points.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Noun:
    """One row of the table."""

    name: str
    emojis: tuple[str, ...]  # code points of the pictures it may have
    words: tuple[str, ...]  # what people call it, the name first
    scenes: frozenset[str]  # where it is likely
    weight: float  # how often it is chosen, relative to the others
    colour: str = ""  # its natural colour, where one is plain to see
    actions: tuple[str, ...] = ()  # what it can be drawn doing, see drawing.py
    tintable: bool = False  # may be drawn in another colour
    never_captioned: bool = False


@dataclass(frozen=True)
class Activity:
    """A picture of a person who does something, perhaps with a thing."""

    action: str
    emoji: str  # code points before skin tone and gender; a gendered picture where ``gender`` is given
    phrase: str  # how it is said; {} stands for the thing
    scenes: frozenset[str]
    thing: str = ""
    gender: str = ""


SKIN_TONES = ("1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff")
GENDER_SIGNS = {"man": "2642", "woman": "2640"}

LAND = "field forest garden desert mountain street"
HOME = "kitchen bedroom"
OUTSIDE = "field forest street garden mountain beach"
OPEN = "sky field beach sea mountain lake street"


def _table(rows: str, tintable: bool = False, never_captioned: bool = False) -> list[Noun]:
    """Nouns from lines of ``words | code points | scenes | weight | colour | actions``; fields at the end may lack."""
    nouns = []
    for row in rows.strip().splitlines():
        fields = [field.strip() for field in row.split("|")]
        words, emojis, scenes, weight, colour, actions = fields + [""] * (6 - len(fields))
        names = tuple(word.strip() for word in words.split(","))
        noun = Noun(
            name=names[0],
            emojis=tuple(emojis.split()),
            words=names,
            scenes=frozenset(scenes.split()),
            weight=float(weight or 1),
            colour=colour,
            actions=tuple(actions.split()),
            tintable=tintable,
            never_captioned=never_captioned,
        )
        nouns.append(noun)
    return nouns


_PLAIN = _table(
    f"""
    dog | 1f415 1f415-200d-1f9ba | {OUTSIDE} snow {HOME} | 4 | | run jump sleep
    cat | 1f408 1f408-200d-2b1b | garden street {HOME} field | 3.5 | | sleep jump
    horse | 1f40e | field desert mountain forest | 2.5 | brown | run jump
    cow | 1f404 | field garden mountain | 2.5 | | sleep
    pig, hog | 1f416 | field garden | 1.3 | pink | run sleep
    sheep | 1f411 | field mountain | 2 | white | run sleep
    goat | 1f410 | mountain field | 1.2 | | jump
    rabbit, bunny | 1f407 | field garden snow forest | 1.6 | | jump run sleep
    mouse | 1f401 | kitchen bedroom garden | 1.2 | | run
    squirrel | 1f43f | forest garden | 1.2 | brown | jump
    elephant | 1f418 | desert field forest | 1.8 | | run
    leopard | 1f406 | forest field desert | 1.2 | | run jump sleep
    camel | 1f42a 1f42b | desert beach | 1.3 | brown
    gorilla | 1f98d | forest mountain | 1.2 | black
    giraffe | 1f992 | desert field | 1.3 | yellow
    tiger | 1f405 | forest field snow | 1.3 | orange | run jump sleep
    deer | 1f98c | forest mountain snow field | 1.3 | brown | run jump
    monkey | 1f412 | forest garden | 1.4 | brown | jump
    rooster, cockerel | 1f413 | field garden street | 1.2 | white
    duck | 1f986 | lake field garden sea | 1.8 | | swim fly
    eagle | 1f985 | sky mountain desert forest | 1.3 | | fly
    owl | 1f989 | forest bedroom sky | 1.2 | brown | fly
    parrot | 1f99c | forest garden beach | 1.2 | | fly
    fish | 1f41f 1f420 | sea lake kitchen | 2 | | swim
    whale | 1f40b 1f433 | sea | 1.4 | blue | swim jump
    dolphin, porpoise | 1f42c | sea beach | 1.3 | blue | swim jump
    shark | 1f988 | sea | 1.3 | | swim
    octopus | 1f419 | sea beach | 1.2 | | swim
    crab | 1f980 | beach sea kitchen | 1.3 | red
    turtle | 1f422 | beach sea lake | 1.4 | green | swim
    snake | 1f40d | desert forest garden | 1.2 | green
    crocodile | 1f40a | lake desert beach | 1.2 | green | swim
    lizard | 1f98e | desert garden forest | 1.1 | green | run
    butterfly | 1f98b | garden field sky forest | 1.5 | blue | fly
    bee | 1f41d | garden field | 1.3 | | fly
    ladybug, ladybird | 1f41e | garden forest | 1.1 | red
    tree | 1f333 | {LAND} lake | 3.5 | green
    palm tree, palm | 1f334 | beach desert sea street | 2
    cactus | 1f335 | desert garden | 1.4 | green
    sunflower | 1f33b | garden field kitchen | 1.3 | yellow
    tulip | 1f337 | garden field kitchen | 1.3 | pink
    mushroom | 1f344 | forest garden kitchen | 1.2 | red
    airplane, plane, aeroplane | 1f6e9 2708 | sky city street mountain | 2 | | fly
    helicopter, chopper | 1f681 | sky city mountain sea | 1.3 | | fly
    rocket | 1f680 | sky city desert | 1.2 | | fly
    bicycle, bike | 1f6b2 | street field garden city | 1.6
    motorcycle, motorbike | 1f3cd | street desert city mountain | 1.4 | | drive
    skateboard | 1f6f9 | street city bedroom | 1.1
    snowman | 26c4 2603 | snow mountain | 1.6 | white
    sled, sledge, sleigh | 1f6f7 | snow mountain | 1.2
    traffic light, stoplight | 1f6a6 | street city | 1.4
    soccer ball | 26bd | field street beach bedroom | 1.4
    basketball | 1f3c0 | street bedroom city | 1.2 | orange
    guitar | 1f3b8 | bedroom beach city | 1.3
    drum | 1f941 | bedroom street city | 1.1 | red
    camera | 1f4f7 | bedroom beach mountain | 1.2 | black
    laptop | 1f4bb | bedroom kitchen | 1.4
    television, tv, telly | 1f4fa | bedroom kitchen | 1.2
    candle | 1f56f | bedroom kitchen | 1.1
    bed | 1f6cf | bedroom | 1.4
    bottle | 1f37e | kitchen beach | 1.2 | green
    apple | 1f34e 1f34f | kitchen garden | 1.6
    banana | 1f34c | kitchen bedroom | 1.4 | yellow
    pizza | 1f355 | kitchen street | 1.4
    hamburger, burger | 1f354 | kitchen street beach | 1.3
    cake | 1f382 | kitchen bedroom | 1.4
    donut, doughnut | 1f369 | kitchen street | 1.2
    ice cream | 1f366 | beach kitchen street | 1.3
    bread | 1f35e | kitchen | 1.2 | brown
    cheese | 1f9c0 | kitchen | 1.1 | yellow
    carrot | 1f955 | kitchen garden snow | 1.2 | orange
    corn, maize | 1f33d | kitchen field | 1.1 | yellow
    watermelon | 1f349 | kitchen beach | 1.1
    sun | 2600 | {OPEN} desert snow | 2.2 | yellow | shine
    moon | 1f319 1f315 | city sky forest | 1.4 | yellow | shine
    cloud | 2601 | {OPEN} desert | 2 | white
    rainbow | 1f308 | sky field sea mountain | 1.2
    castle | 1f3f0 | mountain field forest | 1.2
    fire, bonfire | 1f525 | beach forest desert snow | 1.2 | | burn
    """
)

_TINTABLE = _table(
    """
    car, automobile, auto | 1f697 1f699 | street city desert mountain | 3.5 | | drive
    bus | 1f68c 1f68d | street city | 2 | | drive
    truck, lorry | 1f69a 1f69b | street city desert | 1.6 | | drive
    tractor | 1f69c | field garden | 1.3 | | drive
    train, locomotive | 1f682 1f686 | city mountain field | 1.4 | | drive
    sailboat, sailing boat | 26f5 | sea lake beach | 2 | | float
    ship | 1f6a2 | sea | 1.4 | | float
    canoe | 1f6f6 | lake sea | 1.2 | brown | float
    balloon | 1f388 | sky field street bedroom | 1.8 | red | fly
    kite | 1fa81 | sky beach field | 1.4 | | fly
    umbrella, parasol | 2602 26f1 | beach street garden | 1.8
    book | 1f4d5 1f4d6 | bedroom kitchen garden | 1.6
    chair | 1fa91 | kitchen bedroom garden beach | 1.6 | brown
    couch, sofa | 1f6cb | bedroom | 1.4 | brown
    cup, mug | 2615 | kitchen bedroom | 1.6
    hat | 1f452 1f3a9 | beach bedroom desert | 1.4
    shoe | 1f45f 1f45e | bedroom street | 1.2
    backpack, rucksack | 1f392 | mountain forest bedroom street | 1.3
    tent | 26fa | forest mountain field beach desert | 1.4
    house | 1f3e0 1f3e1 | field street snow garden mountain | 2.2
    clock, alarm clock | 23f0 | bedroom kitchen | 1.3
    """,
    tintable=True,
)

_NEVER_CAPTIONED = _table(
    """
    zebra | 1f993 | field desert
    kangaroo | 1f998 | desert field
    penguin | 1f427 | snow beach sea
    swan | 1f9a2 | lake sea garden | | white
    flamingo | 1f9a9 | lake beach | | pink
    lobster | 1f99e | sea beach kitchen | | red
    snail | 1f40c | garden forest
    peacock | 1f99a | garden field | | blue
    strawberry | 1f353 | kitchen garden | | red
    pineapple | 1f34d | kitchen beach
    violin | 1f3bb | bedroom city | | brown
    ambulance | 1f691 | street city | | white
    """,
    never_captioned=True,
)

NOUNS: dict[str, Noun] = {noun.name: noun for noun in [*_PLAIN, *_TINTABLE, *_NEVER_CAPTIONED]}
NEVER_CAPTIONED = tuple(noun.name for noun in _NEVER_CAPTIONED)

KINDS = {  # what else each may rightly be called, though its row does not: mostly the head of its name
    "palm tree": ("tree",),
    "traffic light": ("light",),
    "soccer ball": ("ball",),
    "basketball": ("ball",),
    "sailboat": ("boat",),
    "ship": ("boat",),
    "canoe": ("boat",),
    "motorcycle": ("bike",),
    "whale": ("blue whale",),
    "bicycle": ("bike",),
}
PEOPLE = {"man": ("man", "guy", "man"), "woman": ("woman", "lady", "woman")}  # what they are called
ACTIVITIES = (
    Activity("surf", "1f3c4", "surfing on a {}", frozenset({"sea", "beach", "lake"}), "surfboard"),
    Activity("ride", "1f6b4", "riding a {}", frozenset({"street", "city", "field", "forest"}), "bicycle"),
    Activity("ride", "1f6b5", "riding a {}", frozenset({"mountain", "forest", "desert"}), "bicycle"),
    Activity("swim", "1f3ca", "swimming", frozenset({"sea", "lake"})),
    Activity("row", "1f6a3", "rowing", frozenset({"sea", "lake"})),
    Activity("run", "1f3c3", "running", frozenset({"street", "beach", "field", "forest", "desert"})),
    Activity("walk", "1f6b6", "walking", frozenset({"street", "beach", "city", "snow", "forest", "garden"})),
    Activity("dance", "1f483", "dancing", frozenset({"street", "beach", "city", "bedroom"}), gender="woman"),
    Activity("dance", "1f57a", "dancing", frozenset({"street", "beach", "city", "bedroom"}), gender="man"),
    Activity("juggle", "1f939", "juggling", frozenset({"street", "city", "bedroom", "field"})),
    Activity("kneel", "1f9ce", "kneeling", frozenset({"garden", "kitchen", "bedroom", "field"})),
    Activity("climb", "1f9d7", "climbing", frozenset({"mountain", "snow"})),
)


IRREGULAR_PLURALS = {
    "mouse": "mice",
    "sheep": "sheep",
    "deer": "deer",
    "fish": "fish",
    "cactus": "cacti",
    "man": "men",
    "woman": "women",
    "snowman": "snowmen",
}


def plural(word: str) -> str:
    """The plural of a noun of this table."""
    if word in IRREGULAR_PLURALS:
        return IRREGULAR_PLURALS[word]
    if word.endswith(("s", "x", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"
