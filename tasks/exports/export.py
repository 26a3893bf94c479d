"""What every export is: a settings model that writes a folder."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.exports.request import Request
from tasks.settings.rooms import Member


class Export(Member):
    """A format of data. It streams: it holds a part's rows at a time, never all."""

    def write(self, request: Request) -> Mapping[str, int]:
        """Writes into the request's folder; returns how many rows, by split or by whatever they are counted by.

        Raises :class:`~tasks.exports.request.ExportError` where it cannot be made as asked. The folder appears under
        its own name only once this has returned.
        """
        raise NotImplementedError
