"""What a caption must lose before it is parsed, and captions that nothing can be learned from.

Every change keeps the caption's length: noise becomes spaces, capitals become small letters. So a position in the
cleaned caption is the position in the caption as it came.
"""

from __future__ import annotations

import re
import unicodedata

from tasks.parsing.lemmas import Lemmas
from tasks.parsing.lexicon import words

_NOISE = re.compile(
    r"<(script|style)\b.*?</\1\s*>"
    r"|</?[a-zA-Z!][^<>]*>"
    r"|&#?\w{1,10};"
    r"|\b(?:https?://|www\.)\S*"
    r"|\b[\w-]+\.(?:com|net|org|co|uk|info|io|gov|edu|jpe?g|png|gif|html?)\b\S*"
    r"|\S+@\S+\.\w+"
    r"|[@#]\w+"
    r"|#"
    r"|\b(?:image|photo|picture) may contain\s*:?"
    r"|[-|:]+ *(?:royalty[ -]free|stock|vector|clip ?art|wallpapers?|photos? by|image by|pictures? of the day).*$"
    r"|\b(?:royalty[ -]free|copyright|all rights reserved|click (?:here|to|on)|getty images?|shutterstock|pinterest)\b",
    re.IGNORECASE | re.DOTALL,
)
_DOT_OR_DASH = re.compile(r"\w\.\w|- *[rsvcwpi]", re.IGNORECASE)
# A cheap test before the expensive one: what any match of _NOISE contains.
_NOISY_WORDS = ("royalty", "copyright", "all rights", "click", "getty", "shutterstock", "pinterest", "may contain")
_DASH_AT_AN_END = re.compile(r"^[\s\-:|]+|[\s\-:|]+$")
_PUNCTUATION = str.maketrans(
    {"\u2019": "'", "\u2018": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "-", "`": "'"}
)
_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")
_KEPT_SYMBOLS = frozenset("'\"-,.;:!?()/&%+*$=")


def clean(caption: str, lemmas: Lemmas, max_words: int) -> tuple[str, str]:
    """(the caption to parse, "") or ("", why it is rejected).

    Reasons: ``caption_empty``, ``caption_without_words``, ``caption_too_long`` (more than ``max_words`` words) and
    ``caption_not_english``.
    """
    if not caption.strip():
        return "", "caption_empty"
    if caption.count(" ") > 4 * max_words or len(caption) > 40 * max_words:
        return "", "caption_too_long"
    text = caption
    if (
        any(mark in caption for mark in "<&@#|:/")
        or _DOT_OR_DASH.search(caption)
        or any(word in caption.lower() for word in _NOISY_WORDS)
    ):
        text = _NOISE.sub(lambda match: " " * len(match[0]), caption)
    if not text.isascii():
        text = "".join(_plain(letter) for letter in text.translate(_PUNCTUATION))
    text = "".join(c if c.isalnum() or c in _KEPT_SYMBOLS else " " for c in text)
    text = _DASH_AT_AN_END.sub(lambda match: " " * len(match[0]), text)
    found = _WORD.findall(text)
    if not any(len(word) > 1 for word in found):
        return "", "caption_without_words"
    if len(found) > max_words:
        return "", "caption_too_long"
    if not _is_english(found, lemmas):
        return "", "caption_not_english"
    return _lower_common_words(text, lemmas), ""


def _plain(letter: str) -> str:
    """``letter``, or a space where it is a symbol, a control or a combining character."""
    return letter if letter.isascii() or unicodedata.category(letter)[0] == "L" else " "


def _is_english(found: list[str], lemmas: Lemmas) -> bool:
    lower = [word.lower() for word in found]
    latin = sum(word.isascii() for word in lower)
    if latin * 2 < len(lower):
        return False
    english = sum(word in words("function_words") for word in lower)
    foreign = sum(word in words("foreign_words") and word not in words("function_words") for word in lower)
    known = sum(word in words("function_words") or lemmas.knows(word) or "-" in word or "'" in word for word in lower)
    if foreign > english and foreign >= 2:
        return False
    # Two words in five: half of a web caption may be names and coinages.
    return known * 5 >= len(lower) * 2 or (len(lower) < 3 and latin == len(lower) and found[0][0].isupper())


def collapse_spaces(text: str) -> tuple[str, list[int]]:
    """(``text`` with single spaces, the position of each of its characters in ``text``, and of its end)."""
    kept = [i for i, c in enumerate(text) if c != " " or (i + 1 < len(text) and text[i + 1] != " ")]
    kept = kept[1:] if kept and text[kept[0]] == " " else kept
    return "".join(text[i] for i in kept), [*kept, kept[-1] + 1 if kept else 0]


def _lower_common_words(text: str, lemmas: Lemmas) -> str:
    """Small letters for dictionary words that stand at the start, in a Title Like This, or IN CAPITALS.

    Elsewhere a capital marks a name and stays.
    """
    if text.islower():
        return text
    matches = list(_WORD.finditer(text))
    lowers = [match[0].lower() for match in matches]
    common = [_is_common(lower, lemmas) for lower in lowers]
    long = [n for n, lower in enumerate(lowers) if lower not in words("function_words")]
    capitals = sum(matches[n][0][0].isupper() for n in long)
    capital_function_word = any(
        match[0][0].isupper() and lower in words("function_words") - {"i"}
        for match, lower in zip(matches[1:], lowers[1:], strict=True)
    )
    # Two capitals alone are a title where both are dictionary words (Red Roses), else a name (Ann Smith).
    title = capitals >= 0.7 * len(long) and (len(long) > 2 or capital_function_word or all(common[n] for n in long))
    shout = sum(matches[n][0].isupper() and len(lowers[n]) > 1 for n in long) >= max(1, 0.5 * len(long))
    result = list(text)
    after_name = False
    for n, (match, lower) in enumerate(zip(matches, lowers, strict=True)):
        if not match[0][0].isupper():
            after_name = False
            continue
        always = any(lower in words(source) for source in ("capitalised", "attributes", "function_words"))
        after_name = not always and (lower in words("given_names") or (after_name and text[match.start() - 1] == " "))
        starts = n == 0 or re.search(r"[.!?:]\s*$", text[: match.start()])
        before_name = n + 1 < len(matches) and matches[n + 1][0][0].isupper() and not common[n + 1]
        lowered = common[n] and not after_name and (title or shout or (starts and not before_name))
        if (always or lowered) and len(lower) == len(match[0]):
            result[match.start() : match.end()] = lower
    return "".join(result)


def _is_common(lower: str, lemmas: Lemmas) -> bool:
    if lower in words("function_words"):
        return True
    return lower not in words("names") and lower not in words("given_names") and lemmas.knows(lower)
