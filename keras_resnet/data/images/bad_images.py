"""The error that names image files, and the policy of what to do with bad ones."""

import os
from collections.abc import Sequence

from keras_resnet.data.options import LoadOptions
from keras_resnet.errors import BadValue

NAMED_AT_MOST = 20


class BadImageError(BadValue):
    """Image files, or records of a dataset, cannot be used.

    Args:
        message: what a user sees; it names the files.
        files: pairs of path and reason, all of them.
    """

    def __init__(self, message: str, files: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.files = tuple(files)


def bad_image_error(files: Sequence[tuple[str, str]], total: int, advice: str) -> BadImageError:
    """Returns the error for these `(path, reason)` pairs, of `total` files that were looked at."""
    named = "; ".join(f"{path} ({reason})" for path, reason in files[:NAMED_AT_MOST])
    more = f"; and {len(files) - NAMED_AT_MOST} more" if len(files) > NAMED_AT_MOST else ""
    count = "1 image file" if total == 1 else f"{len(files)} of {total} image files"
    return BadImageError(
        f"{count} cannot be used: {named}{more}. "
        f"Allowed are whole JPEG, PNG, GIF, BMP and WebP files below the limit of pixels. {advice}",
        files,
    )


def unreadable(name: str, reason: str) -> BadImageError:
    """Returns the error of a split whose records cannot be read."""
    return BadImageError(
        f"{name} cannot be read: {reason}. Allowed is a set whose files are as TFDS wrote them. "
        "Delete its folder and prepare it again.",
        [(name, reason)],
    )


def settle(files: Sequence[tuple[str, str]], total: int, options: LoadOptions, report: list[str]) -> None:
    """Applies `on_bad_image` to these `(path, reason)` pairs: raises, or adds what is skipped to the report.

    Raises:
        BadImageError: the policy is "error", or more than `max_skipped_fraction` of all files are bad.
    """
    if not files:
        return
    if options.on_bad_image == "error":
        advice = (
            "Replace or delete them, or leave them out by on_bad_image='skip' (of train --set data.on_bad_image=skip, "
            "of evaluate --on-bad-image skip)."
        )
        raise bad_image_error(files, total, advice)
    if len(files) > options.max_skipped_fraction * total:
        raise bad_image_error(
            files,
            total,
            f"on_bad_image='skip' leaves out at most max_skipped_fraction={options.max_skipped_fraction:g} of the "
            "files: look into what made these, or raise that fraction.",
        )
    report.append(f"skipped {len(files)} of {total} image files")
    report.extend(f"skipped {path}: {reason}" for path, reason in files)


# How TensorFlow's decoders begin their messages -> what it means for the file.
DECODERS_WORDS = {
    "jpeg::Uncompress failed": "its JPEG data are truncated or damaged",
    "Invalid JPEG data": "its JPEG data are truncated or damaged",
    "Invalid PNG data": "its PNG data are truncated or damaged",
    "Invalid GIF data": "its GIF data are truncated or damaged",
}


def reason_of(error: BaseException) -> str:
    """Returns the first useful line of a decoder's or the system's error."""
    if isinstance(error, OSError) and error.strerror:
        return os.strerror(error.errno) if error.errno else error.strerror
    text = str(getattr(error, "message", None) or error)
    # TensorFlow prefixes where it happened and appends which op: neither helps to find the file.
    if text.startswith("{{"):
        text = text.partition("}} ")[2] or text
    line = text.partition(" [Op:")[0].splitlines()[0].strip().rstrip(".")
    return next((told for start, told in DECODERS_WORDS.items() if line.startswith(start)), line)
