"""Large pictures made small once, so that no epoch decodes what it throws away."""

import concurrent.futures
import csv
import dataclasses
import hashlib
import io
import json
import os
import pathlib
import tempfile
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from keras_resnet import files
from keras_resnet.arguments import check_int
from keras_resnet.data.dataset import Dataset
from keras_resnet.data.examples.encoded import EncodedExamples
from keras_resnet.data.examples.plan import PARALLEL_CALLS, Plan
from keras_resnet.data.images.decoding import decode, has_16_bits
from keras_resnet.data.images.headers import apply_bad_image_policy, reason_of
from keras_resnet.data.images.resizing import TRAINING_ANTIALIAS_ABOVE
from keras_resnet.data.loading import load
from keras_resnet.data.sources.pictures import LARGE_MEGAPIXELS
from keras_resnet.errors import BadValue

TABLE, SETTINGS = "labels.csv", "prepare.json"
LONG_SIDE, QUALITY = 512, 95
DRAFT = 2  # JPEG files are decoded at a half, a quarter or an eighth that is at least so many times the final size
SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "GIF": ".gif", "BMP": ".bmp", "WEBP": ".webp"}
LOSSY = ("JPEG", "MPO", "WEBP")  # MPO is what some phones write: a JPEG file with further pictures behind it
# EXIF orientation -> what turns the stored picture upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# What Pillow and TensorFlow raise where a file cannot be decoded.
UNREADABLE = (OSError, SyntaxError, Image.DecompressionBombError, tf.errors.OpError)
# What is read to measure how long reading takes, as in docs/performance.md.
SAMPLE, SIDE_PX = 6, 224
AS_THEY_ARE, SCALED, PREPARED = "as they are", "with data.decode='scaled'", "after keras-resnet prepare"
WORTH_SAYING = 1.3  # times faster

