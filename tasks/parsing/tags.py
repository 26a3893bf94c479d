"""From a parsed caption to typed tags: rules of English over word classes, dependencies and the scene graph.

Entity heads become objects or scenes, what modifies them attributes, and verbs actions. SceneGraphParser stops
there; what follows finds terms of several words, verbs that relate nothing, predicate adjectives and participles,
and leaves out what is no tag: pronouns, numbers, names, quantity words, words about the picture, whatever is negated.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.parsing.lemmas import Lemmas
from tasks.parsing.lexicon import words
from tasks.parsing.scene_graphs import SceneGraph
from tasks.parsing.terms import longest_term_at
from tasks.parsing.tokens import Tokens
from tasks.parsing.word_classes import ADJECTIVE, NOUN, VERB, word_classes

OBJECT, SCENE, ATTRIBUTE, ACTION = "object", "scene", "attribute", "action"

_PLACE_PREPOSITIONS = frozenset(
    {
        "in", "on", "at", "through", "across", "into", "inside", "onto", "along", "down", "up", "over", "around",
        "near", "by"
    }
)  # fmt: skip
_NUMBERS = frozenset({"one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "year"})
# States that come with "by" and yet are nobody's action.
_SURROUNDED = frozenset(
    {
        "surrounded", "covered", "filled", "lined", "topped", "crowded", "lit", "illuminated", "shaded",
        "flooded"
    }
)  # fmt: skip
_PREFIXES = frozenset({"self", "well", "multi", "semi", "non", "anti", "mid", "half", "co", "ex", "pre", "re", "ultra"})
_OF_THE_SAME = frozenset({"piece", "slice", "group", "pair"})


@dataclass(frozen=True)
class Phrase:
    """A tag as it stands in a caption, in characters ``start`` to ``end - 1``.

    ``type`` is object, scene, attribute or action.
    """

    surface: str
    lemma: str
    type: str
    start: int
    end: int


def phrases(tokens: Tokens, graph: SceneGraph, lemmas: Lemmas) -> tuple[Phrase, ...]:
    """The tags of one caption in the order of the text, each (lemma, type) once."""
    return _Tags(tokens, graph, lemmas).phrases()


class _Tags:
    """The tags of one caption: terms of several words first, then every word that is left."""

    def __init__(self, tokens: Tokens, graph: SceneGraph, lemmas: Lemmas) -> None:
        self.tokens, self.graph, self.lemmas = tokens, graph, lemmas
        self.kinds = word_classes(tokens, graph, lemmas)
        self.negated = _negated(tokens, self.kinds)
        self.taken: set[int] = set()
        self.found: list[Phrase] = []

    def phrases(self) -> tuple[Phrase, ...]:
        self._hyphenated_words()
        self._terms()
        rules = {NOUN: self._noun, ADJECTIVE: self._adjective, VERB: self._verb}
        for i, kind in enumerate(self.kinds):
            if kind in rules and i not in self.taken:
                rules[kind](i)
        unique: dict[tuple[str, str], Phrase] = {}
        for phrase in sorted(self.found, key=lambda phrase: (phrase.start, -phrase.end)):
            unique.setdefault((phrase.lemma, phrase.type), phrase)
        return tuple(unique.values())

    def _add(self, start: int, end: int, lemma: str, type_: str) -> None:
        if not any(i in self.negated for i in range(start, end)):
            first, last = self.tokens.starts[start], self.tokens.end(end - 1)
            self.found.append(Phrase(self.tokens.text[first:last], lemma, type_, first, last))

    def _add_noun(self, start: int, end: int, lemma: str) -> None:
        if lemma not in words("picture_words"):
            self._add(start, end, lemma, _noun_type(self.tokens, end - 1, lemma))

    def _hyphenated_words(self) -> None:
        """T-shirt, long-haired, black-and-white: words joined by hyphens are one word, of the last one's class."""
        tokens = self.tokens
        i = 1
        while i + 1 < len(tokens):
            if tokens.words[i] != "-" or not tokens.words[i - 1][0].isalnum() or not tokens.words[i + 1][0].isalpha():
                i += 1
                continue
            first, last = i - 1, i + 1
            while last + 2 < len(tokens) and tokens.words[last + 1] == "-" and tokens.words[last + 2][0].isalpha():
                last += 2
            i = last + 1
            parts = tokens.lower[first : last + 1 : 2]
            spaced = tokens.starts[first + 1] > tokens.end(first)
            if not spaced or len(parts[0]) == 1 or self._is_word(parts):
                self.taken.update(range(first, last + 1))
                self._hyphenated(first, last, parts)

    def _is_word(self, parts: list[str]) -> bool:
        """Is a hyphen between spaces part of a word (as in tokenised text), not a dash?"""
        name = "-".join(parts)
        return parts[0] in _PREFIXES or name in self.lemmas.nouns or name in self.lemmas.adjectives

    def _hyphenated(self, first: int, last: int, parts: list[str]) -> None:
        if any(part[0].isdigit() or part in _NUMBERS for part in parts) or "close" in parts:
            return  # five-year-old, two-story, close-up
        if all(part in words("colors") or part == "and" for part in parts):
            for k, part in zip(range(first, last + 1, 2), parts, strict=True):
                if part != "and":
                    self._add(k, k + 1, part, ATTRIBUTE)
        elif self.kinds[last] == NOUN and self.tokens.heads[last] <= last:
            parts = [*parts[:-1], self.lemmas.noun(parts[-1])]
            spelled = " ".join(parts)
            known = spelled in words("compounds") or spelled in words("scenes")
            if parts[-1] not in words("picture_words"):
                self._add_noun(first, last + 1, spelled if known else "-".join(parts))
        elif "-".join(parts) not in words("not_attributes"):
            self._add(first, last + 1, "-".join(parts), ATTRIBUTE)

    def _terms(self) -> None:
        """Fire truck, parking lot: the longest term wins; its head is a tag as well where it names the same thing."""
        i = 0
        while i < len(self.tokens):
            name, end = longest_term_at(self.tokens, self.lemmas, i)
            activity = name in words("activities")
            if not name or i in self.taken or end - 1 in self.taken or (self.kinds[end - 1] == VERB and not activity):
                i += 1
                continue
            self.taken.update(range(i, end))
            last = self.tokens.lower[end - 1]
            if activity:
                self._add(i, end, self.lemmas.verb(last), ACTION)
            elif name not in words("picture_words"):
                self._add_noun(i, end, name)
                if name not in words("headless_compounds"):
                    self._add_noun(end - 1, end, self.lemmas.noun(last))
            i = end

    def _noun(self, i: int) -> None:
        tokens, lower = self.tokens, self.tokens.lower[i]
        following = i + 1 < len(tokens) and self.kinds[i + 1] == NOUN and self._in_one_entity(i)
        if lower in words("colors") and _is_color(tokens, i, following):
            self._add(i, i + 1, lower, ATTRIBUTE)
            return
        if following and lower.endswith("ing") and lower in self.lemmas.adjectives:
            self._add(i, i + 1, lower, ATTRIBUTE)  # a burning building
            return
        if following and not _names_nothing(self.lemmas.noun(tokens.lower[i + 1])):
            return  # a free compound is what its head is
        singular = tokens.tags[i] == "NN" and not lower.endswith("men")
        lemma = lower if singular else self.lemmas.noun(lower)
        if lemma in words("quantity_nouns") or lower in words("quantity_nouns"):
            return
        if lemma in words("quantities") and _counts(tokens, i):
            return
        if _is_garment(tokens, i, lemma):
            self._add(i, i + 1, lemma, OBJECT)
        else:
            self._add_noun(i, i + 1, lemma)

    def _in_one_entity(self, i: int) -> bool:
        """Do tokens ``i`` and ``i + 1`` stand in one noun phrase?"""
        inside = any(entity.start <= i and i + 1 < entity.end for entity in self.graph.entities)
        return inside or self.tokens.deps[i] == "compound"

    def _adjective(self, i: int) -> None:
        tokens, lower = self.tokens, self.tokens.lower[i]
        lemma = self.lemmas.adjective(lower) if tokens.tags[i] in ("JJR", "JJS") else lower
        if any(name in words("not_attributes") for name in (lemma, lower)):
            return
        if lemma in words("picture_words") or lemma in words("quantity_nouns"):
            return
        head = tokens.heads[i]
        if tokens.deps[i] == "conj":
            head = tokens.heads[head]
        if head > i and self.kinds[head] == NOUN and self.lemmas.noun(tokens.lower[head]) in words("pictures"):
            return  # a black and white photo, an aerial view
        self._add(i, i + 1, lemma, ATTRIBUTE)

    def _verb(self, i: int) -> None:
        tokens, lower, tag = self.tokens, self.tokens.lower[i], self.tokens.tags[i]
        lemma = self.lemmas.verb(lower)
        if tag in ("VBN", "VBG", "VBD") and self._is_before_noun(i):
            if lower not in words("not_attributes"):
                self._add(i, i + 1, lower, ATTRIBUTE)
            return
        if not lemma or lemma in words("not_actions") or tokens.deps[i] in ("aux", "auxpass"):
            return
        if lemma in words("speakers_verbs") and self._is_speakers(i):
            return
        past = tag in ("VBN", "VBD")
        after = i + 1 < len(tokens)
        if past and lemma == "make":
            return  # made of
        if lower == "left" and after and (tokens.tags[i + 1] in (",", ":") or self.kinds[i + 1] == VERB):
            return  # the left side of the picture
        children = tokens.children[i]
        dependencies = {tokens.deps[child] for child in children}
        done = "dobj" in dependencies or any(tokens.lower[child] == "being" for child in children)
        if any(tokens.tags[child] == "PRP" and tokens.deps[child] == "nsubj" for child in children):
            done = True  # we crossed
        if "agent" in dependencies and lower not in _SURROUNDED:
            done = True
        if past and lower in words("states") and not done:
            self._add(i, i + 1, lower, ATTRIBUTE)
        else:
            self._add(i, i + 1, lemma, ACTION)

    def _is_speakers(self, i: int) -> bool:
        """Is the verb ``i`` done by writer or reader: I found a dog, look at this puppy?"""
        tokens = self.tokens
        subjects = [tokens.lower[child] for child in tokens.children[i] if tokens.deps[child] in ("nsubj", "nsubjpass")]
        if subjects:
            return subjects[0] in ("i", "we", "you")
        return tokens.tags[i] not in ("VBG", "VBZ") and not any(kind in (NOUN, VERB) for kind in self.kinds[:i])

    def _is_before_noun(self, i: int) -> bool:
        """Does the participle ``i`` describe the noun behind it: a smiling woman, sliced lemon, a broken down car?"""
        tokens, kinds = self.tokens, self.kinds
        after = i + 1
        while after < len(tokens) and tokens.tags[after] == "RP":
            after += 1
        if after >= len(tokens) or kinds[after] not in (NOUN, ADJECTIVE) or (i and kinds[i - 1] == NOUN):
            return False  # a man holding puppies
        before = tokens.tags[i - 1] if i else ""
        if tokens.tags[i] == "VBG":
            if i and tokens.lower[i - 1] in ("for", "by", "while", "before", "after", "when"):
                return False
            opens = before in ("DT", "JJ", "CD") and tokens.deps[i] != "pcomp"
        else:
            opens = before in ("", "DT", "JJ", "PRP$", "IN", "CD")
        return opens or (tokens.heads[i] > i and tokens.deps[i] in ("amod", "compound", "nmod"))


