"""A rule file: changes by pattern, for thousands of tags at once.

A CSV with the columns ``action``, ``type``, ``pattern`` and ``value``. Rules hold in their order, each on what the one
before left. ``type`` may be empty for all. ``pattern`` matches whole names: with ``*`` and ``?``, or between slashes as
a regular expression. Actions, and what ``value`` is for them:

=========== ============================================================================
off         nothing: the tags are switched off
on          nothing: they are active
retire      nothing: they are removed
rename      the new name; ``\\1`` stands for a regular expression's first group
merge       the name of the tag that takes the names and synonyms of all others
type        the new type
groundable  yes or no
prompt      what a detector is asked for; ``\\1`` as above
=========== ============================================================================
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tasks.labels.sheet import YES, Row, SheetError, records_of
from tasks.labels.tags import TYPES

COLUMNS = ("action", "type", "pattern", "value")
ACTIONS = ("off", "on", "retire", "rename", "merge", "type", "groundable", "prompt")


@dataclass(frozen=True)
class Rule:
    """One line of a rule file; ``line`` is its number."""

    line: int
    action: str
    type: str
    pattern: str
    value: str = ""

    @property
    def regex(self) -> re.Pattern[str]:
        is_regex = len(self.pattern) > 1 and self.pattern.startswith("/") and self.pattern.endswith("/")
        return re.compile(self.pattern[1:-1] if is_regex else fnmatch.translate(self.pattern))

    def __str__(self) -> str:
        value = f" -> {self.value}" if self.value else ""
        return f"{self.line}: {self.action} {self.type or 'any'} {self.pattern}{value}"


def read(text: str) -> list[Rule]:
    """The rules of a rule file. Raises :class:`~tasks.labels.sheet.SheetError` with a sentence for each wrong line."""
    columns, records = records_of(text)
    if sorted(columns) != sorted(COLUMNS):
        raise SheetError([f"the columns of a rule file are {', '.join(COLUMNS)}, and not {', '.join(columns)}"])
    rules, problems = [], []
    for line, cells in records:
        given = dict(zip(columns, cells, strict=False))
        action, type_, pattern, value = (given.get(name, "") for name in COLUMNS)
        rule = Rule(line, action.lower(), type_.lower(), pattern, value)
        problem = _problem(rule)
        if problem:
            problems.append(f"rule {rule.line}: {problem}")
        rules.append(rule)
    if problems:
        raise SheetError(problems)
    return rules


def apply(rows: Sequence[Row], rules: Iterable[Rule]) -> tuple[list[Row], dict[Rule, int]]:
    """The rows after all rules, and the number of rows that each rule changed."""
    changed = list(rows)
    touched: dict[Rule, int] = {}
    for rule in rules:
        regex = rule.regex
        touched[rule] = 0
        for index, row in enumerate(changed):
            match = regex.fullmatch(row.name)
            if match is None or rule.type not in ("", row.type):
                continue
            after = _changed(row, rule, match)
            touched[rule] += after != row
            changed[index] = after
    return changed, touched


def _changed(row: Row, rule: Rule, match: re.Match[str]) -> Row:
    if rule.action in ("off", "on", "retire"):
        return replace(row, status={"off": "off", "on": "active", "retire": "retired"}[rule.action])
    if rule.action == "rename":
        return replace(row, name=_expanded(rule.value, match))
    if rule.action == "merge":
        return row if row.name == rule.value else replace(row, merge_into=rule.value)
    if rule.action == "type":
        return replace(row, type=rule.value)
    if rule.action == "groundable":
        return replace(row, groundable=YES[rule.value.lower()])
    return replace(row, prompt=_expanded(rule.value, match))


def _expanded(value: str, match: re.Match[str]) -> str:
    return match.expand(value).strip() if "\\" in value else value


def _problem(rule: Rule) -> str:
    if rule.action not in ACTIONS:
        return f"the action '{rule.action}' is unknown; it may be {', '.join(ACTIONS)}"
    if rule.type and rule.type not in TYPES:
        return f"the type '{rule.type}' is unknown; it may be {', '.join(TYPES)}, or empty for all"
    if not rule.pattern:
        return "the pattern is empty; * matches every name"
    try:
        regex = rule.regex
    except re.error as error:
        return f"the pattern '{rule.pattern}' is no regular expression: {error}"
    if rule.action in ("rename", "merge", "prompt") and not rule.value:
        return f"{rule.action} needs a value"
    if rule.action in ("rename", "prompt") and "\\" in rule.value:
        try:
            re.sub(f"(?:{regex.pattern})|", rule.value, "")
        except (re.error, IndexError) as error:
            return f"the value '{rule.value}' does not fit the pattern: {error}"
    if rule.action == "type" and rule.value not in TYPES:
        return f"the type '{rule.value}' is unknown; it may be {', '.join(TYPES)}"
    if rule.action == "groundable" and rule.value.lower() not in YES:
        return f"groundable is yes or no, not '{rule.value}'"
    return ""
