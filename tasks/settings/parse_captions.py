"""The settings of `parse-captions`."""

from __future__ import annotations

from pydantic import Field

from tasks.settings.base import Settings


class ParseCaptionsSettings(Settings):
    """How captions are parsed."""

    max_words: int = Field(200, ge=1, description="Longer captions are rejected.")
    error_budget: float = Field(0.2, ge=0, le=1, description="The stage fails beyond this share of rejected captions.")
