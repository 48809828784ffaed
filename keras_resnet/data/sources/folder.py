"""Class folders of image files: scanned before anything is decoded, then held in memory or read as needed."""

import dataclasses
import os
import pathlib
from typing import Any

import numpy as np

from keras_resnet.data.dataset import Dataset
from keras_resnet.data.examples.encoded import EncodedExamples
from keras_resnet.data.examples.splits import divided, division
from keras_resnet.data.images.headers import Header, apply_bad_image_policy, bad_image_error
from keras_resnet.data.options import LoadOptions
from keras_resnet.data.sources.groups import check_groups, check_named, group_report, groups_of, weights_beside
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
from keras_resnet.data.sources.pictures import hold, pictures, report_kinds
from keras_resnet.errors import BadValue
from keras_resnet.files import identity_of
from keras_resnet.tasks import CLASSIFICATION, MULTILABEL


def load_folder(spec: str, argument: str, options: LoadOptions) -> Dataset:
    """Returns the images of class folders."""
    if options.task not in (CLASSIFICATION, MULTILABEL):
        raise BadValue(
            f"task={options.task.name!r} was given with spec={spec!r}, whose labels are folders. Allowed are "
            "task='classification' and 'multilabel'. Use a csv: or npz: spec for regression."
        )
    root = resolve(argument, options)
    report: list[str] = []
    folders = find_splits(root, report)
    class_names = options.class_names
    classes = {split: list_classes(folder, report, class_names) for split, folder in folders.items()}
    names = check_same_classes(classes, report) if class_names is None else class_names
    num_bad = len(report)
    report.extend(class_counts(split, found) for split, found in classes.items())
    if options.manifest is not None:
        paths = [path for found in classes.values() for files in found.files.values() for path in files]
        check_manifest(options.manifest, root, paths)
    splits = _scan(spec, root, classes, names, options, report)
    groups = _groups(spec, root, splits, options, report)
    splits = divided(splits, options, groups)
    report[num_bad] += division(splits, len(classes))
    return Dataset(
        spec,
        hold(splits, options, report, groups),
        class_names=names,
        num_outputs=len(names),
        report=report,
        groups=groups,
        task=options.task.name,
    )


def _groups(
    spec: str, root: pathlib.Path, splits: dict[str, EncodedExamples], options: LoadOptions, report: list[str]
) -> dict[str, np.ndarray | None]:
    """Returns the groups of the examples of each split, by `options.group_pattern`."""
    # Below the root: where the data lie must not change the groups.
    paths = names_below(
        root, [examples.name_of(index) for examples in splits.values() for index in range(len(examples))]
    )
    groups = groups_of(paths, [], options.group_pattern)
    report += group_report(paths, groups)
    ends = np.cumsum([len(examples) for examples in splits.values()])
    numbers = dict(zip(splits, np.split(np.arange(len(paths)), ends[:-1]), strict=True))
    check_groups(spec, groups, {split: found.tolist() for split, found in numbers.items()}, paths)
    return {split: None if groups is None else groups[found] for split, found in numbers.items()}


def _scan(
    spec: str,
    root: pathlib.Path,
    classes: dict[str, ClassFolders],
    names: tuple[str, ...],
    options: LoadOptions,
    report: list[str],
) -> dict[str, EncodedExamples]:
    """Returns the splits after a look at the header and the end of every file."""
    label_of = {name: label for label, name in enumerate(names)}
    labeled = {split: _labeled(found, label_of, options, report) for split, found in classes.items()}
    everything = [path for found in labeled.values() for path in found]
    headers = dict(zip(everything, headers_of(root, everything, options.max_pixels), strict=True))
    bad = [(path, reason) for path, reason in headers.items() if isinstance(reason, str)]
    apply_bad_image_policy(bad, len(headers), options, report)
    report_kinds(headers.items(), options, report)
    is_deep = any(header.bits == 16 for header in headers.values() if isinstance(header, Header))
    weights = weights_beside(spec, root, report)
    if weights is not None:
        check_named(spec, root, weights, {os.path.normpath(path) for path in everything})
    splits = {}
    for split, found in classes.items():
        readable = [(path, header) for path in labeled[split] if isinstance(header := headers[path], Header)]
        own = [labeled[split][path] for path, _ in readable]
        lost = sorted(set(found.files) - {names[label] for several in own for label in several})
        if lost:
            raise bad_image_error(bad, len(headers), f"No image of the classes {lost} in split {split!r} is left.")
        if options.task is MULTILABEL:
            labels = np.zeros((len(readable), len(names)), "float32")
            for row, several in zip(labels, own, strict=True):
                row[several] = 1
        else:
            labels = np.array([label for (label,) in own], "int32")
        counts = (
            None
            if weights is None
            else np.array([weights.get(os.path.normpath(path), 1.0) for path, _ in readable], "float32")
        )
        splits[split] = dataclasses.replace(pictures(root, readable, labels, options), is_deep=is_deep, weights=counts)
    return splits


def _labeled(
    found: ClassFolders, label_of: dict[str, int], options: LoadOptions, report: list[str]
) -> dict[str, list[int]]:
    """Returns the labels of each file: of multi-label targets, all folders in which it or a link to it lies.

    It goes by the path in the first of these folders.
    """
    if options.task is CLASSIFICATION:
        # One list for all pictures of a class.
        return {path: own for name, files in found.files.items() for own in ([label_of[name]],) for path in files}
    labels: dict[Any, list[int]] = {}
    first: dict[Any, str] = {}
    for name, files in found.files.items():
        for path in files:
            identity = identity_of(path)
            first.setdefault(identity, path)
            own = labels.setdefault(identity, [])
            if label_of[name] not in own:
                own.append(label_of[name])
    shared = sum(len(own) > 1 for own in labels.values())
    advice = "" if shared else "; a copy counts as another picture: make links, or give a table (csv:FILE)"
    report.append(f"{found.root}: {len(first)} pictures, {shared} of them in several class folders by links{advice}")
    return {first[identity]: own for identity, own in labels.items()}
