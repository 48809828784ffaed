"""What a tag of weights means: the file, fetched if it must be, and its row in the table of published weights."""

import importlib.resources
import logging
import os
import pathlib
import re

from keras_resnet.errors import BadValue
from keras_resnet.suggestions import suggestion
from keras_resnet.weights.download import cache_folder, check_whole, fetch
from keras_resnet.weights.files import READERS
from keras_resnet.weights.sources import HUB, Source, hub_url, list_weights

LOGGER = logging.getLogger(__name__)
IMAGENET = "imagenet"
HUB_FILE = "model.safetensors"


def locate(variant: str, weights: str) -> tuple[pathlib.Path, Source | None]:
    """Returns the file that a tag or a path means, and its row in the table of published weights.

    Args:
        variant: a name from `list_models()`.
        weights: a tag or a path.

    Raises:
        ValueError: there are no such weights, or they cannot be had.
    """
    if weights.startswith(HUB):
        repository = weights.removeprefix(HUB)
        if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", repository, re.ASCII):
            raise BadValue(f"weights={weights!r} does not name a repository. Allowed is hf://ORG/NAME. Correct it.")
        return fetch(hub_url(weights, HUB_FILE), cache_folder() / "hub" / repository / HUB_FILE), None
    if pathlib.Path(weights).suffix.lower() in READERS or os.path.exists(weights):
        return pathlib.Path(weights).expanduser(), None
    rows = {row.tag: row for row in list_weights() if row.model == variant}
    name, _, tag = weights.partition(".")
    packaged = {row.tag: row for row in rows.values() if row.publisher == "keras_resnet"}
    if weights in packaged:
        path = pathlib.Path(str(importlib.resources.files("keras_resnet.weights") / packaged[weights].file))
        check_whole(path, packaged[weights].hash)
        return path, None
    known = [*packaged, *([IMAGENET] if set(rows) - set(packaged) else []), *(f"{IMAGENET}.{tag}" for tag in rows)]
    known = [word for word in known if word.removeprefix(f"{IMAGENET}.") not in packaged or word in packaged]
    if name != IMAGENET or not rows or (tag and (tag not in rows or tag in packaged)):
        raise BadValue(
            f"weights={weights!r} is neither a tag nor a file of weights. {suggestion(weights, known)}For {variant!r} "
            f"the tags are {', '.join(known) or 'none'}; files end in {', '.join(READERS)}. Choose one of them."
        )
    row = rows[tag] if tag else default_of(variant)
    if not row.is_free:
        LOGGER.warning("weights=%r are licensed as %s, for non-commercial use.", weights, row.license)
    return fetch(row.location, cache_folder() / variant / row.tag / row.file, row.hash, row.license), row


def default_of(variant: str) -> Source:
    """Returns the row that `weights="imagenet"` means: the most accurate with a classifier and a free licence."""
    rows = [
        row
        for row in list_weights(variant)
        if row.classes == 1000 and row.is_free and row.publisher != "keras.applications"
    ]
    return max(rows, key=lambda row: row.top1 or 0.0)


def weights_at_hand(variant: str, is_small: bool) -> str:
    """Returns weights of a variant that need no download: those of ImageNet in the cache, or packaged ones.

    Args:
        variant: a name from `list_models()`.
        is_small: whether images are of the size that packaged weights are for, under 64 px.

    Returns:
        A tag; empty where there are none.
    """
    rows = [row for row in list_weights() if row.model == variant]  # of some variants there are none
    if any(row.publisher != "keras_resnet" for row in rows):
        row = default_of(variant)
        if (cache_folder() / variant / row.tag / row.file).is_file():
            return IMAGENET
    packaged = [row.tag for row in rows if row.publisher == "keras_resnet"]
    return packaged[0] if packaged and is_small else ""
