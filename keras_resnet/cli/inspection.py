"""`inspect-data` and `probe`: what is wrong with data, and what frozen features make of them."""

import argparse
import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from keras_resnet.cli.words import overrides_of
from keras_resnet.errors import BadValue
from keras_resnet.terminal import one_line

SHOWN = 20


def inspect(options: argparse.Namespace) -> None:
    """Prints what is found.

    Args:
        options: of `inspect-data`.
    """
    from keras_resnet import data, evaluation
    from keras_resnet.training.folds import FOLDS_FILE

    if options.out is not None:
        from keras_resnet.report.page import page_path

        page_path(options.out)  # before anything is read
    folder = pathlib.Path(options.spec).expanduser()
    if (folder / FOLDS_FILE).is_file():
        if options.out is not None:
            from keras_resnet.report import write_label_issues

            write_label_issues(folder, options.out)
        issues = evaluation.label_issues(folder)
        _print_labels(issues, options.json)
        if not options.json:
            print(evaluation.agreement(issues))
        return
    # Files that cannot be read are told with the rest.
    dataset = _load(options.spec, options, {"data.on_bad_image": "skip", "data.max_skipped_fraction": 1.0})
    found = data.inspect_data(dataset)
    if options.out is not None:
        from keras_resnet.report import write_inspection

        write_inspection(found, dataset, options.out)
    if options.json:
        print(json.dumps(found.to_dict()))
        return
    for line in str(found).splitlines():
        print(one_line(line))


def _load(spec: str, options: argparse.Namespace, defaults: Mapping[str, Any] | None = None) -> Any:
    """Returns a dataset as `--task`, `--data-dir` and `--set data...` say, and `defaults` where these say nothing."""
    from keras_resnet import training

    recipe = training.Recipe.load("quick").replace({**(defaults or {}), **overrides_of(options.set)})
    return recipe.data.load(spec, options.data_dir, options.task or "classification")


def _print_labels(found: list, is_json: bool) -> None:
    if is_json:
        print(json.dumps([dataclasses.asdict(issue) for issue in found]))
        return
    doubtful = sum(issue.is_issue for issue in found)
    several = any(issue.several for issue in found)
    what = (
        "labels (examples times classes), of which {} are" if several else "examples, of which {} have a label that is"
    )
    print(f"{len(found):,} {what.format(f'{doubtful:,}')} probably wrong; the most doubtful first:")
    for issue in found[:SHOWN]:
        print(one_line(f"  {issue}"))
    if doubtful > SHOWN:
        print(f"  and {doubtful - SHOWN:,} more; --json has all")


def probe(options: argparse.Namespace) -> None:
    """Prints how well classifiers on frozen features do.

    Args:
        options: of `probe`.
    """
    from keras_resnet import evaluation, models

    path = pathlib.Path(options.weights).expanduser()
    if path.is_dir() or path.suffix == ".keras":
        if options.model is not None:
            raise BadValue(
                f"--model {options.model} was given with --weights {options.weights}, which knows its own. Leave "
                "it out."
            )
        network = path
    else:
        network = models.pretrained_model(options.model or "resnet18", options.weights)
    found = evaluation.probe(network, _load(options.data, options))
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:<20}{value:>10,}" if isinstance(value, int) else f"{name:<20}{value:>10.4f}")
