"""Base forms of English words, by a verb's and a noun's own spelling rules rather than by the first rule that fits."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from spacy.language import Language

from tasks.parsing.lexicon import words

_VOWELS = "aeiou"
_CACHE = 1 << 16


class Lemmas:
    """Base forms from a language model's dictionary of words and irregular forms (WordNet's, as spaCy packs it)."""

    def __init__(self, nlp: Language) -> None:
        lookups = nlp.get_pipe("lemmatizer").lookups  # type: ignore[attr-defined]
        index = lookups.get_table("lemma_index")
        irregular = lookups.get_table("lemma_exc")
        self.nouns, self.verbs = frozenset(index["noun"]), frozenset(index["verb"])
        self.adjectives, self.adverbs = frozenset(index["adj"]), frozenset(index["adv"])
        self._irregular: dict[str, Mapping[str, list[str]]] = {
            kind: dict(irregular[kind]) for kind in ("noun", "verb", "adj")
        }
        self._plural = words("plural_nouns")
        self.noun = lru_cache(_CACHE)(self._noun)
        self.verb = lru_cache(_CACHE)(self._verb)
        self.adjective = lru_cache(_CACHE)(self._adjective)
        self.knows = lru_cache(_CACHE)(self._knows)

    def _knows(self, word: str) -> bool:
        """Is this an English word, in any form?"""
        return (
            word in self.nouns
            or word in self.adjectives
            or word in self.adverbs
            or self.noun(word) in self.nouns
            or bool(self.verb(word))
        )

    def _noun(self, word: str) -> str:
        """The singular of a noun; nouns that live in the plural stay."""
        if word in self._plural or len(word) < 3:
            return word
        if word in _IRREGULAR_NOUNS:
            return _IRREGULAR_NOUNS[word]
        if word.endswith("men") and word[:-2] + "an" in self.nouns:
            return word[:-2] + "an"
        if word in self._irregular["noun"]:
            return min(self._irregular["noun"][word], key=len)
        if not word.endswith("s") or word.endswith(("ss", "us", "is")):
            return word
        for ending, replacement in (("ies", "y"), ("ves", "f"), ("ves", "fe"), ("es", "e"), ("es", ""), ("s", "")):
            if word.endswith(ending):
                singular = word[: -len(ending)] + replacement
                if len(singular) > 1 and singular in self.nouns:
                    return singular
        if word in self.nouns:
            return word
        if word.endswith("ies") and len(word) > 4:
            return word[:-3] + "y"
        return word[:-2] if word.endswith(("ches", "shes", "sses", "xes", "zes")) else word[:-1]

    def _verb(self, word: str) -> str:
        """The base form of a verb; "" where no verb is known that has this form."""
        if word in _IRREGULAR_VERBS:
            return _IRREGULAR_VERBS[word]
        if word in self._irregular["verb"]:
            known = [base for base in self._irregular["verb"][word] if base in self.verbs]
            if known:
                return known[0]
        if word.endswith("s") and not word.endswith("ss"):
            for ending, replacement in (("ies", "y"), ("es", "e"), ("s", ""), ("es", "")):
                if word.endswith(ending) and word[: -len(ending)] + replacement in self.verbs:
                    return word[: -len(ending)] + replacement
        for ending in ("ing", "ied", "ed", "in'"):
            if not word.endswith(ending) or len(word) < len(ending) + 2:
                continue
            if ending == "ied":
                return word[:-3] + "y" if word[:-3] + "y" in self.verbs else ""
            stem = word[: -len(ending)]
            bare, with_e = stem in self.verbs, stem + "e" in self.verbs
            if bare and with_e:
                return stem + "e" if _would_double(stem) or stem.endswith(("th", "u", "c", "s")) else stem
            if bare or with_e:
                return stem if bare else stem + "e"
            if len(stem) > 2 and stem[-1] == stem[-2] and stem[:-1] in self.verbs:
                return stem[:-1]
        return word if word in self.verbs else ""

    def _adjective(self, word: str) -> str:
        """The positive of a comparative or superlative."""
        if word in self.adjectives and not word.endswith(("er", "est")):
            return word
        if word in self._irregular["adj"]:
            return self._irregular["adj"][word][0]
        for ending in ("est", "er"):
            stem = word[: -len(ending)]
            if word.endswith(ending) and len(stem) > 2:
                doubled = stem[:-1] if stem[-1] == stem[-2] else stem
                with_e = stem + "e"
                for base in (with_e if _would_double(stem) else "", stem[:-1] + "y", stem, with_e, doubled):
                    if base in self.adjectives:
                        return base
        return word


def _would_double(stem: str) -> bool:
    """Would a verb of this spelling double its last letter (rid, ridding)? Then "riding" is not its form."""
    return (
        len(stem) > 2
        and stem[-1] not in _VOWELS + "wxy"
        and stem[-2] in _VOWELS
        and stem[-3] not in _VOWELS
        and sum(letter in _VOWELS for letter in stem) == 1
    )


_IRREGULAR_NOUNS = {
    "children": "child", "women": "woman", "men": "man", "feet": "foot", "teeth": "tooth", "geese": "goose",
    "mice": "mouse", "leaves": "leaf", "knives": "knife", "loaves": "loaf", "wolves": "wolf", "calves": "calf",
    "scarves": "scarf", "hooves": "hoof", "shelves": "shelf", "wives": "wife", "lives": "life", "halves": "half",
    "elves": "elf", "thieves": "thief", "waves": "wave", "gloves": "glove", "sleeves": "sleeve", "olives": "olive",
    "caves": "cave", "doves": "dove", "stoves": "stove", "graves": "grave", "groves": "grove", "slaves": "slave",
    "oxen": "ox", "buses": "bus", "busses": "bus", "dice": "dice", "kids": "kid", "ladies": "lady", "cookies": "cookie",
    "movies": "movie", "selfies": "selfie", "hoodies": "hoodie", "brownies": "brownie", "smoothies": "smoothie",
    "axes": "axe", "shoes": "shoe", "canoes": "canoe", "toes": "toe", "potatoes": "potato", "tomatoes": "tomato",
    "heroes": "hero", "echoes": "echo", "lenses": "lens", "glasses": "glasses", "species": "species", "ties": "tie",
    "pies": "pie", "zombies": "zombie", "birdies": "birdie", "doggies": "doggy", "veggies": "veggie", "taxis": "taxi",
    "skis": "ski", "menus": "menu", "gurus": "guru", "emus": "emu", "tiramisus": "tiramisu", "kiwis": "kiwi",
    "bikinis": "bikini", "saris": "sari", "safaris": "safari", "graffiti": "graffiti", "cacti": "cactus",
    "fungi": "fungus", "media": "media", "data": "data", "bases": "base", "cliffs": "cliff", "roofs": "roof",
}  # fmt: skip

_IRREGULAR_VERBS = {
    "lying": "lie", "lies": "lie", "lied": "lie", "lay": "lay", "laying": "lay", "laid": "lay", "lain": "lie",
    "dying": "die", "tying": "tie", "felt": "feel", "found": "find", "ground": "grind", "saw": "see", "seen": "see",
    "wound": "wind", "bound": "bind", "left": "leave", "fell": "fall", "felling": "fell", "fallen": "fall",
    "hung": "hang", "sat": "sit", "stood": "stand", "shot": "shoot", "lit": "light", "rose": "rise", "rode": "ride",
    "wore": "wear", "tore": "tear", "bit": "bite", "dove": "dive", "flew": "fly", "drew": "draw", "swung": "swing",
    "putting": "put", "dyeing": "dye", "singeing": "singe", "singing": "sing", "swinging": "swing", "skiing": "ski",
    "taxiing": "taxi", "focused": "focus", "focusing": "focus", "staring": "stare", "starring": "star", "led": "lead",
    "fed": "feed", "held": "hold", "bent": "bend", "sought": "seek", "bathing": "bathe", "bathed": "bathe",
    "planing": "plane", "caring": "care", "using": "use", "used": "use", "icing": "ice", "axing": "axe",
    "refereeing": "referee", "canoeing": "canoe", "skated": "skate", "spat": "spit", "shone": "shine", "swam": "swim",
    "biking": "bike", "hiking": "hike", "kayaking": "kayak", "kneeling": "kneel", "knelt": "kneel", "leapt": "leap",
    "windsurfing": "windsurf", "parasailing": "parasail", "snowboarding": "snowboard", "wakeboarding": "wakeboard",
    "kiteboarding": "kiteboard", "kitesurfing": "kitesurf", "rollerblading": "rollerblade", "texting": "text",
    "tubing": "tube", "rappelling": "rappel", "rappels": "rappel", "snorkeling": "snorkel", "selfie": "",
    "longboarding": "longboard", "photographing": "photograph", "multitasking": "multitask", "googling": "google",
    "tobogganing": "toboggan", "sunbathing": "sunbathe", "sunbathes": "sunbathe", "sunbathe": "sunbathe",
    "breakdancing": "breakdance", "wakeboards": "wakeboard", "snowboards": "snowboard", "rollerblades": "rollerblade",
    "parasails": "parasail", "headbutting": "headbutt", "paragliding": "paraglide", "crowdsurfing": "crowdsurf",
    "tased": "tase", "dabbing": "dab", "vaping": "vape", "selling": "sell", "telling": "tell", "filling": "fill",
}  # fmt: skip
