"""The published weights of the networks that this package builds, a row each."""

import csv
import dataclasses
import functools
import importlib.resources
import logging
import os
import pathlib
import re

from keras_resnet.arguments import suggestion
from keras_resnet.errors import BadValue
from keras_resnet.weights.download import cache_folder, check_whole, fetch
from keras_resnet.weights.files import READERS

HUB = "hf://"


@dataclasses.dataclass(frozen=True)
class Source:
    """A row of the table: who published weights, where, under which license, and how they are to be fed.

    Attributes:
        publisher: "keras_resnet" (in the package), "torchvision", "timm" or "keras.applications".
        model: name of the variant.
        tag: of the constructors: `weights="imagenet.TAG"`, in the package `weights=TAG`.
        source: "hf://ORG/REPOSITORY", or empty.
        url: of the file.
        file: its name.
        hash: as its publisher states it; empty where none is stated.
        license: of the weights, as their publisher states it; empty where none is stated.
        classes: outputs; 0 without a classifier.
        input_size: side in px that it was trained at.
        test_size: side in px that its publisher tests at.
        crop: share of the shorter side that is kept at the input size; 0 if it is not stated.
        test_crop: the same at the test size.
        interpolation: of the resizing; empty if it is not stated.
        mean: of each channel, as its publisher states it.
        std: of each channel, as its publisher states it.
        top1: accuracy in percent, as its publisher states it, on ImageNet (in the package on CIFAR-10); None if it is
            not stated.
        top5: the same for the five best.
        measured_at: side in px of these two.
    """

    publisher: str
    model: str
    tag: str
    source: str
    url: str
    file: str
    hash: str
    license: str
    classes: int
    input_size: int
    crop: float
    test_size: int
    test_crop: float
    interpolation: str
    mean: str
    std: str
    top1: float | None
    top5: float | None
    measured_at: int

    @property
    def location(self) -> str:
        """The URL of the file; for rows of timm the one on the Hub, whose files are .safetensors."""
        return hub_url(self.source, self.file) if self.source.startswith(HUB) else self.url

    @property
    def is_free(self) -> bool:
        """Whether the license allows commercial use, as far as it is stated."""
        return "nc" not in self.license.split("-")


def hub_url(source: str, file: str) -> str:
    """Returns the URL of a file in a repository of the Hugging Face hub, at `HF_ENDPOINT` where that is set."""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    return f"{endpoint}/{source.removeprefix(HUB)}/resolve/main/{file}"


def list_weights(model: str | None = None) -> tuple[Source, ...]:
    """Returns the published weights, those in the package first.

    Args:
        model: a name from `list_models()`; None for all.

    Raises:
        ValueError: no weights of that model are known.

    Example:
        >>> from keras_resnet.weights import list_weights
        >>> list_weights("resnet34")[0].publisher
        'torchvision'
    """
    rows = _table()
    if model is None:
        return rows
    matches = tuple(row for row in rows if row.model == model)
    if not matches:
        models = sorted({row.model for row in rows})
        raise BadValue(
            f"model={model!r} has no published weights here. {suggestion(model, models)}Models that have are "
            f"{', '.join(models)}. Choose one of them."
        )
    return matches


@functools.cache
def imagenet_classes() -> tuple[str, ...]:
    """Returns a name for each of the 1000 classes of ImageNet (ILSVRC 2012), in the order of published networks.

    The first word of WordNet for the class; where two classes share it, the number in WordNet stands behind it.
    """
    return tuple(name for _, name in imagenet_synsets())


def imagenet_synsets() -> tuple[tuple[str, str], ...]:
    """Returns the identifier in WordNet and the name of each class of ImageNet, as `imagenet_classes`."""
    text = (importlib.resources.files("keras_resnet.weights") / "imagenet_classes.txt").read_text(encoding="utf-8")
    return tuple((line.partition(" ")[0], line.partition(" ")[2]) for line in text.splitlines())


@functools.cache
def _table() -> tuple[Source, ...]:
    text = (importlib.resources.files("keras_resnet.weights") / "sources.csv").read_text(encoding="utf-8")
    return tuple(_row(values) for values in csv.DictReader(text.splitlines()))


