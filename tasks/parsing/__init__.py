"""From captions to typed phrases: objects, scenes, attributes and actions."""

from __future__ import annotations

from tasks.parsing.parser import CaptionParser, ParsedCaption
from tasks.parsing.tags import Phrase

__all__ = ["CaptionParser", "ParsedCaption", "Phrase"]
