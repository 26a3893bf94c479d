"""Where images and captions come from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Literal

from pydantic import Field

from tasks.settings.base import Settings


class SampleSource(Settings):
    """The sample world, drawn on the spot."""

    kind: Literal["sample"] = "sample"
    seed: int = Field(0, ge=0, description="Another seed is another world.")
    train: int = Field(1500, ge=1, description="Image-caption pairs to learn from.")
    fine_tune: int = Field(200, ge=0, description="Fully described pairs to fine-tune on.")
    calibrate: int = Field(100, ge=0, description="Fully described pairs to set thresholds on.")
    test: int = Field(400, ge=1, description="Pictures to measure on.")


class CsvSource(Settings):
    """An `image,caption` CSV (optionally with a `split` column) and a folder of images."""

    kind: Literal["csv"] = "csv"
    path: str = Field(description="The CSV file.")
    images: str = Field("", description="The folder of images; empty: 'images' beside the CSV, else its folder.")
    limit: int = Field(0, ge=0, description="Use only the first so many images; 0: all.")


class CocoSource(Settings):
    """A COCO captions JSON and its folder of images."""

    kind: Literal["coco"] = "coco"
    path: str = Field(description="The captions JSON file.")
    images: str = Field("", description="The folder of images; empty: 'images' beside the JSON, else its folder.")
    limit: int = Field(0, ge=0, description="Use only the first so many images; 0: all.")


class Img2datasetSource(Settings):
    """What img2dataset wrote (WebDataset tars, or Parquet with the images in it), or any folder of WebDataset tars."""

    kind: Literal["img2dataset"] = "img2dataset"
    path: str = Field(description="The folder, or one of its files.")
    columns: tuple[str, ...] = Field((), description="Further columns to keep (url and licence are); empty: all.")
    limit: int = Field(0, ge=0, description="Use only the first so many images; 0: all.")


class HuggingFaceSource(Settings):
    """Parquet files of a Hugging Face data set: a column of images and one or several of captions."""

    kind: Literal["huggingface"] = "huggingface"
    path: str = Field(description="The folder, or one of its Parquet files.")
    image: str = Field("", description="The column of images; empty: it is told by its name.")
    captions: tuple[str, ...] = Field((), description="Columns of captions, or of lists of them; empty: by name.")
    tags: str = Field("", description="A column of lists of tags: those of the image beside its captions'.")
    columns: tuple[str, ...] = Field((), description="Further columns to keep (url and licence are); empty: all.")
    limit: int = Field(0, ge=0, description="Use only the first so many images; 0: all.")


class DatasetsSource(HuggingFaceSource):
    """A data set by its name, through the library `datasets`, where that is installed and the network allows."""

    kind: Literal["datasets"] = "datasets"  # type: ignore[assignment]
    path: str = Field(description="The name on the Hub, or a folder that datasets.load_dataset opens.")
    configuration: str = Field("", description="The data set's configuration; empty: the default one.")
    subset: str = Field("train", description="The split of the data set that is read.")


class OfficialSource(Settings):
    """The training JSON and evaluation lists of RAM's authors: tags come from them, captions are not parsed."""

    kind: Literal["official"] = "official"
    path: str = Field("", description="The training JSON; empty: only the evaluation list is read.")
    tags: str = Field("", description="The list of tags that labels are lines of; empty: tag_list.txt beside the JSON.")
    evaluation: str = Field("", description="An evaluation list, by index or by name: it becomes the split test.")
    images: str = Field("", description="The folder of images; empty: the JSON's own.")
    limit: int = Field(0, ge=0, description="Use only the first so many images; 0: all.")


class LabelsSource(Settings):
    """A person's own labels, an `image,tag` CSV: they are held out to calibrate and to test, and train nothing."""

    kind: Literal["labels"] = "labels"
    path: str = Field(description="The CSV file; a column `described` says yes where an image's tags are all there is.")
    images: str = Field("", description="The folder of images; empty: 'images' beside the CSV, else its folder.")
    limit: int = Field(0, ge=0, description="Use only the first so many images; 0: all.")


OneSource = (
    SampleSource
    | CsvSource
    | CocoSource
    | Img2datasetSource
    | HuggingFaceSource
    | DatasetsSource
    | OfficialSource
    | LabelsSource
)


class MixedSource(Settings):
    """Several sources in one: an image that stands in two of them is one image with all its captions."""

    kind: Literal["mixed"] = "mixed"
    parts: tuple[OneSource, ...] = Field(min_length=1, description="The sources, in order.")


def source_names(source: Mapping[str, Any]) -> list[str]:
    """What a source (its settings as a dictionary) is called, without folders: they are their owner's concern alone."""
    if "parts" in source:
        return [name for one in source["parts"] for name in source_names(one)]
    if "seed" in source:
        return [f"the sample world, seed {source['seed']}"]
    return [PurePath(source.get("path") or source.get("evaluation") or "a dataset").name]
