"""From the options of a command line to the arguments of the library; which errors are the user's."""

import argparse
import tomllib
from typing import Any

from keras_resnet.errors import BadValue, UserError


def is_users_mistake(error: Exception) -> bool:
    """Returns True for an error that was written for the user, and for the system's about a named file.

    Args:
        error: as caught.
    """
    return isinstance(error, UserError) or (isinstance(error, OSError) and error.filename is not None)


def given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Returns the options that were given; the others keep the defaults that the library has."""
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def overrides_of(settings: list[str]) -> dict[str, str]:
    """Returns {"a.b": "v"} for words such as "a.b=v"."""
    overrides = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or "." not in name:
            raise BadValue(
                f"--set {setting} is not of the form section.field=value. Allowed is for example --set model.width=16. "
                "Write it so, without spaces."
            )
        overrides[name.strip()] = value.strip()
    return overrides


def model_arguments(settings: list[str]) -> dict[str, Any]:
    """Returns {"width": 16} for "model.width=16": values as TOML writes them, and bare words as strings."""
    arguments = {}
    for name, text in overrides_of(settings).items():
        section, _, argument = name.partition(".")
        if section != "model":
            raise BadValue(f"--set {name} has no effect here. Allowed is model.NAME=value. Leave it out.")
        try:
            arguments[argument] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            arguments[argument] = text
    return arguments


def shape_of(text: str | None) -> tuple[int, ...] | None:
    """Returns (8, 8, 1) for "8,8,1"."""
    if text is None:
        return None
    sizes = text.replace("x", ",").split(",")
    if not all(size.strip().isdigit() for size in sizes):
        raise BadValue(f"--input-shape {text} is not a list of sizes. Allowed is for example 224,224,3. Write it so.")
    return tuple(int(size) for size in sizes)


def training_overrides(options: argparse.Namespace) -> dict[str, str]:
    """Returns the overrides of `train`: those of --set, and of the options that are fields too."""
    overrides = overrides_of(options.set)
    for field, value in (("train.epochs", options.epochs), ("train.batch_size", options.batch_size)):
        if value is not None:
            overrides[field] = str(value)
    return overrides