def _names_nothing(head: str) -> bool:
    """Is a compound with this head about what stands before it: a cat silhouette, a disaster type?"""
    return head in words("quantity_nouns") or head in ("silhouette", "photo", "picture", "portrait", "illustration")


def _noun_type(tokens: Tokens, i: int, name: str) -> str:
    if name in words("ambiguous_places"):
        preposition = tokens.lower[tokens.heads[i]] if tokens.deps[i] == "pobj" else ""
        return SCENE if preposition in _PLACE_PREPOSITIONS else OBJECT
    return SCENE if name in words("scenes") else OBJECT


def _is_color(tokens: Tokens, i: int, following: bool) -> bool:
    """Does a colour word that is tagged as a noun name the colour (in red), not a thing (an orange)?"""
    if following or tokens.tags[i] == "NNS":
        return following
    under_in = tokens.deps[i] == "pobj" and tokens.lower[tokens.heads[i]] == "in"
    determined = any(tokens.deps[child] == "det" for child in tokens.children[i])
    return (under_in and not determined) or tokens.lower[i] not in words("things_and_colors")


def _is_garment(tokens: Tokens, i: int, lemma: str) -> bool:
    """A top that someone wears, not the top of something."""
    if lemma not in ("top", "bottom"):
        return False
    return not _before_of(tokens, i) and any(tokens.deps[c] in ("amod", "compound") for c in tokens.children[i])


