"""What is wrong with a data set before it is trained on: near copies, pictures of one color, rare classes."""

import dataclasses
from typing import Any

import numpy as np
from PIL import Image

from keras_resnet.arguments import check_int
from keras_resnet.data.dataset import Dataset
from keras_resnet.data.prepared import reading_milliseconds
from keras_resnet.errors import require
from keras_resnet.preprocessing.image_ops import LUMINANCE
from keras_resnet.preprocessing.record import BYTES, NARROW
from keras_resnet.tasks.labels import class_counts

# Pictures are compared at this side.
SIDE_PX = 32
# Of 64 bits of the hash; pairs that differ in more are not looked at.
MAX_BITS = 12
# Correlation of the gray values of two near copies.
ALIKE = 0.92
# Standard deviation of the values of a picture that is all one color, in [0, 255].
ONE_COLOR = 1.0
FEW_EXAMPLES = 10
ROWS_AT_ONCE = 256
# Near copies per picture from which the measure says nothing, as of radiographs, which all look alike.
MAX_COPIES = 3
# Of red, green and blue in a gray value, as Pillow makes it (ITU-R BT.601).
SHOWN = 10
# Pictures of which the range is taken.
SAMPLE = 64


@dataclasses.dataclass(frozen=True)
class NearCopy:
    """Two pictures that look alike.

    Attributes:
        names: of their files, or their places.
        splits: that they are in.
        labels: names of their classes; empty for a regression.
        correlation: of their gray values, 1 for equal ones.
    """

    names: tuple[str, str]
    splits: tuple[str, str]
    labels: tuple[str, ...]
    correlation: float

    def __str__(self) -> str:
        """Returns a line."""
        names = [f"{name} ({', '.join(filter(None, [split, label]))})" for name, split, label in self._parts()]
        return f"{self.correlation:.3f}  {' and '.join(names)}"

    def _parts(self) -> list[tuple[str, str, str]]:
        return list(zip(self.names, self.splits, self.labels or ("", ""), strict=True))


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        spec: of the data.
        counts: split -> class -> examples; of a regression split -> "" -> examples.
        shape: of the examples, None where sizes differ.
        few: classes with fewer than 10 training examples.
        one_color: names of pictures that are all one color.
        near_copies: pairs of pictures that look alike, those of different splits first.
        report: what loading the data said: skipped files, exact copies, names that look like groups.
    """

    spec: str
    counts: dict[str, dict[str, int]]
    shape: tuple[int | None, ...]
    few: list[str]
    one_color: list[str]
    near_copies: list[NearCopy]
    report: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        """Returns the lines for a terminal; long lists are cut."""
        shape = "x".join("?" if size is None else str(size) for size in self.shape)
        lines = [f"{self.spec}: examples of {shape}"]
        for split, counts in self.counts.items():
            sizes = ", ".join(f"{name} {count}" for name, count in counts.items() if name)
            lines.append(f"{split:<12}{sum(counts.values()):>8,}" + f"  {sizes}" * bool(sizes))
        across = sum(pair.splits[0] != pair.splits[1] for pair in self.near_copies)
        findings = {
            f"classes with fewer than {FEW_EXAMPLES} training examples": self.few,
            "pictures of one color": self.one_color,
            f"near copies, {across} of them in two splits": list(map(str, self.near_copies)),
        }
        for title, items in findings.items():
            lines.append(f"\n{len(items)} {title}" + ":" * bool(items))
            lines += [f"  {item}" for item in items[:SHOWN]]
            lines += [f"  and {len(items) - SHOWN} more; --json has all"] * (len(items) > SHOWN)
        lines += [] if self.are_all_alike is None else [f"warning: {self.are_all_alike}"]
        return "\n".join([*lines, "", *self.report])

    @property
    def are_all_alike(self) -> str | None:
        """The remark if too many pictures look alike for pairs to mean anything; else None."""
        examples = sum(sum(counts.values()) for counts in self.counts.values())
        if len(self.near_copies) <= MAX_COPIES * examples:
            return None
        return (
            f"{len(self.near_copies):,} near copies among {examples:,} pictures: these are too much alike for the "
            "search, as radiographs of one view are, and its pairs mean nothing here"
        )


def inspect_data(dataset: Dataset) -> Inspection:
    """Looks at every example of a data set, and at pairs that look alike.

    Near copies are pictures whose gray values, at 32x32 px, correlate by 0.92 or more, among pairs whose perceptual
    hashes (the library ImageHash, `phash`, 64 bits) differ in at most 12 bits: other sizes, compression, brightness or
    small cuts of one picture. Turned, mirrored and strongly cut ones are not found.

    Args:
        dataset: from `load`, with labels at hand. Near copies and colors are of pictures; signals and volumes are
            counted.

    Raises:
        MissingPackage: ImageHash is not installed.

    Source:
        Zauner 2010, "Implementation and benchmarking of perceptual image hash functions".
    """
    names, splits, labels = _places(dataset)
    one_color, near = [], list[NearCopy]()
    if len(dataset.image_shape) == 3:
        grays, spreads = _seen(dataset)
        one_color = [names[index] for index in np.flatnonzero(spreads < ONE_COLOR)]
        for first, second, alike in near_pairs(grays, spreads):
            pair = (first, second)
            class_labels = tuple(labels[index] for index in pair) if dataset.class_names else ()
            near.append(
                NearCopy((names[first], names[second]), (splits[first], splits[second]), class_labels, round(alike, 4))
            )
        near.sort(key=lambda pair: (pair.splits[0] == pair.splits[1], -pair.correlation))
    counts: dict[str, dict[str, int]] = {}
    for split in dataset.sizes:
        own = dataset.split(split).labels
        if dataset.class_names and own is not None:
            class_sizes = class_counts(np.asarray(own), len(dataset.class_names)).tolist()
            counts[split] = dict(zip(dataset.class_names, class_sizes, strict=True))
        else:
            counts[split] = {"": dataset.sizes[split]}
    few = [name for name, count in counts["train"].items() if name and count < FEW_EXAMPLES]
    return Inspection(
        dataset.spec, counts, tuple(dataset.image_shape), few, one_color, near, [*dataset.report, *_reading(dataset)]
    )


def _reading(dataset: Dataset) -> list[str]:
    """Returns a line on how long large pictures take to be read; none where they are small."""
    ways = ", ".join(f"{value:.1f} {name}" for name, value in reading_milliseconds(dataset).items())
    return [f"processor milliseconds to read a picture for training at 224 px: {ways}"] if ways else []


def _places(dataset: Dataset) -> tuple[list[str], list[str], list[str]]:
    """Returns name, split and class of every example."""
    names, splits, labels = [], [], []
    for split, size in dataset.sizes.items():
        split_labels = dataset.split(split).labels
        for index in range(size):
            names.append(dataset.name_of(split, index))
            splits.append(split)
            labels.append(_label_of(dataset, None if split_labels is None else split_labels[index]))
    return names, splits, labels


def _label_of(dataset: Dataset, label: Any) -> str:
    """Returns the class of an example, or its classes, or nothing where it has none."""
    if label is None or not dataset.class_names:
        return ""
    if np.ndim(label):
        return "|".join(dataset.class_names[place] for place in np.flatnonzero(np.asarray(label) > 0))
    return dataset.class_names[int(label)]


def shown_range(dataset: Dataset) -> tuple[float, float]:
    """Returns the values of black and of white: of other numbers than bytes, those that nearly all values lie between.

    Files of 16 bits may use little of their range, and measurements have units of their own.
    """
    low, high = dataset.pixel_range or BYTES
    if dataset.pixel_range is not None and not dataset.splits["train"].is_deep:
        return low, high
    sample = min(SAMPLE, dataset.sizes["train"])
    images = next(iter(dataset.batches("train", sample, image_size=SIDE_PX, crop="none").take(1)))[0].numpy()
    percentiles = np.percentile(images, (0.1, 99.9))
    is_usual = dataset.pixel_range is not None and percentiles[1] - percentiles[0] >= NARROW * (high - low) / 255
    return (
        (low, high) if is_usual or percentiles[0] == percentiles[1] else (float(percentiles[0]), float(percentiles[1]))
    )


def _seen(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Returns the gray values of every picture at a small side, and the largest standard deviation of a channel."""
    grays, spreads = [], []
    low, high = shown_range(dataset)
    for images, *_ in dataset.batches("all", 64, image_size=SIDE_PX, crop="none"):
        pixels = (np.asarray(images, "float32") - low) * (255.0 / (high - low))
        grays.append(pixels @ np.array(LUMINANCE, "float32") if pixels.shape[-1] == 3 else pixels.mean(axis=-1))
        spreads.append(pixels.std(axis=(1, 2)).max(axis=-1))
    return np.concatenate(grays), np.concatenate(spreads)


