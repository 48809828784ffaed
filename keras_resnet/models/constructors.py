"""The five public functions: the builder for one row of the table each."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

import keras

from keras_resnet.arguments import choose, suggestion
from keras_resnet.errors import BadType
from keras_resnet.models.builder import build_resnet

Arguments = ParamSpec("Arguments")


def _constructor(
    build: Callable[Concatenate[str, Arguments], keras.Model], variant: str, name: str
) -> Callable[Arguments, keras.Model]:
    """Returns `build` for one row of the table, under a public name."""
    signature = inspect.signature(build)
    parameters = [parameter for key, parameter in signature.parameters.items() if key != "variant"]
    names = [parameter.name for parameter in parameters]

    @functools.wraps(build)
    def construct(*args: Arguments.args, **kwargs: Arguments.kwargs) -> keras.Model:
        for key in kwargs:
            if key not in names:
                raise BadType(
                    f"{name}() got an unexpected keyword {key!r}. {suggestion(key, names)}"
                    f"Use one of: {', '.join(names)}."
                )
        return build(variant, *args, **kwargs)

    construct.__name__ = construct.__qualname__ = name
    construct.__module__ = "keras_resnet"
    first_line, rest = str(build.__doc__).split("\n", 1)
    construct.__doc__ = f"{first_line.replace('a residual network', name.replace('ResNet', 'ResNet-'))}\n{rest}"
    construct.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    del construct.__wrapped__
    return construct


ResNet18 = _constructor(build_resnet, "resnet18", "ResNet18")
ResNet34 = _constructor(build_resnet, "resnet34", "ResNet34")
ResNet50 = _constructor(build_resnet, "resnet50", "ResNet50")
ResNet101 = _constructor(build_resnet, "resnet101", "ResNet101")
ResNet152 = _constructor(build_resnet, "resnet152", "ResNet152")

CONSTRUCTORS = {
    "resnet18": ResNet18,
    "resnet34": ResNet34,
    "resnet50": ResNet50,
    "resnet101": ResNet101,
    "resnet152": ResNet152,
}


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
