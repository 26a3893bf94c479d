"""This user's own folder on a machine: the system's temporary one is everybody's, and whoever makes a folder of a known
name there first decides what others find in it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import platformdirs

NAME = "ram-engine"
PRIVATE = 0o700


class UserFolderError(ValueError):
    """The user's folder cannot be used; the message says why and what to do."""


def home_folder() -> Path:
    """The user's home folder. Raises :class:`UserFolderError` where the user has none."""
    try:
        return Path.home()
    except RuntimeError:
        raise UserFolderError("this user has no home folder: name one in the variable HOME") from None


def user_folder(*names: str) -> Path:
    """The folder of these names in the user's cache, which is made where it is missing, for this user alone.

    Raises :class:`UserFolderError` where it cannot be made, and where another user could have put something there.
    """
    mend = "name a folder of your own in XDG_CACHE_HOME"
    try:
        folder = platformdirs.user_cache_path(NAME)
        known = folder.is_absolute()  # some versions give the path of a home that is not known as ~
    except RuntimeError:
        known = False
    if not known:
        raise UserFolderError(f"this user has no home folder, which is needed to keep files on this machine: {mend}")
    for name in ("", *names):
        folder = folder / name
        try:
            folder.mkdir(PRIVATE, parents=True, exist_ok=True)
            statuses = (folder.lstat(), folder.stat())
        except OSError as error:
            raise UserFolderError(f"the folder {folder} cannot be made ({error.strerror}): {mend}") from error
        if any(status.st_uid != os.geteuid() for status in statuses):  # a link's own owner as well
            raise UserFolderError(
                f"the folder {folder} belongs to another user, who could change what is in it: {mend}"
            )
        if stat.S_IMODE(statuses[1].st_mode) & (stat.S_IWGRP | stat.S_IWOTH):
            raise UserFolderError(
                f"other users can write in the folder {folder}: remove it, or look what is in it and run "
                f"`chmod 700 {folder}`"
            )
    return folder
