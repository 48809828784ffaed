"""Arrays in an .npz file: images, signals and volumes, with class labels or regression targets."""

import pathlib
import zipfile
import zlib
from typing import Any

import numpy as np

from keras_resnet.arguments import suggestion
from keras_resnet.data.array_files import open_npz
from keras_resnet.data.dataset import Dataset
from keras_resnet.data.examples.arrays import KINDS, ArrayExamples, as_images, check_same_length
from keras_resnet.data.examples.splits import divided, division, split_off
from keras_resnet.data.options import LoadOptions, Source
from keras_resnet.data.sources.listing import resolve
from keras_resnet.errors import BadValue, require
from keras_resnet.tasks.labels import class_counts, count_classes

TEST_EXAMPLES = 360


def load_digits(spec: str, argument: str, options: LoadOptions) -> Dataset:
    """Returns 1797 digits of 8x8 pixels: 360 for test, the others for training and validation."""
    if argument:
        raise BadValue(
            f"spec={spec!r} has something after 'digits'. Allowed is 'digits' alone. Leave {argument!r} out."
        )
    if not options.task.is_exclusive:
        raise BadValue(
            f"task={options.task.name!r} was given with spec='digits', whose labels are classes. "
            "Allowed is task='classification'. Use an npz: spec for regression."
        )
    bundled = require("sklearn.datasets", "spec='digits'").load_digits
    pixels, labels = bundled(return_X_y=True)
    # 0 to 16 in the file: how many of the 4x4 pixels of the scan were on.
    images = np.round(pixels * (255 / 16)).astype("uint8").reshape(-1, 8, 8, 1)
    labels = labels.astype("int32")
    train, test = split_off(labels, TEST_EXAMPLES, seed=options.split_seed, stratified=True)
    splits = {
        "train": ArrayExamples(images[train], labels[train]),
        "test": ArrayExamples(images[test], labels[test]),
    }
    return Dataset(
        spec,
        divided(splits, options),
        class_names=tuple(str(digit) for digit in range(10)),
        num_outputs=10,
        report=[],
    )


# Suffix in the file -> split.
SUFFIXES = {"train": "train", "val": "validation", "test": "test"}
KEYS = ("x", "y", "w", *(f"{axis}_{suffix}" for suffix in SUFFIXES for axis in "xyw"), "class_names", "units")
# What numpy, zipfile and zlib raise for files that are cut, corrupted, encrypted or of another kind.
UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error)
ALLOWED = (
    "x_train, y_train, x_test, y_test, optionally x_val and y_val; or x and y; weights of the examples as w_train and "
    "so on, or w; and class_names or units"
)


def load_npz(spec: str, argument: str, options: LoadOptions) -> Dataset:
    """Returns the arrays of a file, checked; pickled objects in it are refused and never run."""
    path = resolve(argument, options)
    arrays = _read(path)
    pairs = _pairs(path, arrays)
    task = options.task
    class_names: tuple[str, ...] = ()
    if task.has_classes:
        class_names = _encode_words(path, arrays, pairs, _class_names(path, arrays.get("class_names")))
    # Training first: where the file gives no class names, its labels say how many classes there are.
    labels: dict[str, np.ndarray] = {}
    num_outputs = len(class_names) or None
    for split in sorted(pairs, key=lambda name: name != "train"):
        x_key, y_key = pairs[split]
        where = f"{y_key} of {path}"
        labels[split] = task.check_labels(arrays[y_key], num_outputs if task.has_classes else None, where=where)
        if task.has_classes:
            is_wide = labels[split].ndim == 2
            width = num_outputs or (
                labels[split].shape[1] if is_wide else _num_classes(arrays[y_key], labels[split], where)
            )
        else:
            width = 1 if labels[split].ndim == 1 else labels[split].shape[1]
        check_same_length(arrays[x_key], labels[split], f"{x_key}, {y_key} of {path}")
        if num_outputs not in (None, width):
            raise BadValue(
                f"{where} holds {width} numbers an example and training {num_outputs}. "
                "Allowed is the same number in every split. Correct the arrays."
            )
        num_outputs = width
    splits = {
        split: ArrayExamples(
            as_images(arrays[pairs[split][0]], f"{pairs[split][0]} of {path}", options.rank),
            labels[split],
            weights=_weights(path, arrays, pairs[split][0], len(labels[split])),
        )
        for split in pairs
    }
    _check_same_shape(path, splits)
    if task.has_classes and not class_names:
        class_names = tuple(str(label) for label in range(num_outputs or 0))
    report = [_kind(splits["train"].image_shape), *_report(splits, class_names)]
    num_splits = len(splits)
    result = dict(divided(splits, options))
    if class_names:
        report[1] += division(result, num_splits)
    return Dataset(
        spec,
        result,
        class_names=class_names,
        num_outputs=num_outputs or 1,
        units=() if task.has_classes else _units(path, arrays.get("units"), num_outputs or 1),
        report=report,
        task=task.name,
    )


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        with open_npz(path) as file:
            arrays = {}
            for key in file.files:
                try:
                    arrays[key] = file[key]
                except ValueError as error:
                    raise ValueError(f"its array {key!r} cannot be read ({error})") from None
            return arrays
    except UNREADABLE as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise BadValue(
            f"npz:{path} cannot be read: {reason}. Allowed is a file written by numpy.savez, with arrays of "
            f"numbers and no pickled objects: {ALLOWED}. Check the path, or write the file again."
        ) from None