def _row(values: dict[str, str]) -> Source:
    numbers = {
        **{name: int(values[name] or 0) for name in ("classes", "input_size", "test_size", "measured_at")},
        **{name: float(values[name]) if values[name] else None for name in ("top1", "top5")},
        **{name: float(values[name] or 0) for name in ("crop", "test_crop")},
    }
    return Source(**{**values, **numbers})  # type: ignore[arg-type]


LOGGER = logging.getLogger(__name__)
IMAGENET = "imagenet"
HUB_FILE = "model.safetensors"
PUBLISHED_MODEL = "model.keras"
# The models of a folder: of a cross-validation, whose mean answers, and of a run.
MODELS_OF_FOLDERS = ("mean.keras", "best.keras")


def repository_of(source: str) -> str:
    """Returns ORG/NAME of "hf://ORG/NAME"."""
    repository = source.removeprefix(HUB)
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", repository, re.ASCII):
        raise BadValue(f"{source!r} does not name a repository. Allowed is hf://ORG/NAME. Correct it.")
    return repository


def fetch_from_hub(source: str, file: str) -> pathlib.Path:
    """Returns a file of "hf://ORG/NAME", fetched where it is not in the cache."""
    return fetch(hub_url(source, file), cache_folder() / "hub" / repository_of(source) / file)


def locate(variant: str, weights: str) -> tuple[pathlib.Path, Source | None]:
    """Returns the file that a tag or a path means, and its row in the table of published weights."""
    if weights.startswith(HUB):
        return fetch_from_hub(weights, HUB_FILE), None
    weights = weights.removeprefix(f"{variant}:")  # NAME:TAG, as whole networks are named elsewhere
    path = pathlib.Path(weights).expanduser()
    for name in (HUB_FILE, *MODELS_OF_FOLDERS):  # of `publish`, of a cross-validation or of a run
        if (path / name).is_file():
            return path / name, None
    # A folder of the name of a tag does not hide the tag.
    if path.suffix.lower() in READERS or path.is_file() or (path.is_dir() and "/" in weights):
        return path, None
    rows = {row.tag: row for row in list_weights() if row.model == variant}
    name, _, tag = weights.partition(".")
    packaged = {row.tag: row for row in rows.values() if row.publisher == "keras_resnet"}
    if weights in packaged:
        path = pathlib.Path(str(importlib.resources.files("keras_resnet.weights") / packaged[weights].file))
        check_whole(path, packaged[weights].hash)
        return path, None
    tags = [*packaged, *([IMAGENET] if set(rows) - set(packaged) else []), *(f"{IMAGENET}.{tag}" for tag in rows)]
    tags = [word for word in tags if word.removeprefix(f"{IMAGENET}.") not in packaged or word in packaged]
    if name != IMAGENET or not rows or (tag and (tag not in rows or tag in packaged)):
        raise BadValue(
            f"weights={weights!r} is neither a tag nor a file of weights. {suggestion(weights, tags)}For {variant!r} "
            f"the tags are {', '.join(tags) or 'none'}; files end in {', '.join(READERS)}. Choose one of them."
        )
    row = rows[tag] if tag else default_of(variant)
    if not row.is_free:
        LOGGER.warning("weights=%r are licensed as %s, for non-commercial use.", weights, row.license)
    return fetch(row.location, cache_folder() / variant / row.tag / row.file, row.hash, row.license), row


def default_of(variant: str) -> Source:
    """Returns the row that `weights="imagenet"` means: the most accurate with a classifier and a free license."""
    rows = [
        row
        for row in list_weights(variant)
        if row.classes == 1000 and row.is_free and row.publisher != "keras.applications"
    ]
    return max(rows, key=lambda row: row.top1 or 0.0)


def weights_at_hand(variant: str, is_small: bool) -> str:
    """Returns weights of a variant that need no download: those of ImageNet in the cache, or packaged ones."""
    rows = [row for row in list_weights() if row.model == variant]  # of some variants there are none
    if any(row.publisher != "keras_resnet" for row in rows):
        row = default_of(variant)
        if (cache_folder() / variant / row.tag / row.file).is_file():
            return IMAGENET
    packaged = [row.tag for row in rows if row.publisher == "keras_resnet"]
    return packaged[0] if packaged and is_small else ""
