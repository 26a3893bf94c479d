"""What is printed and what runs log: text from data as it is, nothing of which a console or a terminal obeys."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from storage.addresses import without_credentials
from storage.printable import printable

RUN_LOGGERS = ("prefect.flow_runs", "prefect.task_runs")


class Terminal(Console):
    """A console that prints text as it is: no markup, no emoji for ``:dog:``, no control characters, whole lines."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, soft_wrap=True, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """A text, or a cell of a table, with its control characters escaped before it is laid out."""
        return super().render_str(printable(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What Rich makes of anything else, such as a bar: of control codes it has its own alone."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


class Printable(logging.Filter):
    """Makes a record's message, and the traceback that goes with it, fit to be shown."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = _shown(record.getMessage()), None
        if record.exc_info:
            record.exc_text = _shown(logging.Formatter().formatException(record.exc_info))
        return True


def _shown(text: str) -> str:
    return printable(without_credentials(text))


for _name in RUN_LOGGERS:
    logging.getLogger(_name).addFilter(Printable())
