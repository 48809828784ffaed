"""`train` in several processes: of this machine, or of a Ray cluster."""

import argparse
from collections.abc import Sequence

from keras_resnet.arguments import check_int
from keras_resnet.errors import BadValue

GROUP = "--set=distribution.kind=multiworker"  # the last word for a field counts


def start(options: argparse.Namespace) -> int | None:
    """Starts the processes that are asked for, and waits for them; returns the exit status, or None for this one alone.

    Args:
        options: of `train`.
    """
    import keras

    from keras_resnet.distribution import run_on_ray, run_together

    if options.engine == "ray":
        count = check_int("--workers", 1 if options.workers is None else options.workers)
        words = without(options.words, ("--engine", "--workers", "--address"))
        return run_on_ray(count, [*words, GROUP], options.address)
    for name, value in (("--workers", options.workers), ("--address", options.address)):
        if value is not None:
            raise BadValue(f"{name} {value} was given without --engine ray. It is of a Ray cluster. Give both.")
    if options.processes is not None and check_int("--processes", options.processes) > 1:
        group = "--set=distribution.kind=data_parallel" if keras.config.backend() == "jax" else GROUP
        return run_together(options.processes, [*without(options.words, ("--processes",)), group])
    return None


def without(words: Sequence[str], names: Sequence[str]) -> list[str]:
    """Returns a command line without some of its options, each of which takes a value.

    Args:
        words: after the name of the program.
        names: of the options, as "--engine".
    """
    kept: list[str] = []
    is_value = False
    for word in words:
        if not is_value and word.partition("=")[0] not in names:
            kept.append(word)
        is_value = not is_value and word in names
    return kept