def _pairs(path: pathlib.Path, arrays: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Returns the keys of images and labels of each split."""
    unknown = [key for key in arrays if key not in KEYS]
    if unknown:
        raise BadValue(
            f"npz:{path} holds arrays called {unknown}. {suggestion(unknown[0], KEYS)}Allowed are {ALLOWED}. "
            "Rename them."
        )
    pairs = {split: (f"x_{suffix}", f"y_{suffix}") for suffix, split in SUFFIXES.items()}
    if "x" in arrays or "y" in arrays:
        pairs = {"train": ("x", "y")}
        mixed = [key for key in arrays if "_" in key and key != "class_names"]
        if mixed:
            raise BadValue(
                f"npz:{path} holds 'x' or 'y' beside {mixed}. Allowed are {ALLOWED}. Keep one of the two forms."
            )
    present = {split: keys for split, keys in pairs.items() if keys[0] in arrays or keys[1] in arrays}
    alone = [key for key in arrays if key[0] == "w" and "x" + key[1:] not in {keys[0] for keys in present.values()}]
    if alone:
        raise BadValue(f"npz:{path} holds weights {alone} of no examples. Allowed are {ALLOWED}. Rename them.")
    incomplete = [key for keys in present.values() for key in keys if key not in arrays]
    if "train" not in present or incomplete:
        missing = incomplete or ["x_train", "y_train"]
        raise BadValue(f"npz:{path} lacks {missing}. Allowed are {ALLOWED}. Add the missing arrays.")
    return present


def _weights(path: pathlib.Path, arrays: dict[str, Any], x_key: str, examples: int) -> np.ndarray | None:
    """Returns the weights of the examples of a split; None where the file has none."""
    key = "w" + x_key[1:]
    if key not in arrays:
        return None
    weights = np.asarray(arrays[key])
    if weights.shape != (examples,) or weights.dtype.kind not in "iufb":
        raise BadValue(
            f"{key} of {path} has dtype {weights.dtype} and shape {weights.shape}. Allowed is a number for each of the "
            f"{examples} examples, ({examples},). Correct the array."
        )
    return weights.astype("float32")


def _class_names(path: pathlib.Path, names: np.ndarray | None) -> tuple[str, ...]:
    if names is None:
        return ()
    if names.ndim != 1 or names.dtype.kind != "U" or len(set(names.tolist())) < max(2, len(names)):
        raise BadValue(
            f"class_names of {path} has dtype {names.dtype} and shape {names.shape}. "
            "Allowed is a list of two or more different strings, such as numpy.array(['cat', 'dog']). Write it again."
        )
    odd = [name for name in names.tolist() if not name.isprintable()]
    if odd:
        raise BadValue(
            f"class_names of {path} holds unprintable characters: {odd!r}. Allowed are letters, digits, spaces and "
            "signs of any script on one line. Write it again."
        )
    return tuple(names.tolist())


def _units(path: pathlib.Path, units: np.ndarray | None, num_outputs: int) -> tuple[str, ...]:
    """Returns the units of regression targets, one string per output; none where the file has none."""
    if units is None:
        return ()
    names = np.atleast_1d(units)
    if names.dtype.kind != "U" or names.shape != (num_outputs,) or not all(map(str.isprintable, names.tolist())):
        raise BadValue(
            f"units of {path} has dtype {units.dtype} and shape {units.shape}. Allowed are {num_outputs} printable "
            "strings, one per target, such as numpy.array(['mm']). Write it again."
        )
    return tuple(names.tolist())


def _encode_words(
    path: pathlib.Path, arrays: dict[str, np.ndarray], pairs: dict[str, tuple[str, str]], class_names: tuple[str, ...]
) -> tuple[str, ...]:
    """Puts indices in the place of labels that are words, and returns the class names: those given, or the words."""
    keys = [y_key for _, y_key in pairs.values() if arrays[y_key].dtype.kind in "US" and arrays[y_key].ndim == 1]
    if not keys:
        return class_names
    words = {
        key: np.char.decode(arrays[key], "utf-8") if arrays[key].dtype.kind == "S" else arrays[key] for key in keys
    }
    names = class_names or _class_names(path, np.unique(np.concatenate(list(words.values()))))
    for key, found in words.items():
        unknown = np.flatnonzero(~np.isin(found, names))
        if len(unknown):
            raise BadValue(
                f"{key}[{unknown[0]}]={found[unknown[0]]!s} of {path} is none of the class_names {list(names)}. "
                "Allowed are these. Correct the label, or add the class."
            )
        arrays[key] = np.array([names.index(word) for word in found.tolist()], "int32")
    return names


def _num_classes(raw: np.ndarray, labels: np.ndarray, where: str) -> int:
    """Returns the width of one-hot rows, or what the labels say."""
    if raw.ndim == 2 and raw.shape[1] > 1:
        return int(raw.shape[1])
    if not len(labels):
        raise BadValue(f"{where} is empty. Allowed is at least one label. Check how the array was made.")
    num_classes = count_classes(labels, (), where)
    if num_classes < 2:
        raise BadValue(
            f"{where} holds one class. Allowed are two or more. Add examples of the others, or use task='regression'."
        )
    return num_classes


def _check_same_shape(path: pathlib.Path, splits: dict[str, ArrayExamples]) -> None:
    shapes = {split: examples.image_shape for split, examples in splits.items()}
    dtypes = {split: examples.image_dtype for split, examples in splits.items()}
    if len(set(shapes.values())) > 1 or len(set(dtypes.values())) > 1:
        raise BadValue(
            f"npz:{path} holds images of different shapes or types: {shapes}, {dtypes}. "
            "Allowed is one shape and one type in all splits. Convert the arrays."
        )


def _kind(shape: tuple[int | None, ...]) -> str:
    """Returns a line of the report: what the shape of the examples was taken for."""
    *space, channels = shape
    sizes = " x ".join(map(str, space))
    return f"examples: {KINDS[len(space)]} of {sizes}, with {channels} channel{'s' if channels != 1 else ''}"


def _report(splits: dict[str, ArrayExamples], class_names: tuple[str, ...]) -> list[str]:
    report = []
    for split, examples in splits.items():
        if class_names:
            counts = class_counts(examples.labels, len(class_names))
            report.append(
                f"split {split!r}: "
                + ", ".join(f"{name} {count}" for name, count in zip(class_names, counts, strict=True))
            )
            absent = [name for name, count in zip(class_names, counts, strict=True) if not count]
            if absent:
                report.append(f"split {split!r} has no examples of the classes {absent}")
    return report


DIGITS = Source("digits", load_digits, "digits", is_path=False)
NPZ = Source("npz", load_npz, "npz:FILE", endings=(".npz",))
