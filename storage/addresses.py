"""Addresses with credentials in them: opened with these, but shown, kept and handed to Prefect without.

What is left out is remembered for this process and those that it starts, so that an address that one of them is told is
opened with its credentials all the same. Elsewhere it is opened without: the file system's own configuration has them.
"""

from __future__ import annotations

import json
import os
import re
from urllib.parse import unquote

HIDDEN = "***"
LEAST = 4  # letters of a secret that is looked for by itself: a shorter one is in many words
REMEMBERED = "RAM_ENGINE_ADDRESSES"  # in the environment: addresses by what is shown of them

_USER = re.compile(
    r"(?<=://)[^/?#@:]*:(?!:|\d+(?:/|$))(?:(?!::).)*(?=@)"  # user:password, whatever a password may hold; no port
    r"|(?:(?<=http://)|(?<=https://))[^/?#@:]+(?=@)",  # a token
    re.IGNORECASE | re.DOTALL,
)
_VALUE = re.compile(r"(?<=[?&;#])([^=&;#?/]+=)([^&;#]+)")  # nobody knows all names that a token may have
_IN_TEXT = re.compile(r"[A-Za-z][\w+.-]*://[^\s'\"<>]+")


def concealed(address: str) -> str:
    """The address without its credentials, ``ftp://***@host/run``, and without the values after a ``?``; others, and
    names of files, as they are."""
    if "://" not in address:
        return address
    shown = _VALUE.sub(rf"\1{HIDDEN}", _USER.sub(HIDDEN, address))
    if shown != address and HIDDEN not in address:
        os.environ[REMEMBERED] = json.dumps({**_remembered(), shown: address})
    return shown


def revealed(address: str) -> str:
    """The address that a concealed one stands for, as far as it is known here; else without its credentials."""
    if HIDDEN not in address or "://" not in address:
        return address
    return _remembered().get(address) or re.sub(rf"[?&;#][^=&;#]+={re.escape(HIDDEN)}", "", address).replace(
        f"{HIDDEN}@", ""
    )


def without_credentials(text: str) -> str:
    """A text for people, such as an error of a library, without the credentials of any address in it, nor of those that
    were opened here, however they are told."""
    for address in _remembered().values():
        users = _USER.findall(address)
        parts = {*(user.split(":", 1)[-1] for user in users), *(value for _, value in _VALUE.findall(address))}
        secrets = {*users, *(part for part in parts if len(part) >= LEAST)}
        for secret in sorted({*secrets, *map(unquote, secrets)}, key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
    return _IN_TEXT.sub(lambda found: _VALUE.sub(rf"\1{HIDDEN}", _USER.sub(HIDDEN, found[0])), text)


def _remembered() -> dict[str, str]:
    known: dict[str, str] = json.loads(os.environ.get(REMEMBERED) or "{}")
    return known
