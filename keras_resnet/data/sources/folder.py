"""Class folders of image files: scanned before anything is decoded, then held in memory or read as needed."""

import math
import os
import pathlib

import numpy as np
import tensorflow as tf

from keras_resnet.data.dataset import Dataset, Examples
from keras_resnet.data.examples.encoded import EncodedExamples, common_shape
from keras_resnet.data.examples.splits import division, with_test, with_validation
from keras_resnet.data.images.bad_images import bad_image_error, settle
from keras_resnet.data.images.headers import Header
from keras_resnet.data.options import LoadOptions
from keras_resnet.data.sources.kept_headers import headers_of
from keras_resnet.data.sources.listing import (
    ClassFolders,
    check_same_classes,
    class_counts,
    find_splits,
    list_classes,
    names_below,
    resolve,
)
from keras_resnet.data.sources.manifest import check_manifest
from keras_resnet.errors import BadValue
from keras_resnet.tasks import CLASSIFICATION


def load_folder(spec: str, argument: str, options: LoadOptions) -> Dataset:
    """Returns the images of class folders."""
    if options.task is not CLASSIFICATION:
        raise BadValue(
            f"task={options.task.name!r} was given with spec={spec!r}, whose labels are folders. "
            "Allowed is task='classification'. Use an npz: spec for regression."
        )
    root = resolve(argument, options)
    report: list[str] = []
    folders = find_splits(root, report)
    known = options.class_names
    classes = {split: list_classes(folder, report, known) for split, folder in folders.items()}
    names = check_same_classes(classes, report) if known is None else known
    counted = len(report)
    report.extend(class_counts(split, found) for split, found in classes.items())
    if options.manifest is not None:
        paths = [path for found in classes.values() for files in found.files.values() for path in files]
        check_manifest(options.manifest, root, paths)
    splits = _scan(root, classes, names, options, report)
    if set(splits) == {"train"}:
        splits = with_test(splits, options)
    splits = with_validation(splits, options)
    report[counted] += division(splits, len(classes))
    return Dataset(spec, _hold(splits, options, report), class_names=names, num_outputs=len(names), report=report)


def _scan(
    root: pathlib.Path,
    classes: dict[str, ClassFolders],
    names: tuple[str, ...],
    options: LoadOptions,
    report: list[str],
) -> dict[str, EncodedExamples]:
    """Returns the splits after a look at the header and the end of every file."""
    paths = {split: [path for files in found.files.values() for path in files] for split, found in classes.items()}
    everything = [path for files in paths.values() for path in files]
    headers = dict(zip(everything, headers_of(root, everything, options.max_pixels), strict=True))
    bad = [(path, reason) for path, reason in headers.items() if isinstance(reason, str)]
    settle(bad, len(headers), options, report)
    _report_kinds(headers, options, report)
    is_deep = any(header.bits == 16 for header in headers.values() if isinstance(header, Header))
    label_of = {name: label for label, name in enumerate(names)}
    splits = {}
    for split, found in classes.items():
        kept = [
            (path, label_of[name], header)
            for name, files in found.files.items()
            for path in files
            if isinstance(header := headers[path], Header)
        ]
        lost = sorted(set(found.files) - {names[label] for _, label, _ in kept})
        if lost:
            raise bad_image_error(bad, len(headers), f"No image of the classes {lost} in split {split!r} is left.")
        splits[split] = _examples(root, kept, options, is_deep)
    return splits


def _examples(
    root: pathlib.Path, kept: list[tuple[str, int, Header]], options: LoadOptions, is_deep: bool
) -> EncodedExamples:
    orientations = np.array([header.orientation if options.apply_exif else 1 for _, _, header in kept], "int32")
    shapes = [
        (header.width, header.height) if orientation >= 5 else (header.height, header.width)
        for (_, _, header), orientation in zip(kept, orientations, strict=True)
    ]
    names = names_below(root, (path for path, _, _ in kept))
    # A signature begins with the size of the file.
    sizes = (header.signature.partition(" ")[0] for _, _, header in kept)
    identities = [f"{name} {size}" for name, size in zip(names, sizes, strict=True)]
    contents = np.empty(len(kept), object)
    contents[:] = [os.fsencode(path) for path, _, _ in kept]
    return EncodedExamples(
        contents,
        np.array([label for _, label, _ in kept], "int32"),
        orientations,
        common_shape(shapes),
        np.array(identities, object),
        signatures=np.array([header.signature for _, _, header in kept], object),
        are_files=True,
        is_deep=is_deep,
        largest=max((height * width for height, width in shapes), default=0),
    )


def _hold(splits: dict[str, EncodedExamples], options: LoadOptions, report: list[str]) -> dict[str, Examples]:
    """Returns the splits decoded in memory where all images share one size and fit, or as they are."""
    shapes = {examples.image_shape for examples in splits.values()}
    shape = next(iter(shapes))
    total = sum(len(examples) for examples in splits.values())
    bytes_each = math.prod(size or 0 for size in shape) * (4 if splits["train"].is_deep else 1)
    if len(shapes) > 1 or None in shape or total * bytes_each > options.in_memory_limit:
        return dict(splits)
    held: dict[str, Examples] = {}
    for name, examples in splits.items():
        try:
            held[name] = examples.decode()
        except tf.errors.OpError as error:
            bad = examples.find_bad()
            if not bad:
                raise  # the fault has gone away: a file system that fails now and then is no bad image
            try:
                settle(bad, len(examples), options, report)
            except ValueError as named:
                raise named from error
            names = {path for path, _ in bad}
            good = [index for index, path in enumerate(examples.contents) if os.fsdecode(path) not in names]
            held[name] = examples.take(np.array(good)).decode()
    return held


def _report_kinds(headers: dict[str, Header | str], options: LoadOptions, report: list[str]) -> None:
    good = [header for header in headers.values() if isinstance(header, Header)]
    deep = sum(header.bits == 16 for header in good)
    if deep:
        report.append(f"{deep} files of 16 bits per channel keep them: 65535 is 255, and between are fractions")
    animated = sum(header.is_animated for header in good)
    if animated:
        report.append(f"{animated} animated files: their first frame is read")
    turned = sum(header.orientation != 1 for header in good)
    if turned:
        done = "are turned upright by it" if options.apply_exif else "are read as stored (apply_exif=False)"
        report.append(f"{turned} photographs have an EXIF orientation and {done}")
