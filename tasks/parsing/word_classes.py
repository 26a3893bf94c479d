"""Which words of a caption are nouns, verbs, adjectives or names: the tagger's opinion, repaired.

The small English model was trained on news. In captions it calls many a verb a noun ("a man rides a bike", "two dogs
run past"), and some nouns verbs or adjectives ("engineer with a blueprint", "a croissant"). The repairs are rules of
English: an article needs a noun, a singular article no plural, a clause a verb, a base form no singular subject.
"""

from __future__ import annotations

from tasks.parsing.lemmas import Lemmas
from tasks.parsing.lexicon import words
from tasks.parsing.scene_graphs import SceneGraph
from tasks.parsing.terms import term_at
from tasks.parsing.tokens import Tokens

NOUN, VERB, ADJECTIVE, NAME, OTHER = "noun", "verb", "adjective", "name", ""

_BE = frozenset({"is", "are", "was", "were", "be", "been", "being", "am", "'s", "'re"})
_CLAUSE_ENDS = frozenset(
    {
        ",", ".", ";", ":", "while", "as", "when", "and", "but", "who", "that", "which", "because", "-"
    }
)  # fmt: skip
_PERSONS = frozenset(
    {
        "male", "female", "adult", "senior", "junior", "elderly", "blond", "blonde", "brunette", "teenage",
        "asian", "african", "american"
    }
)  # fmt: skip


def word_classes(tokens: Tokens, graph: SceneGraph, lemmas: Lemmas) -> list[str]:
    """The class of each token: NOUN, VERB, ADJECTIVE, NAME or OTHER."""
    kinds = [_kind(tokens, lemmas, i) for i in range(len(tokens))]
    for relation in graph.relations:
        for i in relation.words:
            if kinds[i] == NOUN and lemmas.verb(tokens.lower[i]):
                kinds[i] = VERB
    _repair(tokens, lemmas, kinds)
    return kinds


def _kind(tokens: Tokens, lemmas: Lemmas, i: int) -> str:
    tag, word, lower = tokens.tags[i], tokens.words[i], tokens.lower[i]
    if not word[0].isalpha() or (len(word) < 2):
        return ""
    if lower in words("attributes") and (tag[0] in "JR" or not _heads_a_phrase(tokens, i)):
        return ADJECTIVE
    small = word == lower
    if (lower in words("names") and not (small and lower in words("names_or_things"))) or (
        tag[:3] == "NNP" and not small
    ):
        return NAME
    if lower in _BE:
        return ""
    if (
        tag in ("NN", "NNP")
        and lower in lemmas.adjectives
        and lower not in lemmas.nouns
        and (lower.endswith("ed") or not lemmas.verb(lower))
    ):
        return ADJECTIVE
    if tag[0] == "N":
        return NOUN
    if tag[:2] == "JJ":
        return ADJECTIVE
    if tag[:2] == "VB":
        return VERB
    return ""


def _heads_a_phrase(tokens: Tokens, i: int) -> bool:
    """Is ``i`` the noun that its phrase is about, rather than a word before that noun?"""
    return tokens.tags[i][:2] == "NN" and not (i + 1 < len(tokens) and tokens.tags[i + 1][:2] == "NN")


def _repair(tokens: Tokens, lemmas: Lemmas, kinds: list[str]) -> None:
    """Word classes that the tagger gets wrong in captions, from left to right."""
    for i, kind in enumerate(kinds):
        if kind in (NOUN, ADJECTIVE) and _is_verb(tokens, lemmas, kinds, i):
            kinds[i] = VERB
        elif (kind == VERB and _verb_is_noun(tokens, lemmas, kinds, i)) or (
            kind == ADJECTIVE and _adjective_is_noun(tokens, lemmas, kinds, i)
        ):
            kinds[i] = NOUN


