"""What every source is: a settings model that lists its items, and reads those that are more than a file of its own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath
from typing import Annotated, ClassVar

from pydantic import Field

from storage.addresses import concealed
from tasks.settings.base import PathName
from tasks.settings.rooms import Member
from tasks.sources.item import SourceItem

Limit = Annotated[int, Field(ge=0, description="Use only the first so many images; 0: all.")]
ImagesFolder = Annotated[
    PathName, Field(description="The folder of images; empty: 'images' beside the file, else the file's own folder.")
]
KeptColumns = Annotated[
    tuple[str, ...], Field(description="Further columns to keep (url and licence are); empty: all.")
]


class Source(Member):
    """A source of images with captions or tags. Only :meth:`items` has to be written.

    Two settings mean the same in every source that has them: ``path`` is what ``--source KIND:PATH`` gives, and
    ``limit`` is how many images are used at most (0: all), where a larger one only makes the source longer.
    """

    without_effect: ClassVar[frozenset[str]] = frozenset({"limit"})  # a larger one makes no other source
    held_out: ClassVar[bool] = False  # its images train nothing: they are of the split calibrate or test

    def items(self) -> Iterable[SourceItem]:
        """One item an image, and one a row that is unfit, with its ``problem``; or one a file of many images, with its
        ``container``. No image is opened. Raises :class:`~tasks.sources.item.SourceError` where there is nothing to
        list."""
        raise NotImplementedError

    def divide(self, file: SourceItem) -> Iterable[SourceItem]:
        """The pieces of a file of many images, of some hundred images each, by its headers alone."""
        raise NotImplementedError(f"{type(self).__name__} lists files of many images, and does not divide them")

    def read(self, item: SourceItem) -> Iterable[SourceItem]:
        """The images of an item: of a piece each with its contents; of an image itself, whose ``path`` is opened then.

        An image that is nowhere a file comes back with its ``data``, and with its captions where only now they are
        known.
        """
        return (item,)

    def sources(self) -> tuple[Source, ...]:
        """The sources that it is made of: itself, unless it mixes others."""
        return (self,)

    def place(self) -> str:
        """The file, the folder or the name that it is read from; "" where it has none."""
        return str(getattr(self, "path", ""))

    def most(self) -> int:
        """How many images are used at most; 0: all."""
        return int(getattr(self, "limit", 0))

    def label(self) -> str:
        """What its images' rows call it: the kind and, without folders, the place."""
        return f"{self.kind_of()}:{PurePath(concealed(self.place())).name}" if self.place() else self.kind_of()

    def title(self) -> str:
        """What people call it, without folders: they are their owner's concern alone."""
        return PurePath(concealed(self.place())).name or self.kind_of()
