"""The settings of `build-labels`."""

from __future__ import annotations

import os

from pydantic import Field

from tasks.settings.base import PathName, Settings

NO_CAPTION = (
    "there is no tag to learn, since no picture has a caption: bring captions for some, or name a list of tags "
    "(--set build_labels.tag_list=FILE) and an annotator that is ready (--annotator pretrained:FOLDER)"
)


class BuildLabelsSettings(Settings):
    """Which phrases become tags."""

    tag_list: PathName = Field("", description="A ready list of tags, one a line, replaces the corpus' own.")
    max_tags: int = Field(5000, ge=1, description="At most so many tags of each type are kept, the most frequent.")
    total: int = Field(
        0, ge=0, description="At most so many tags are kept in all, the most frequent; 0 sets no such limit."
    )
    min_count: int = Field(5, ge=1, description="A tag stands in at least so many captions.")
    min_share: float = Field(0, ge=0, le=1, description="A tag stands in at least this share of the captions.")
    min_type_share: float = Field(
        0.1, ge=0, le=1, description="Roles of a word that are rarer than this are parser mistakes."
    )
    synonyms: bool = Field(True, description="Words that mean the same are merged.")
    merge_bar: float = Field(
        0.8, ge=0, le=1, description="Synonyms proposed with this score or more merge by themselves."
    )
    wordnet: PathName = Field(
        default_factory=lambda: os.environ.get("NLTK_DATA", ""),
        description="A folder of nltk's data with WordNet proposes synonyms; empty: they are proposed without it.",
    )

    def files(self) -> tuple[str, ...]:
        return (self.tag_list,) if self.tag_list else ()
