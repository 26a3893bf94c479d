"""All of a pipeline's settings: those of each stage under the stage's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, create_model

from tasks.machine.dag import MOST_ROUNDS, declarations
from tasks.settings.base import Settings


class _Rounds(Settings):
    """All of a pipeline's settings; a preset is one of these as YAML."""

    rounds: int = Field(1, ge=1, le=MOST_ROUNDS, description="In round two and later the retrained model annotates.")


def _sections() -> dict[str, Any]:
    """A field for each stage that has settings of its own."""
    return {
        declared.identifier: (type(declared.usual), declared.usual)
        for declared in declarations()
        if declared.section in ("", declared.identifier)
    }


if TYPE_CHECKING:

    class PipelineSettings(_Rounds):
        """The settings of each stage under its name, as the stages' declarations have them."""

        def __getattr__(self, stage: str) -> Any: ...

else:
    PipelineSettings = create_model("PipelineSettings", __base__=_Rounds, __doc__=_Rounds.__doc__, **_sections())
