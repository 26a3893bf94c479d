"""Room for the sockets by which this process talks to those that it forks: the path of a Unix socket is short."""

from __future__ import annotations

import multiprocessing.util
import tempfile

LONGEST = 103  # bytes of a socket's path, on all systems
BELOW = len("/pymp-12345678/listener-12345678")  # what multiprocessing adds to the temporary folder
SHORT = "/tmp"


def make_room() -> None:
    """Lets multiprocessing put its sockets into ``/tmp`` where the path of the temporary folder is too long for them.

    Raises OSError with a sentence where it cannot.
    """
    usual = tempfile.gettempdir()
    if len(usual.encode()) + BELOW <= LONGEST:
        return
    before, tempfile.tempdir = tempfile.tempdir, SHORT
    try:
        multiprocessing.util.get_temp_dir()  # made once a process, and handed on to those that it starts
    except OSError as error:
        raise OSError(
            f"the temporary folder {usual} has too long a path for sockets, and {SHORT} cannot be used "
            f"({error.strerror}): name a shorter one in TMPDIR"
        ) from error
    finally:
        tempfile.tempdir = before
