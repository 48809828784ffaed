"""Class folders of image files: scanned before anything is decoded, then held in memory or read as needed."""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from keras_resnet import files
from keras_resnet.data.dataset import Dataset
from keras_resnet.data.examples.encoded import EncodedExamples
from keras_resnet.data.examples.splits import divided, division
from keras_resnet.data.images.decoding import inspect, why_unusable
from keras_resnet.data.images.headers import FORMATS, Header, apply_bad_image_policy, bad_image_error
from keras_resnet.data.options import LoadOptions, Source
from keras_resnet.data.sources.groups import check_groups, check_named, group_report, groups_of, weights_beside
from keras_resnet.data.sources.listing import (
    ClassFolders,
    check_same_classes,
    class_counts,
    find_splits,
    list_classes,
    map_threaded,
    names_below,
    resolve,
)
from keras_resnet.data.sources.pictures import hold, pictures, report_kinds
from keras_resnet.errors import BadValue, NoRoom
from keras_resnet.files import identity_of

MANIFEST_NAME = "SHA256SUMS"


def write_manifest(folder: str | os.PathLike, path: str | os.PathLike | None = None) -> pathlib.Path:
    """Writes the sha256 of every image of a "folder:" dataset, in the format of the command `sha256sum`.

    Args:
        folder: what follows "folder:" in the spec.
        path: of the manifest; None for `SHA256SUMS` in the folder.

    Returns:
        The path of the manifest; pass it to `load(..., manifest=...)`.

    Raises:
        ValueError: the folder holds no classes, a file cannot be read, or the manifest exists.
    """
    root = pathlib.Path(folder)
    path = root / MANIFEST_NAME if path is None else pathlib.Path(path)
    files.check_replaceable(path, "path")
    paths = [
        file
        for split in find_splits(root, []).values()
        for class_files in list_classes(split, []).files.values()
        for file in class_files
    ]
    digests = _digests(paths)
    unread = [(file, "cannot be read") for file, digest in digests if digest is None]
    if unread:
        raise bad_image_error(unread, len(digests), "Make these files readable, or delete them.")
    lines = [f"{digest}  {_relative(file, root)}\n" for file, digest in digests]
    files.write_text(path, "".join(lines))
    return path


def check_manifest(manifest: pathlib.Path, root: pathlib.Path, paths: Iterable[str]) -> None:
    """Compares image files with a manifest."""
    expected = _read_sums(manifest)
    digests = _digests(paths)
    bad = []
    for path, digest in digests:
        expected_digest = expected.pop(_relative(path, root), None)
        if expected_digest is None:
            bad.append((path, f"not in {manifest}"))
        elif digest is None:
            bad.append((path, "cannot be read"))
        elif digest != expected_digest:
            bad.append((path, f"its sha256 is {digest[:12]}..., {manifest} says {expected_digest[:12]}..."))
    bad += [(str(root / name), f"missing, but in {manifest}") for name in expected]
    if bad:
        raise bad_image_error(bad, len(digests) + len(expected), "Restore these files, or write the manifest again.")


def _read_sums(manifest: pathlib.Path) -> dict[str, str]:
    try:
        lines = manifest.read_text(encoding="utf-8").splitlines()
        pairs = [line.split("  ", 1) for line in lines if line]
        if any(len(pair) != 2 or len(pair[0]) != 64 for pair in pairs):
            raise ValueError("a line is not '<sha256>  <path>'")
    except (OSError, ValueError) as error:
        raise BadValue(
            f"manifest={str(manifest)!r} cannot be read: {error}. "
            "Allowed is a file written by keras_resnet.data.write_manifest or sha256sum. Write it again."
        ) from None
    return {name: digest for digest, name in pairs}


def _digests(paths: Iterable[str]) -> list[tuple[str, str | None]]:
    paths = list(paths)
    return list(zip(paths, map_threaded(paths, _digest, os.cpu_count()), strict=True))


def _digest(path: str) -> str | None:
    try:
        return files.sha256_of(path)
    except OSError:
        return None


def _relative(path: str, root: pathlib.Path) -> str:
    return pathlib.PurePath(os.path.relpath(path, root)).as_posix()


SCANNING_THREADS = 16  # more than cores: a scan waits for the disk more than it computes
# A smaller folder is read again in about a second.
LEAST_KEPT = 20_000
# Name in the file -> its type. One row per picture; names stand in one text, with NUL between them.
COLUMNS = {
    "names": "uint8",
    "modified": "int64",
    "sizes": "int64",
    "checksums": "uint32",
    "formats": "uint8",
    "heights": "int32",
    "widths": "int32",
    "orientations": "uint8",
    "animated": "bool",
    "bits": "uint8",
}


