"""A list of sha256 sums beside the images: finds damage that still decodes."""

import hashlib
import os
import pathlib
from collections.abc import Iterable

from keras_resnet import files
from keras_resnet.data.images.headers import bad_image_error
from keras_resnet.data.sources.listing import find_splits, list_classes, map_threaded
from keras_resnet.errors import BadValue

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
    """Compares image files with a manifest.

    Raises:
        ValueError: the manifest cannot be read.
        BadImageError: files differ from the manifest, are missing, or are not in it; all of them are named.
    """
    expected = _read(manifest)
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


def _read(manifest: pathlib.Path) -> dict[str, str]:
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
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _relative(path: str, root: pathlib.Path) -> str:
    return pathlib.PurePath(os.path.relpath(path, root)).as_posix()
