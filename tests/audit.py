"""`make audit`: known vulnerabilities of the pinned versions. It says so where the advisories cannot be reached.

Ends 0 where there are none, 1 where there are, and 2 where not all versions could be looked up.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PINNED = Path(__file__).parents[1] / "constraints.txt"
UNREACHABLE = 2
# Advisories that do not concern this project, and why. SECURITY.md says the same.
EXCEPTIONS = {
    "CVE-2023-48022": "Ray runs what reaches its ports, by design: docs/operate.md says what network it needs",
}


def main() -> int:
    """Audits, tells in sentences, and gives the exit code."""
    command = [
        *(sys.executable, "-m", "pip_audit", "--requirement", str(PINNED), "--no-deps", "--disable-pip"),
        *("--format", "json", "--progress-spinner", "off", "--timeout", "15"),
        *(word for advisory in EXCEPTIONS for word in ("--ignore-vuln", advisory)),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        listed = json.loads(done.stdout)["dependencies"]
    except json.JSONDecodeError:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        print(f"audit: the advisory service could not be reached, so NOTHING was audited: {last}")
        return UNREACHABLE
    code, sentences = judged(listed)
    print("\n".join(f"audit: {sentence}" for sentence in sentences))
    return code


def judged(dependencies: list[dict[str, Any]]) -> tuple[int, list[str]]:
    """The exit code and what to say of pip-audit's answer, which takes a service that is away for one without news."""
    sentences = [
        f"{package['name']} {package['version']} has {advisory['id']}, mended in {', '.join(advisory['fix_versions'])}"
        for package in dependencies
        for advisory in package.get("vulns", ())
    ]
    if sentences:
        return 1, sentences
    unknown = [package["name"] for package in dependencies if "skip_reason" in package]
    if len(unknown) == len(dependencies):
        return UNREACHABLE, ["the advisory service could not be reached, so NOTHING was audited"]
    if unknown:
        return UNREACHABLE, [f"{len(unknown)} packages could NOT be audited: {', '.join(unknown)}"]
    return 0, [f"no known vulnerability in {len(dependencies)} packages, with {len(EXCEPTIONS)} exceptions"]


if __name__ == "__main__":
    sys.exit(main())
