"""The settings of `assign-tags`."""

from __future__ import annotations

from pydantic import Field

from tasks.settings.base import Settings


class AssignTagsSettings(Settings):
    """How phrases are mapped to tags."""

    min_candidate_count: int = Field(2, ge=1, description="Unknown words are listed from this count within a part.")