def headers_of(root: pathlib.Path, paths: Sequence[str], max_pixels: int) -> list[Header | str]:
    """Returns the header of each picture, or why it cannot be used.

    Headers of a folder of many pictures are kept in the user's cache, and taken from there for files whose size and
    time of change are the same.
    """
    if len(paths) < LEAST_KEPT:
        return _opened(paths, max_pixels)
    stats = np.array(map_threaded(paths, _stat, SCANNING_THREADS), "int64")
    names = names_below(root, paths)
    place = listing_of(root)
    table = _read_table(place)
    headers: list[Any] = [None] * len(paths) if table is None else _kept(table, names, stats, max_pixels)
    missing = [index for index, header in enumerate(headers) if header is None]
    for index, header in zip(missing, _opened([paths[index] for index in missing], max_pixels), strict=True):
        headers[index] = header
    # What had to be decoded to be believed, or is not usable, is looked at anew each time.
    if any(isinstance(headers[index], Header) and not headers[index].is_doubtful for index in missing):
        _write(place, names, stats, headers)
    return headers


def listing_of(root: pathlib.Path) -> pathlib.Path:
    """Returns the path of the stored headers of a folder: below `$KERAS_RESNET_HOME/listings`, or the user's cache."""
    return files.cache_home() / "listings" / f"{hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()}.npz"


def _opened(paths: Sequence[str], max_pixels: int) -> list[Header | str]:
    return map_threaded(paths, lambda path: inspect(path, max_pixels), SCANNING_THREADS)


def _stat(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _read_table(place: pathlib.Path) -> dict[str, np.ndarray] | None:
    """Returns the columns that were kept; None where there are none, or they are not what was written."""
    try:
        with open(place, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            table = {name: arrays[name] for name in COLUMNS}
    except Exception:  # a cache that cannot be read, for whatever reason, is made again
        return None
    rows = len(table["sizes"])
    is_whole = all(array.dtype == COLUMNS[name] and array.ndim == 1 for name, array in table.items())
    is_whole = is_whole and all(len(array) == rows for name, array in table.items() if name != "names")
    return table if is_whole and bool((table["formats"] < len(FORMATS)).all()) else None


def _kept(
    table: dict[str, np.ndarray], names: list[str], stats: np.ndarray, max_pixels: int
) -> list[Header | str | None]:
    """Returns the kept header of each file that has not changed, or why it is not usable; None for the others."""
    stored_names = table["names"].tobytes().decode("utf-8", "surrogateescape").split("\0")
    if len(stored_names) != len(table["sizes"]):
        return [None] * len(names)
    row_of = None if stored_names == names else {name: row for row, name in enumerate(stored_names)}
    columns = [table[name].tolist() for name in COLUMNS if name != "names"]
    rows = list(zip(*columns, strict=True))
    headers: list[Header | str | None] = []
    for index, (name, (size, modified)) in enumerate(zip(names, stats.tolist(), strict=True)):
        row = index if row_of is None else row_of.get(name)
        if row is None or rows[row][:2] != (modified, size):
            headers.append(None)
            continue
        _, _, checksum, kind, height, width, orientation, is_animated, bits = rows[row]
        signature = f"{size} {checksum:08x}"
        header = Header(FORMATS[kind], height, width, orientation, is_animated, False, bits, signature)
        headers.append(why_unusable(header, size, max_pixels) or header)
    return headers


def _write(place: pathlib.Path, names: list[str], stats: np.ndarray, found: list[Header | str]) -> None:
    """Keeps the headers, if there is room: a listing that is not kept is made again."""
    rows = [index for index, header in enumerate(found) if isinstance(header, Header) and not header.is_doubtful]
    headers: list[Any] = [found[index] for index in rows]
    values = {
        "names": np.frombuffer("\0".join(names[row] for row in rows).encode("utf-8", "surrogateescape"), "uint8"),
        "modified": stats[rows, 1],
        "sizes": stats[rows, 0],
        "checksums": [int(header.signature.split()[1], 16) for header in headers],
        "formats": [FORMATS.index(header.format) for header in headers],
        "heights": [header.height for header in headers],
        "widths": [header.width for header in headers],
        "orientations": [header.orientation for header in headers],
        "animated": [header.is_animated for header in headers],
        "bits": [header.bits for header in headers],
    }
    arrays: Any = {name: np.asarray(values[name], COLUMNS[name]) for name in COLUMNS}

    def write(path: pathlib.Path) -> None:
        with open(path, "wb") as file:
            np.savez(file, **arrays)

    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomically(place, write)
    except (OSError, NoRoom):
        return


def load_folder(spec: str, argument: str, options: LoadOptions) -> Dataset:
    """Returns the images of class folders."""
    if not options.task.has_classes:
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
        if options.task.has_thresholds:
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
    if options.task.is_exclusive:
        # One list for all pictures of a class.
        return {path: own for name, files in found.files.items() for own in ([label_of[name]],) for path in files}
    labels: dict[Any, list[int]] = {}
    first: dict[Any, str] = {}
    for name, paths in found.files.items():
        for path in paths:
            identity = identity_of(path)
            first.setdefault(identity, path)
            own = labels.setdefault(identity, [])
            if label_of[name] not in own:
                own.append(label_of[name])
    shared = sum(len(own) > 1 for own in labels.values())
    advice = "" if shared else "; a copy counts as another picture: make links, or give a table (csv:FILE)"
    report.append(f"{found.root}: {len(first)} pictures, {shared} of them in several class folders by links{advice}")
    return {first[identity]: own for identity, own in labels.items()}


FOLDER = Source("folder", load_folder, "folder:PATH", options=("group_pattern", "manifest"))
