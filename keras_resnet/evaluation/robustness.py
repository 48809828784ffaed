"""Accuracy on pictures that were corrupted: noise, blur, weather of the light, compression."""

import dataclasses
import io
import json
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_resnet import data as datasets
from keras_resnet import files
from keras_resnet.arguments import check_int, choose
from keras_resnet.errors import BadValue
from keras_resnet.evaluation.predictor import Predictor, open_with_data
from keras_resnet.training.scoring import with_labels

SEVERITIES = (1, 2, 3, 4, 5)
LARGEST_OF_SMALL_PX = 96  # up to this side the constants of CIFAR-10-C hold, above those of ImageNet-C
BATCH_SIZE = 64


@dataclasses.dataclass(frozen=True)
class Corruption:
    """A way to corrupt a picture.

    Attributes:
        corrupt: from pixels `(height, width, channels)` in [0, 1], a constant and a generator to such pixels.
        small: the constant of each severity for small pictures, as in CIFAR-10-C.
        large: the same for larger ones, as in ImageNet-C.
    """

    corrupt: Callable[[np.ndarray, Any, np.random.Generator], np.ndarray]
    small: tuple[Any, ...]
    large: tuple[Any, ...]


def _impulse(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    struck = rng.random(image.shape) < amount
    return np.where(struck, rng.random(image.shape) < 0.5, image)


def _blur(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(image, (sigma, sigma, 0), mode="nearest")


def _contrast(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    means = image.mean(axis=(0, 1), keepdims=True)
    return (image - means) * factor + means


def _brightness(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    # The value of hue, saturation and value is the largest channel; hue and saturation stay where all grow alike.
    value = image.max(axis=-1, keepdims=True)
    brighter = np.minimum(value + amount, 1)
    return np.where(value > 0, image * brighter / np.where(value > 0, value, 1), brighter)


def _saturate(image: np.ndarray, change: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    value, low = image.max(axis=-1, keepdims=True), image.min(axis=-1, keepdims=True)
    spread = value - low
    saturation = spread / np.where(value > 0, value, 1)
    target = np.clip(saturation * change[0] + change[1], 0, 1)
    # With hue and value kept, each channel lies below the value in proportion to the saturation. Grey has no hue.
    below = (value - image) / np.where(spread > 0, spread, 1)
    return np.where(spread > 0, value - below * target * value, image)


def _through_pillow(image: np.ndarray, change: Callable[[Any], Any]) -> np.ndarray:
    from PIL import Image

    pixels = np.round(np.clip(image, 0, 1) * 255).astype("uint8")
    gray = pixels.shape[-1] == 1
    changed = np.asarray(change(Image.fromarray(pixels[..., 0] if gray else pixels)), dtype="float64") / 255
    return changed[..., None] if gray else changed


def _pixelate(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    from PIL import Image

    height, width = image.shape[:2]
    small = (max(1, int(width * factor)), max(1, int(height * factor)))
    return _through_pillow(
        image, lambda picture: picture.resize(small, Image.Resampling.BOX).resize((width, height), Image.Resampling.BOX)
    )


def _jpeg(image: np.ndarray, quality: int, rng: np.random.Generator) -> np.ndarray:
    from PIL import Image

    def compress(picture: Any) -> Any:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer)

    return _through_pillow(image, compress)


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption(
        lambda image, scale, rng: image + rng.normal(0, scale, image.shape),
        (0.04, 0.06, 0.08, 0.09, 0.10),
        (0.08, 0.12, 0.18, 0.26, 0.38),
    ),
    "shot_noise": Corruption(
        lambda image, photons, rng: rng.poisson(image * photons) / photons,
        (500, 250, 100, 75, 50),
        (60, 25, 12, 5, 3),
    ),
    "impulse_noise": Corruption(_impulse, (0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27)),
    "speckle_noise": Corruption(
        lambda image, scale, rng: image + image * rng.normal(0, scale, image.shape),
        (0.06, 0.1, 0.12, 0.16, 0.2),
        (0.15, 0.2, 0.35, 0.45, 0.6),
    ),
    "gaussian_blur": Corruption(_blur, (0.4, 0.6, 0.7, 0.8, 1), (1, 2, 3, 4, 6)),
    "brightness": Corruption(_brightness, (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": Corruption(_contrast, (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    "saturate": Corruption(
        _saturate,
        ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
        ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
    ),
    "pixelate": Corruption(_pixelate, (0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)),
    "jpeg_compression": Corruption(_jpeg, (80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
}


def corrupt(images: Any, name: str, severity: int, seed: int = 0) -> np.ndarray:
    """Returns corrupted pictures.

    Args:
        images: `(batch, height, width, channels)` in [0, 255], with 1 or 3 channels.
        name: of a row of `CORRUPTIONS`.
        severity: 1 to 5.
        seed: of the noise; the same seed gives the same noise.

    Returns:
        float32 of the same shape, in [0, 255].

    Raises:
        ValueError: the name is unknown, the severity out of its range, or the images are not pictures.

    Source:
        Hendrycks and Dietterich 2019, "Benchmarking Neural Network Robustness to Common Corruptions and
        Perturbations"; the constants are those of its scripts for CIFAR-10-C up to a side of 96 px, and for
        ImageNet-C above.

    Example:
        >>> import numpy as np
        >>> from keras_resnet.evaluation import corrupt
        >>> float(corrupt(np.full((1, 4, 4, 3), 100.0), "brightness", 1).mean().round(2))
        112.75
    """
    row = choose("name", name, CORRUPTIONS)
    check_int("severity", severity, maximum=len(SEVERITIES))
    images = np.asarray(images, dtype="float64")
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise BadValue(
            f"images has the shape {images.shape}. Allowed is (batch, height, width, channels) with 1 or 3 channels. "
            "Corruptions are made for pictures."
        )
    constants = row.small if max(images.shape[1:3]) <= LARGEST_OF_SMALL_PX else row.large
    rng = np.random.default_rng([seed, severity, zlib.crc32(name.encode())])
    corrupted = [row.corrupt(image / 255, constants[severity - 1], rng) for image in images]
    return (np.clip(np.stack(corrupted), 0, 1) * 255).astype("float32")


def robustness(
    run_or_model: Any,
    data: Any = None,
    *,
    data_dir: Any = None,
    split: str | None = None,
    limit: int = 1000,
    seed: int = 0,
    task: str | None = None,
    on_bad_image: str | None = None,
    views: str = "none",
) -> dict[str, Any]:
    """Returns the accuracy of a classifier on corrupted pictures.

    Args:
        run_or_model: a run folder, a `.keras` file, a `Run` or a `keras.Model`, as for `evaluate`.
        data: a spec or a loaded dataset; None for the data of the run.
        data_dir: where TFDS finds its prepared data sets.
        split: as for `evaluate`.
        limit: examples at most, spread evenly over the split; each is seen 51 times.
        seed: of the noise.
        task: as for `evaluate`.
        on_bad_image: as for `evaluate`.
        views: as for `evaluate`.

    Returns:
        `split`; `examples`; `clean`, the accuracy without corruption; `corruptions`, name -> accuracy at each of the 5
        severities; `mean`, over all of them. For a run, and without views, it is written to `robustness.json` in its
        folder too, where `report` finds it.

    Raises:
        TypeError, ValueError: an argument is not what is allowed, or the data are not pictures with classes.
    """
    check_int("limit", limit)
    predictor, dataset, split = open_with_data(run_or_model, data, data_dir, split, task, on_bad_image, views)
    if not predictor.task.has_classes:
        raise BadValue(
            f"data={dataset.spec!r} has {predictor.task.labels}. Robustness is the accuracy of a classifier. Use "
            "evaluate, which gives errors."
        )
    images, labels, weights = spread(predictor, dataset, split, limit)

    def accuracy(given: np.ndarray) -> float:
        parts = [given[start : start + BATCH_SIZE] for start in range(0, len(given), BATCH_SIZE)]
        outputs = np.concatenate([np.asarray(predictor.model.predict_on_batch(part)) for part in parts])
        predictions = with_labels(predictor.model, outputs, labels, dataset, predictor.record)
        return float(predictions.replace(weights=weights).score()["accuracy"])

    def corrupted(name: str, severity: int) -> np.ndarray:
        return np.asarray(predictor.record.from_bytes(corrupt(predictor.record.to_bytes(images), name, severity, seed)))

    accuracies = {name: [accuracy(corrupted(name, severity)) for severity in SEVERITIES] for name in CORRUPTIONS}
    facts: dict[str, Any] = {
        "split": split,
        "examples": len(labels),
        "clean": accuracy(images),
        "corruptions": accuracies,
        "mean": float(np.mean(list(accuracies.values()))),
    }
    if predictor.run is not None and views == "none":
        files.write_text(predictor.run.path / "robustness.json", json.dumps(facts, indent=1) + "\n")
    return facts


def spread(
    predictor: Predictor, dataset: datasets.Dataset, split: str, limit: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Returns examples as a network takes them, float32, their labels and weights, spread evenly over a split."""
    batches = dataset.batches(split, 1, **datasets.sizing(predictor.record, dataset.image_shape))
    step = -(-dataset.size_of(split) // limit)
    sample = list(batches.shard(step, 0).as_numpy_iterator())
    images, labels, *own = (np.concatenate(parts) for parts in zip(*sample, strict=True))
    labels = labels if labels.ndim == 2 else labels.astype("int64").reshape(-1)
    return images.astype("float32"), labels, own[0] if own else None