# (split, index) -> the row of a picture.
Rows = dict[tuple[str, int], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What was prepared.

    Attributes:
        table: path of the table, to train with.
        pictures: of all splits.
        resized: those that were larger; the others are copied byte by byte.
        bytes_before: of the original files.
        bytes_after: of the new ones.
        report: what was left out.
        columns: what `data.columns` must say, where the table has targets of a regression.
    """

    table: pathlib.Path
    pictures: int
    resized: int
    bytes_before: int
    bytes_after: int
    report: tuple[str, ...] = ()
    columns: str | None = None

    def __str__(self) -> str:
        """Returns a human-readable summary."""
        before, after = (size / 1e6 for size in (self.bytes_before, self.bytes_after))
        copied = self.pictures - self.resized
        return "\n".join(
            [
                f"{self.pictures} pictures in {self.table.parent}: {self.resized} resized, {copied} copied as they are",
                f"{before:,.1f} MB before, {after:,.1f} MB after",
                *self.report,
                f"next: keras-resnet train {self.table} --out RUN"
                + (f" --set data.columns={self.columns}" if self.columns else ""),
            ]
        )


def prepare(
    dataset: Dataset,
    out: str | os.PathLike,
    *,
    long_side: int = LONG_SIDE,
    quality: int = QUALITY,
    verbose: bool = True,
) -> Prepared:
    """Writes the pictures of a data set anew, none larger than a training needs, with a table of their labels.

    Each picture with a longer side is turned upright by its EXIF orientation, converted to RGB and resized with
    Pillow's Lanczos filter; JPEG and WebP become JPEG, the others PNG, and 16 bits per channel stay 16. Smaller
    pictures are copied byte by byte. The table has the label, split, group and weight of each, and the path and sha256
    of the original; it is written last, and read once to see that it says the same as the data set. After a kill the
    same call goes on.

    Args:
        dataset: from `load`, with `in_memory_limit=0`, of "folder:" or "csv:".
        out: the folder to make.
        long_side: pixels of the longer side of a resized picture; about twice the training size leaves random crops
            as they were.
        quality: of JPEG, 1 to 100.
        verbose: whether to show progress.

    Raises:
        ValueError: the data set is not one of picture files, the folder holds something else, or the labels cannot be
            written as a table.
        BadImageError: a picture cannot be decoded, unless the data set was loaded with `on_bad_image="skip"`.
    """
    check_int("long_side", long_side)
    check_int("quality", quality, maximum=100)
    splits: dict[str, Any] = dict(dataset.splits)
    options = dataset.options
    if options is None or not all(isinstance(part, EncodedExamples) and part.are_files for part in splits.values()):
        raise BadValue(
            f"data={dataset.spec!r} has no picture files at hand. Allowed are folder: and csv: with pictures, loaded "
            "with in_memory_limit=0. Other sources are read as they are."
        )
    folder = _folder_for(out, {"fingerprint": dataset.fingerprint, "long_side": long_side, "quality": quality})
    places = [(split, index) for split, part in splits.items() for index in range(len(part))]
    bar = keras.utils.Progbar(len(places), unit_name="picture") if verbose else None
    rows: Rows = {}
    bad: list[tuple[str, str]] = []
    workers = min(part.parallel_calls for part in splits.values())
    pool = concurrent.futures.ThreadPoolExecutor(min(workers, os.cpu_count() or 1))
    done = {path.stem: path for split in splits for path in (folder / split).glob("*.*") if path.name[0] != "."}
    try:
        tasks = {
            pool.submit(_write, splits[split], index, folder / split, long_side, quality, done): (split, index)
            for split, index in places
        }
        for task in concurrent.futures.as_completed(tasks):
            split, index = tasks[task]
            try:
                rows[split, index] = task.result()
            except UNREADABLE as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # of the system, such as a disk without room
                bad.append((splits[split].name_of(index), reason_of(error)))
            if bar is not None:
                bar.add(1)
    finally:
        pool.shutdown(cancel_futures=True)
    report: list[str] = []
    apply_bad_image_policy(sorted(bad), len(places), options, report)
    _write_table(dataset, folder, rows)
    _check(dataset, folder, rows)
    resized, before, after = (sum(row[name] for row in rows.values()) for name in ("resized", "before", "after"))
    return Prepared(folder / TABLE, len(rows), resized, before, after, tuple(report), _columns(dataset))


def reading_milliseconds(dataset: Dataset) -> dict[str, float]:
    """Returns the processor time to read a picture for training, by how it is read; nothing where none are large.

    A few pictures of the training split are decoded and cut to 224 px, as they are, scaled, and after `prepare`.
    """
    part: Any = dataset.splits["train"]
    if not isinstance(part, EncodedExamples) or not part.are_files or part.largest < LARGE_MEGAPIXELS * 1e6:
        return {}
    sample = part.take(np.linspace(0, len(part) - 1, min(SAMPLE, len(part))).astype(int))
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        try:
            rows = [_write(sample, index, folder, LONG_SIDE, QUALITY, {}) for index in range(len(sample))]
            paths = np.array([os.fsencode(folder.parent / row["path"]) for row in rows], dtype=object)
            small = dataclasses.replace(sample, contents=paths, orientations=np.ones_like(sample.orientations))
            return {
                AS_THEY_ARE: _milliseconds(sample, "full"),
                SCALED: _milliseconds(sample, "scaled"),
                PREPARED: _milliseconds(small, "full"),
            }
        except UNREADABLE:  # `prepare`, or the training, names the file
            return {}


def what_prepare_saves(dataset: Dataset, images_per_second: float, is_scaled: bool = False) -> str:
    """Returns a line on how long reading takes in a training, by measurement; nothing where `prepare` saves little.

    Args:
        dataset: that is trained on.
        images_per_second: of the training.
        is_scaled: whether it decodes with `data.decode="scaled"`.
    """
    # Pictures are read on all cores at once.
    times = {name: value / PARALLEL_CALLS for name, value in reading_milliseconds(dataset).items()}
    if not times:
        return ""
    present, reading = 1000 / images_per_second, times[SCALED if is_scaled else AS_THEY_ARE]
    prepared = max(present - reading + times[PREPARED], times[PREPARED])
    if present < WORTH_SAYING * prepared:
        return ""
    return (
        f"reading the pictures takes {min(reading / present, 1):.0%} of an epoch: after keras-resnet prepare one would "
        f"be {present / prepared:.1f} times faster"
    )


def _milliseconds(examples: EncodedExamples, decode: str) -> float:
    plan = Plan(
        1, image_size=(SIDE_PX, SIDE_PX), crop="random", antialias_above=TRAINING_ANTIALIAS_ABOVE, decode=decode
    )
    read = tf.function(examples.image_reader(plan))
    places = [tf.constant(index, tf.int64) for index in range(len(examples))]
    read(places[0], places[0])
    start = time.process_time()
    for place in places:
        read(place, place)
    return 1000 * (time.process_time() - start) / len(places)


def _folder_for(out: str | os.PathLike, settings: dict[str, Any]) -> pathlib.Path:
    """Returns the folder, which is new, or holds what a killed call with the same settings left."""
    folder = files.make_writable(out)
    path, text = folder / SETTINGS, json.dumps(settings) + "\n"
    if not path.is_file():
        present = sorted(each.name for each in folder.iterdir())
        if present:
            raise BadValue(
                f"out={os.fspath(out)!r} holds {present[0]!r}, and no pictures were prepared there. Allowed is a new "
                "folder. Choose another."
            )
        files.write_text(path, text)
    elif path.read_text("utf-8") != text:
        raise BadValue(
            f"out={os.fspath(out)!r} holds other pictures, or such of another size. Allowed is a new folder. Choose "
            "another, or remove it."
        )
    return folder


def _write(
    examples: EncodedExamples,
    index: int,
    folder: pathlib.Path,
    long_side: int,
    quality: int,
    done: dict[str, pathlib.Path],
) -> dict[str, Any]:
    """Writes one picture where it is not there yet; returns its row."""
    source = os.fsdecode(examples.contents[index])
    content = pathlib.Path(source).read_bytes()
    image = Image.open(io.BytesIO(content))
    is_large = max(image.size) > long_side
    digest = hashlib.sha256(content).hexdigest()
    stem = f"{folder.name}-{index:07d}-{digest[:8]}"  # of an original that was changed meanwhile it is another name
    if stem in done:
        path = done[stem]
    else:
        suffix = ".jpg" if is_large and image.format in LOSSY else SUFFIXES[image.format or ""]
        path = folder / f"{stem}{'.png' if is_large and suffix != '.jpg' else suffix}"
        orientation = int(examples.orientations[index])
        with files.replacing(path) as temporary:
            if not is_large:
                temporary.write_bytes(content)
            elif has_16_bits(content):
                temporary.write_bytes(_resized_deep(content, orientation, long_side))
            else:
                _resized(image, orientation, long_side).save(temporary, quality=quality, subsampling=0)
    return {
        "path": f"{folder.name}/{path.name}",
        "original": source,
        "sha256": digest,
        "resized": int(is_large),
        "before": len(content),
        "after": path.stat().st_size,
    }


def _size(width: int, height: int, long_side: int) -> tuple[int, int]:
    scale = long_side / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _resized(image: Image.Image, orientation: int, long_side: int) -> Image.Image:
    size = _size(*image.size, long_side)
    image.draft(None, (DRAFT * size[0], DRAFT * size[1]))  # of JPEG; other formats are decoded whole
    image = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def _resized_deep(content: bytes, orientation: int, long_side: int) -> bytes:
    image = decode(content, orientation, is_deep=True)
    height, width = image.shape[:2]
    width, height = _size(width, height, long_side)
    image = tf.image.resize(image, (height, width), method="lanczos3", antialias=True)
    whole = tf.cast(tf.round(tf.clip_by_value(image, 0.0, 255.0) * 257), tf.uint16)
    return tf.io.encode_png(whole).numpy()


def _columns(dataset: Dataset) -> str | None:
    """Returns the value of `data.columns` for the table: the targets of a regression, which keep their names."""
    return None if dataset.units in ((), ("label",)) else f"label={'+'.join(dataset.units)}"


def _write_table(dataset: Dataset, folder: pathlib.Path, rows: Rows) -> None:
    splits: dict[str, Any] = dict(dataset.splits)
    targets = dataset.units or ("label",)
    groups: dict[str, Any] = {split: dataset.groups_of(split) for split in splits}
    weights = {split: examples.weights for split, examples in splits.items()}
    has_groups, has_weights = (all(each is not None for each in values.values()) for values in (groups, weights))
    names = ["path", *targets, "split", *["group"] * has_groups, *["weight"] * has_weights, "original", "sha256"]

    def write_rows(path: pathlib.Path) -> None:
        with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.DictWriter(file, names, extrasaction="ignore")
            writer.writeheader()
            for split, examples in splits.items():
                for index in range(len(examples)):
                    if (split, index) in rows:
                        row = {**rows[split, index], "split": split, **_labels(dataset, examples.labels, index)}
                        for name, has_it, values in (("group", has_groups, groups), ("weight", has_weights, weights)):
                            row[name] = values[split][index] if has_it else None
                        writer.writerow(row)

    files.write_atomically(folder / TABLE, write_rows)


def _labels(dataset: Dataset, labels: Any, index: int) -> dict[str, Any]:
    """Returns the cells of an example: its class, the list of its classes, or its targets."""
    label = labels[index]
    if not dataset.class_names:
        return dict(zip(dataset.units or ("label",), np.atleast_1d(label).tolist(), strict=True))
    if np.ndim(label):
        return {"label": repr([dataset.class_names[place] for place in np.flatnonzero(np.asarray(label) > 0)])}
    return {"label": dataset.class_names[int(label)]}


def _check(dataset: Dataset, folder: pathlib.Path, rows: Rows) -> None:
    """Raises ValueError where the table does not say what the data set says, and removes it."""
    table, splits = folder / TABLE, dict[str, Any](dataset.splits)
    task = None if dataset.options is None else dataset.options.task.name
    try:
        # The splits of the table alone.
        whole = {"in_memory_limit": 0, "validation_fraction": 0.0, "test_fraction": 0.0}
        again = load(f"csv:{table}", task=task, columns=_columns(dataset), **whole)
        pairs: list[tuple[Any, Any]] = [(dataset.class_names, again.class_names), (dataset.units, again.units)]
        for split, examples in splits.items():
            kept = [index for index in range(len(examples)) if (split, index) in rows]
            pairs.append((examples.labels[kept], again.splits[split].labels))
            for name in ("groups_of", "weights_of"):
                values = getattr(dataset, name)(split)
                pairs.append((None if values is None else values[kept], getattr(again, name)(split)))
        different = not all(np.array_equal(one, other) for one, other in pairs)
    except (ValueError, KeyError) as error:
        table.unlink()
        raise BadValue(
            f"the labels of data={dataset.spec!r} cannot be written as a table: {error} Train on the data as it is."
        ) from error
    if different:
        table.unlink()
        raise BadValue(
            f"the labels of data={dataset.spec!r} would be others when they are read from a table, as labels that are "
            "not known are. Train on the data as it is."
        )
