"""All caption judges, those of installed packages among them."""

from __future__ import annotations

from tasks.caption_judges.base import CaptionJudgeSettings
from tasks.caption_judges.conse import ConseJudge
from tasks.caption_judges.open_clip import OpenClipJudge
from tasks.caption_judges.tagger import TaggerJudge
from tasks.settings.rooms import Room

CAPTION_JUDGES = Room(
    "caption judge", "ram_engine.caption_judges", CaptionJudgeSettings, (TaggerJudge, ConseJudge, OpenClipJudge)
)
