"""What `make audit` makes of pip-audit's answers, and that its exceptions are those that SECURITY.md names."""

from __future__ import annotations

from typing import Any

import pytest

from tests.audit import EXCEPTIONS, UNREACHABLE, judged
from tests.conftest import ROOT

SOUND = {"name": "rich", "version": "15.0.0", "vulns": []}
SKIPPED = {"name": "numpy", "skip_reason": "Dependency not found"}
WEAK = {"name": "requests", "version": "2.19.0", "vulns": [{"id": "CVE-1", "fix_versions": ["2.20.0"]}]}


@pytest.mark.parametrize(
    ("dependencies", "code", "said"),
    [
        ([SOUND], 0, "no known vulnerability in 1 packages"),
        ([SOUND, WEAK, SKIPPED], 1, "requests 2.19.0 has CVE-1, mended in 2.20.0"),
        ([SKIPPED], UNREACHABLE, "could not be reached, so NOTHING was audited"),
        ([SOUND, SKIPPED], UNREACHABLE, "1 packages could NOT be audited: numpy"),
        ([], UNREACHABLE, "could not be reached"),
    ],
)
def test_a_service_that_is_away_is_no_good_news(dependencies: list[dict[str, Any]], code: int, said: str) -> None:
    result = judged(dependencies)
    assert result[0] == code
    assert said in result[1][0]


def test_the_exceptions_are_told() -> None:
    told = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert EXCEPTIONS
    assert all(advisory in told for advisory in EXCEPTIONS)
