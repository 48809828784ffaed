"""Runs an exported model as its users do, without this package: `python consumers.py SCRIPT PATH IMAGES.npz OUT.npz`.

It loads the model by the script that is written beside it. It answers with the outputs, and the milliseconds of a
call for 1 and 8 images.
"""

import runpy
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

CALLS = 15


def milliseconds(run: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> float:
    """Returns the median time of a call."""
    seconds = []
    for _ in range(CALLS + 3):
        start = time.perf_counter()
        run(images)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[3:]) * 1e3


def main(script: str, path: str, source: str, out: str) -> None:
    """Answers for all images, and for the first ones a second time."""
    run = runpy.run_path(script)["load"](path)
    images = np.load(source)["images"]
    answers = np.concatenate([run(images[start : start + 8]) for start in range(0, len(images), 8)])
    again = run(images[:8])
    eight = np.resize(images, (8, *images.shape[1:]))
    assert "keras_resnet" not in sys.modules
    np.savez(
        out,
        answers=answers,
        repeated=np.abs(again - answers[: len(again)]).max(),
        ms_1=milliseconds(run, images[:1]),
        ms_8=milliseconds(run, eight),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
