"""The published weights of the networks that this package builds, a row each."""

import csv
import dataclasses
import functools
import importlib.resources
import os

from keras_resnet.errors import BadValue
from keras_resnet.suggestions import suggestion

HUB = "hf://"


@dataclasses.dataclass(frozen=True)
class Source:
    """A row of the table: who published weights, where, under which licence, and how they are to be fed.

    Attributes:
        publisher: "keras_resnet" (in the package), "torchvision", "timm" or "keras.applications".
        model: name of the variant.
        tag: by which it is asked for: `weights="imagenet.TAG"`, in the package `weights=TAG`.
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
        """The URL of the file: of timm's rows that at the hub, whose files are .safetensors."""
        return hub_url(self.source, self.file) if self.source.startswith(HUB) else self.url

    @property
    def is_free(self) -> bool:
        """Whether the licence allows commercial use, as far as it is stated."""
        return "nc" not in self.license.split("-")


def hub_url(source: str, file: str) -> str:
    """Returns the URL of a file in a repository of the Hugging Face hub, at `HF_ENDPOINT` where that is set.

    Args:
        source: "hf://ORG/REPOSITORY".
        file: in the repository.
    """
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
    found = tuple(row for row in rows if row.model == model)
    if not found:
        known = sorted({row.model for row in rows})
        raise BadValue(
            f"model={model!r} has no published weights here. {suggestion(model, known)}Models that have are "
            f"{', '.join(known)}. Choose one of them."
        )
    return found


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