def near_pairs(grays: np.ndarray, spreads: np.ndarray, most_bits: int = MAX_BITS) -> list[tuple[int, int, float]]:
    """Returns pairs of pictures that look alike, and how much: the correlation of their gray values."""
    check_int("most_bits", most_bits, minimum=0, maximum=64)
    imagehash = require("imagehash", "The search for near copies", "inspect")
    textured = np.flatnonzero(spreads >= ONE_COLOR)
    if not len(textured):
        return []
    hash_list = [imagehash.phash(Image.fromarray(gray.clip(0, 255).astype("uint8"))).hash for gray in grays[textured]]
    hashes = np.packbits(np.stack(hash_list).reshape(len(textured), -1), axis=1).view("uint64")[:, 0]
    flat = grays[textured].reshape(len(textured), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    pairs = []
    for start in range(0, len(textured), ROWS_AT_ONCE):
        rows = hashes[start : start + ROWS_AT_ONCE]
        differing = np.bitwise_count(rows[:, None] ^ hashes[None, start:])
        firsts, seconds = np.nonzero(differing <= most_bits)
        later = seconds > firsts
        firsts, seconds = firsts[later] + start, seconds[later] + start
        alike = np.einsum("ij,ij->i", flat[firsts], flat[seconds])
        pairs += [
            (int(textured[one]), int(textured[other]), float(value))
            for one, other, value in zip(firsts, seconds, alike, strict=True)
            if value >= ALIKE
        ]
    return pairs
