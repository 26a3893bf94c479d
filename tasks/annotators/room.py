"""All annotators, those of installed packages among them."""

from __future__ import annotations

from tasks.annotators.base import AnnotatorSettings
from tasks.annotators.pretrained import Pretrained
from tasks.annotators.trained import Trained
from tasks.settings.rooms import Room

ANNOTATORS = Room("annotator", "ram_engine.annotators", AnnotatorSettings, (Trained, Pretrained))
