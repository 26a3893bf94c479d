"""JSON that every reader takes, whatever is in the values."""

from __future__ import annotations

import json
import math
from typing import Any


def to_json(value: Any, **layout: Any) -> str:
    """``value`` as JSON: NaN and infinities, which JSON does not have, are null, and half a character is its escape.

    ``layout`` is what `json.dumps` takes.
    """
    layout = {"ensure_ascii": False, "allow_nan": False, **layout}
    try:
        text = json.dumps(value, **layout)
    except ValueError:
        text = json.dumps(_finite(value), **layout)
    return text.encode(errors="backslashreplace").decode()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value