def _is_verb(tokens: Tokens, lemmas: Lemmas, kinds: list[str], i: int) -> bool:
    """Is the word that the tagger calls a noun or an adjective the verb of its clause?"""
    lower, tag = tokens.lower[i], tokens.tags[i]
    verb = lemmas.verb(lower)
    if not verb or lower in words("plural_nouns") or (tag[0] == "J" and not lower.endswith("s")):
        return False
    before = i - 1
    while before >= 0 and tokens.tags[before] == "RB":
        before -= 1
    if before < 0 and lower.endswith("s") and verb != lower:
        closed = i + 1 < len(tokens) and tokens.tags[i + 1] in ("IN", "DT", "PRP$", "TO", "RP")
        return closed and verb in words("caption_verbs") and not _has_finite_verb(tokens, kinds, i)
    if before < 0 or term_at(tokens, lemmas, before, i + 2) or term_at(tokens, lemmas, before, i + 1):
        return False
    if term_at(tokens, lemmas, i, i + 2):
        return False
    after = i + 1 if i + 1 < len(tokens) else -1
    after_noun = kinds[before] in (NOUN, NAME) or (tokens.lower[before] == "another" and tag == "NNS")
    takes_object = after > 0 and tokens.tags[after] in ("DT", "PRP$", "PRP")
    closes = after < 0 or (kinds[after] not in (NOUN, NAME, ADJECTIVE) and tokens.tags[after] not in ("POS", "HYPH"))
    likely = verb in words("caption_verbs")
    if after > 0 and tokens.lower[after] in ("of", "-"):
        return False
    participle = after > 0 and tokens.tags[after] in ("VBG", "VBN")
    if lower.endswith("ing") and lower != verb:
        if tokens.lower[before] in _BE or tokens.lower[before] in ("out", "go", "goes", "going"):
            return lower not in words("not_verbs") or takes_object
        if lower in words("not_verbs"):
            return False
        if tokens.lower[before] in ("and", "while") and likely and (takes_object or closes):
            return any(kinds[k] == VERB and tokens.lower[k].endswith("ing") for k in range(before))
        return after_noun
    if not after_noun or participle:
        return False
    if takes_object:
        return lower.endswith("s") or tokens.tags[before] == "NNS"
    if lower.endswith("s") and lower != verb:
        if _has_singular_article(tokens, kinds, before):
            return closes or (likely and tokens.tags[after] in ("JJ", "NNS", "NN", "VBG"))
        opens_object = closes or tokens.tags[after] in ("JJ", "NNS", "NN")
        return likely and opens_object and not _has_finite_verb(tokens, kinds, i)
    opens_object = after > 0 and likely and tokens.tags[after] in ("NNS", "JJ")
    if lower == verb and (closes or opens_object) and not _has_finite_verb(tokens, kinds, i):
        plural = tokens.tags[before] == "NNS" or tokens.lower[before] in words("plural_nouns")
        if plural:
            return True
        if not likely or verb in words("scenes"):
            return False
        joined = any(tokens.lower[k] == "and" for k in range(max(0, before - 4), before))
        return joined or tokens.tags[0] == "NNS" or tokens.lower[0] in words("plural_nouns")
    return False


def _has_singular_article(tokens: Tokens, kinds: list[str], noun: int) -> bool:
    """Does the phrase that ends in ``noun`` begin with a, an, one: so that it cannot end in a plural?"""
    if tokens.tags[noun] == "NNS":
        return False
    start = noun
    while start > 0 and (kinds[start] in (NOUN, ADJECTIVE) or tokens.tags[start] in ("VBG", "VBN", "CC", ",", "HYPH")):
        start -= 1
    return tokens.lower[start] in ("a", "an", "one", "each", "every", "another", "this")


def _has_finite_verb(tokens: Tokens, kinds: list[str], i: int) -> bool:
    """Does the clause around ``i`` have a finite verb already?"""
    for step in (-1, 1):
        k = i + step
        while 0 <= k < len(tokens) and tokens.lower[k] not in _CLAUSE_ENDS:
            finite = tokens.tags[k] in ("VBZ", "VBP", "VBD", "MD") and (kinds[k] == VERB or tokens.lower[k] in _BE)
            if finite or (kinds[k] == VERB and tokens.tags[k][:2] == "NN" and not tokens.lower[k].endswith("ing")):
                return True
            k += step
    return False


