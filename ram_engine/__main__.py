"""The console command, which loads little before it minds signals; also `python -m ram_engine`."""

from __future__ import annotations

import os
import sys

from ram_engine.ending import Ending


def main() -> None:
    """Runs the command; ended before its time, it says so in a sentence and leaves nothing running."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:  # it was closed at the start: a file would take its number
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))
    ending = Ending(sys.argv[1:])

    def command() -> None:
        from ram_engine import cli

        cli.main()

    ending.call(command)


if __name__ == "__main__":
    main()
