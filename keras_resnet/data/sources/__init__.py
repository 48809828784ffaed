"""Where data come from: one file per source, with a row of the table of sources in it."""

import importlib
import pkgutil

from keras_resnet.data.options import Source


def find_sources() -> dict[str, Source]:
    """Returns name -> source, of every `Source` that a file of this folder defines."""
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    rows = [value for module in modules for value in vars(module).values() if isinstance(value, Source)]
    return {row.name: row for row in sorted(rows, key=lambda row: row.name)}
