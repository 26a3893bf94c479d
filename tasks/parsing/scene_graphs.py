"""Scene graphs as SceneGraphParser draws them, from documents that are already parsed.

``sng_parser.Parser.parse`` runs every component of the language model on one caption at a time; the graph itself
is a short walk over the dependency tree. This is that walk over :class:`Tokens`; :func:`as_dict` gives exactly
what ``sng_parser`` returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sng_parser.database import is_phrasal_prep, is_phrasal_verb, is_scene_noun

from tasks.parsing.tokens import Tokens


@dataclass(frozen=True)
class Entity:
    """A noun phrase: tokens ``start`` to ``end - 1`` around ``root``, with the tokens that describe it."""

    start: int
    end: int
    root: int
    modifiers: tuple[tuple[str, int], ...]  # (dependency label, token)
    compounds: tuple[int, ...]


@dataclass(frozen=True)
class Relation:
    """``subject`` and ``object`` are positions in the graph's entities, ``words`` the tokens that relate them."""

    subject: int
    object: int
    words: tuple[int, ...]
    lemma_words: tuple[int, ...]
    contiguous: bool = False  # a phrasal preposition, written with the text's own spacing


@dataclass(frozen=True)
class SceneGraph:
    entities: tuple[Entity, ...]
    relations: tuple[Relation, ...]


def build(tokens: Tokens) -> SceneGraph:
    """The scene graph of one caption."""
    pos, deps, heads = tokens.pos, tokens.deps, tokens.heads
    subject_of: dict[int, int] = {}
    for i, dep in enumerate(deps):
        if dep == "nsubj":
            subject_of[heads[i]] = i
        elif dep == "acl":
            subject_of[i] = heads[i]
        elif dep == "pobj" and deps[heads[i]] == "agent" and pos[heads[heads[i]]] == "VERB":
            subject_of[heads[heads[i]]] = i

    found: list[tuple[int, int, tuple[int, ...], tuple[int, ...], bool]] = []
    inside_prepositions = set()
    for _, _, root in tokens.chunks:
        dep, head = deps[root], heads[root]
        if dep in ("dobj", "attr", "nsubjpass") and head in subject_of:
            found.append((subject_of[head], root, (head,), (head,), False))
        elif dep == "pobj" and deps[head] != "agent":
            above = heads[head]
            top = heads[above]
            if (
                pos[above] == "VERB"
                and above + 1 == head
                and above in subject_of
                and is_phrasal_verb(f"{tokens.lemmas[above]} {tokens.lemmas[head]}")
            ):
                found.append((subject_of[above], root, (above, head), (above, head), False))
            elif (pos[above] == "VERB" or deps[above] == "acl") and above in subject_of:
                found.append((subject_of[above], root, (head,), (head,), False))
            elif deps[above] == "pobj" and is_phrasal_prep(tokens.span(top, head + 1).lower()):
                inside_prepositions.add(above)
                words = tuple(range(top, head + 1))
                found.append((heads[top], root, words, words[:-1], True))
            elif pos[above] == "NOUN":
                found.append((above, root, (head,), (head,), False))
            elif deps[above] in ("amod", "advmod") and pos[top] == "NOUN":
                found.append((top, root, (above, head), (above, head), False))
            elif deps[above] in ("amod", "advmod") and pos[top] == "VERB" and top in subject_of:
                found.append((subject_of[top], root, (above, head), (above, head), False))

    chunks = [chunk for chunk in tokens.chunks if chunk[2] not in inside_prepositions]
    position = {i: n for n, (start, end, _) in reversed(list(enumerate(chunks))) for i in range(start, end)}
    relations = []
    for subject, object_, words, lemma_words, contiguous in found:
        for s in _with_conjuncts(tokens, subject):
            for o in _with_conjuncts(tokens, object_):
                if s in position and o in position:
                    relations.append(Relation(position[s], position[o], words, lemma_words, contiguous))
    return SceneGraph(tuple(_entity(tokens, *chunk) for chunk in chunks), tuple(relations))


def as_dict(tokens: Tokens, graph: SceneGraph) -> dict[str, Any]:
    """The graph in the form that ``sng_parser.Parser.parse`` returns."""
    entities = []
    for entity in graph.entities:
        named = [*reversed(entity.compounds), entity.root]
        lemma_head = " ".join(tokens.lemmas[i] for i in named)
        entities.append(
            {
                "span": tokens.span(entity.start, entity.end),
                "lemma_span": tokens.lemma_span(entity.start, entity.end),
                "head": " ".join(tokens.words[i] for i in named),
                "lemma_head": lemma_head,
                "span_bounds": (entity.start, entity.end),
                "modifiers": [
                    {"dep": dep, "span": tokens.words[i], "lemma_span": tokens.lemmas[i]} for dep, i in entity.modifiers
                ],
                "type": "scene" if is_scene_noun(lemma_head) else "unknown",
            }
        )
    relations = []
    for relation in graph.relations:
        words, lemma_words = relation.words, relation.lemma_words
        spans = relation.contiguous
        relations.append(
            {
                "subject": relation.subject,
                "object": relation.object,
                "relation": tokens.span(words[0], words[-1] + 1) if spans else _joined(tokens.words, words),
                "lemma_relation": tokens.lemma_span(lemma_words[0], lemma_words[-1] + 1)
                if spans
                else _joined(tokens.lemmas, lemma_words),
            }
        )
    return {"entities": entities, "relations": relations}


def _entity(tokens: Tokens, start: int, end: int, root: int) -> Entity:
    modifiers: list[tuple[str, int]] = []
    compounds = []
    for child in tokens.children[root]:
        dep = tokens.deps[child]
        if dep in ("det", "nummod"):
            modifiers.append((dep, child))
        elif dep == "amod":
            modifiers.extend((dep, word) for word in _with_conjuncts(tokens, child))
        elif dep == "compound":
            compounds.append(child)
    return Entity(start, end, root, tuple(modifiers), tuple(compounds))


def _with_conjuncts(tokens: Tokens, i: int) -> list[int]:
    return [i, *(child for child in tokens.children[i] if tokens.deps[child] == "conj")]


def _joined(strings: list[str], indices: tuple[int, ...]) -> str:
    return " ".join(strings[i] for i in indices)
