"""Names that were meant, for messages.

It imports nothing of the package: the program `keras-resnet` reads this file by its path.
"""

import difflib
from collections.abc import Iterable

# What people write for a field; the letters alone are nearer to other names.
ABBREVIATIONS = {
    "batch": "batch_size",
    "bs": "batch_size",
    "drop_path": "drop_path_rate",
    "dropout": "dropout_rate",
    "ema": "ema_momentum",
    "lr": "learning_rate",
    "patience": "early_stopping_patience",
    "smoothing": "label_smoothing",
    "wd": "weight_decay",
}


def closest(value: object, names: Iterable[str]) -> str | None:
    """Returns the name most like `value`, or None when nothing comes near."""
    candidates = [str(name) for name in names]
    section, dot, field = str(value).rpartition(".")
    expanded = f"{section}{dot}{ABBREVIATIONS.get(field, field)}"
    if expanded in candidates:
        return expanded
    matches = difflib.get_close_matches(str(value), candidates, n=1, cutoff=0.5)
    return matches[0] if matches else None


def suggestion(value: object, names: Iterable[str]) -> str:
    """Returns "Did you mean ...? " for the closest of `names`, or an empty string."""
    name = closest(value, names)
    return f"Did you mean {name!r}? " if name else ""
