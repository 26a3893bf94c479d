"""The base of all settings."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """The base of all settings: unknown names are errors, values cannot change once set."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def files(self) -> tuple[str, ...]:
        """Paths of the files that these settings name: their contents matter as the settings themselves do."""
        return ()
