"""`train --folds K`: cross-validation, its table and its page."""

import argparse
import pathlib

from keras_resnet.cli.words import given, training_overrides
from keras_resnet.errors import BadValue
from keras_resnet.terminal import one_line

PAGE = "folds.html"


def train(options: argparse.Namespace) -> None:
    """Trains a run for each fold, and prints what they say together.

    Args:
        options: of `train`.
    """
    from keras_resnet import files, training
    from keras_resnet.report import write_folds

    if options.out is None:
        raise BadValue(f"--folds {options.folds} was given without --out. Allowed is a folder for its runs. Name it.")
    asked = {"--processes": options.processes, "--workers": options.workers, "--dry-run": options.dry_run or None}
    asked["--engine ray"] = None if options.engine == "local" else options.engine
    for name, value in asked.items():
        if value is not None:
            raise BadValue(f"{name} was given with --folds. A fold is trained in one process. Leave it out.")
    files.check_replaceable(pathlib.Path(options.out).expanduser() / PAGE)
    found = training.cross_validate(
        **given(options, "recipe", "model", "data"),
        folds=options.folds,
        data_dir=options.data_dir,
        out=options.out,
        resume=options.resume,
        seed=options.seed,
        weights=options.weights,
        overrides=training_overrides(options),
    )
    page = write_folds(found, found.path / PAGE)
    print(found)
    print(f"page         {one_line(str(page))}")
