"""Prints what the core of this installed distribution requires, and what the named extras add, without TensorFlow.

The versions have one home, setup.py; this reads them from the metadata of the installed distribution.
"""

import importlib.metadata
import re
import sys

OUTER_ROOMS = (
    *("tensorflow", "tensorboard", "tensorflow-datasets", "keras-tuner", "scikit-learn", "matplotlib", "tomli-w"),
    "filelock",
)


def main(extras: list[str]) -> None:
    """Prints one requirement a line, for `pip install --requirement`."""
    for line in importlib.metadata.requires("keras-resnet-zoo") or []:
        requirement, _, marker = (part.strip() for part in line.partition(";"))
        name = re.match(r"[\w.-]+", requirement)[0]
        wanted = any(f'extra == "{extra}"' in marker for extra in extras) if marker else name not in OUTER_ROOMS
        if wanted:
            print(requirement)


if __name__ == "__main__":
    main(sys.argv[1:])
