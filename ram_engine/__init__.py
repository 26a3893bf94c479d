"""The Recognize-Anything data engine: image-caption pairs in, a cleaned tag dataset and a trained tagger out.

A user's own script needs nothing but this package::

    from ram_engine import Store, Tagger

    tagger = Tagger.from_store("runs/sample")
    for tags in tagger(["photo.jpg"], labels=["forklift", "pallet"]):
        print(tags)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ram_engine.tagger import Tagger
    from storage.store import Store

__version__ = "0.1.0"
__all__ = ["Store", "Tagger", "__version__"]


def __getattr__(name: str) -> Any:
    """Imports Store and Tagger on first use, so that the console command starts without torch."""
    if name == "Tagger":
        from ram_engine.tagger import Tagger

        return Tagger
    if name == "Store":
        from storage.store import Store

        return Store
    raise AttributeError(f"module 'ram_engine' has no attribute '{name}'")
