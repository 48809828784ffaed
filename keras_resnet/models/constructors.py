"""The public functions: the builder for one row of the table each."""

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

import keras

from keras_resnet.arguments import choose, suggestion
from keras_resnet.errors import BadType
from keras_resnet.models.builder import build_resnet
from keras_resnet.models.pretrained import Pretrained
from keras_resnet.models.variants import VARIANTS

Arguments = ParamSpec("Arguments")


def _constructor(
    build: Callable[Concatenate[str, Arguments], keras.Model], variant: str
) -> Callable[Arguments, keras.Model]:
    """Returns `build` for one row of the table, under its public name and with its defaults."""
    row = VARIANTS[variant]
    signature = inspect.signature(build)
    parameters = [
        parameter.replace(default=row.defaults.get(key, parameter.default))
        for key, parameter in signature.parameters.items()
        if key != "variant"
    ]
    names = [parameter.name for parameter in parameters]

    @functools.wraps(build)
    def construct(*args: Arguments.args, **kwargs: Arguments.kwargs) -> keras.Model:
        for key in kwargs:
            if key not in names:
                raise BadType(
                    f"{row.constructor}() got an unexpected keyword {key!r}. {suggestion(key, names)}"
                    f"Use one of: {', '.join(names)}."
                )
        if kwargs.get("weights") is None and len(args) <= names.index("weights"):
            return build(variant, *args, **{**row.defaults, **kwargs})
        arguments = dict(signature.bind(variant, *args, **kwargs).arguments)
        del arguments["variant"]
        weights = arguments.pop("weights")
        if weights is None:
            return build(variant, **{**row.defaults, **arguments})  # type: ignore[call-arg]
        return Pretrained.of(variant, weights).build(build, variant, arguments)

    construct.__name__ = construct.__qualname__ = row.constructor
    construct.__module__ = "keras_resnet"
    first_line, rest = str(build.__doc__).split("\n", 1)
    spoken = re.sub(r"(?=\d)", "-", row.constructor, count=1)
    construct.__doc__ = (
        f"{first_line.replace('a residual network', spoken)}\n"
        f"{rest.replace('Source:', f'Source:{chr(10)}        The variant: {row.source}.{chr(10)}       ', 1)}"
    )
    construct.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    del construct.__wrapped__
    return construct


CONSTRUCTORS = {variant: _constructor(build_resnet, variant) for variant in VARIANTS}
# `ResNet50` and its siblings.
globals().update({function.__name__: function for function in CONSTRUCTORS.values()})


def build(variant: str, **arguments: Any) -> keras.Model:
    """Builds the variant of that name.

    Args:
        variant: a name from `list_models()`.
        **arguments: those of `ResNet50` and its siblings.

    Returns:
        A functional `keras.Model`.

    Raises:
        TypeError, ValueError: an unknown name, or an argument that the constructor refuses.

    Example:
        >>> from keras_resnet import models
        >>> models.build("resnet18", input_shape=(32, 32, 3), stem="small", width=8, classes=10).name
        'resnet18'
    """
    return choose("variant", variant, CONSTRUCTORS)(**arguments)