def _before_of(tokens: Tokens, i: int) -> bool:
    return i + 1 < len(tokens) and tokens.lower[i + 1] == "of"


def _counts(tokens: Tokens, i: int) -> bool:
    """A crowd of people counts them; the crowd does not, nor the wall of a house."""
    if not _before_of(tokens, i) or i + 2 >= len(tokens):
        return False
    return tokens.tags[i + 2] not in ("DT", "PRP$", "CD") or tokens.lower[i] in _OF_THE_SAME


def _negated(tokens: Tokens, kinds: list[str]) -> set[int]:
    """The tokens of what is said not to be there."""
    result: set[int] = set()

    def phrase(noun: int) -> None:
        result.add(noun)
        for child in tokens.children[noun]:
            if tokens.deps[child] in ("amod", "compound", "nmod", "det"):
                result.add(child)
            elif tokens.deps[child] == "conj":
                phrase(child)

    for i, lower in enumerate(tokens.lower):
        head = tokens.heads[i]
        if lower in ("no", "neither", "zero") and tokens.deps[i] in ("det", "preconj", "nummod", "neg") and head > i:
            phrase(head)
        elif lower in ("without", "minus", "except"):
            for child in tokens.children[i]:
                phrase(child)
                for object_ in tokens.children[child]:
                    if kinds[child] == VERB and tokens.deps[object_] == "dobj":
                        phrase(object_)
        elif lower in ("not", "n't", "never") and head != i:
            result.add(head)
            for child in tokens.children[head]:
                if child > i and tokens.deps[child] in ("dobj", "attr", "acomp", "xcomp", "oprd"):
                    phrase(child)
                elif child > i and tokens.deps[child] == "prep":
                    for object_ in tokens.children[child]:
                        phrase(object_)
    return result