def _verb_is_noun(tokens: Tokens, lemmas: Lemmas, kinds: list[str], i: int) -> bool:
    """Is the word that the tagger calls a finite verb a noun: "the surf", "engineer with a blueprint"?"""
    lower, tag = tokens.lower[i], tokens.tags[i]
    before, after = i - 1, i + 1
    next_tag = tokens.tags[after] if after < len(tokens) else "."
    if not lemmas.verb(lower):
        return lemmas.noun(lower) in lemmas.nouns
    if lemmas.verb(lower) in words("not_actions"):
        return False
    if tag in ("VB", "VBP", "VBZ") and next_tag not in ("DT", "PRP$", "PRP"):
        if term_at(tokens, lemmas, before, i + 1):
            return True
        if lower in words("plural_nouns") and before >= 0 and kinds[before] in (NOUN, ADJECTIVE):
            return True
    if lower in words("not_verbs"):
        if tag == "VBG" and before >= 0 and kinds[before] == NOUN:
            return False
        helped = before >= 0 and tokens.lower[before] in _BE
        return not (next_tag in ("DT", "PRP$", "PRP") or (helped and next_tag != "."))
    if tag not in ("VB", "VBP", "VBZ", "VBD", "VBN") or lemmas.noun(lower) not in lemmas.nouns:
        return False
    base_form = lemmas.verb(lower) == lower
    likely = lower in words("caption_verbs")
    if before < 0:
        verb_follows = after < len(tokens) and lemmas.verb(tokens.lower[after]) and tokens.lower[after][-1] == "s"
        return not likely and (next_tag in ("IN", "VBG", "VBZ", "VBN", "CC") or bool(verb_follows))
    if tokens.tags[before] in ("DT", "PRP$", "POS") and tokens.lower[before] not in ("that", "this", "all", "both"):
        return after >= len(tokens) or kinds[after] not in (NOUN, ADJECTIVE)
    if tag == "VBN":
        return False
    if kinds[before] == ADJECTIVE and tokens.lower[before] not in _BE and next_tag in ("IN", ".", ",", "CC"):
        return not likely
    if next_tag in (".", "IN") and tokens.tags[before] == "CC" and before and kinds[before - 1] == NOUN:
        return base_form and not likely
    # A base form does not agree with a singular subject.
    lone = tokens.tags[before] == "NN" and "and" not in tokens.lower[max(0, i - 3) : i] and tag in ("VB", "VBP")
    helped = any(tokens.tags[k] in ("MD", "TO") or tokens.lower[k] in ("do", "does", "did") for k in range(i))
    return lone and base_form and not likely and not helped and next_tag in ("IN", ".", ",", "CC", "VBG")


def _adjective_is_noun(tokens: Tokens, lemmas: Lemmas, kinds: list[str], i: int) -> bool:
    """Is the word that the tagger calls an adjective the noun of its phrase: "a croissant", "an official"?"""
    lower, before, after = tokens.lower[i], i - 1, i + 1
    if tokens.tags[i][0] != "J" or lower in words("colors"):
        return False
    if lemmas.noun(lower) not in lemmas.nouns:
        # A word that no dictionary has, in a noun's place: "in formal dresswear".
        coined = lower not in lemmas.adjectives and not lemmas.verb(lower) and tokens.tags[before] in ("JJ", "DT")
        ends = after >= len(tokens) or tokens.tags[after] in (".", ",", "IN", "CC")
        return coined and before >= 0 and ends and tokens.deps[i] in ("pobj", "dobj", "nsubj")
    person = lower in _PERSONS and before >= 0 and tokens.tags[before] in ("DT", "CD", "JJ", "PRP$")
    if lower in words("attributes") and not person:
        return False
    if lower not in lemmas.adjectives and not lower.endswith(("ed", "ful", "ous", "ish", "less")):
        return True
    follows = tokens.lower[after] if after < len(tokens) else ""
    # "a mechanic repairs an engine": what follows is the verb.
    verb_follows = tokens.tags[after][:2] in ("NN", "VB") if follows else False
    verb_follows = verb_follows and lemmas.verb(follows) in words("caption_verbs") and follows != "-"
    more = follows and (kinds[after] in (NOUN, ADJECTIVE, NAME) or tokens.tags[after] in ("HYPH", "VBG"))
    if not more and tokens.deps[i] in ("nsubj", "nsubjpass", "dobj", "pobj") and not lower.endswith("ed"):
        return True
    if more and not (verb_follows and (person or follows.endswith("s"))):
        return False
    nominal = before >= 0 and tokens.tags[before] in ("DT", "PRP$", "JJ", "CD")
    return (nominal or verb_follows) and follows not in ("and", ",", "-", "but")
