"""Errors whose message is written for the user; every other exception of this package is a bug in it.

They are Python's own classes as well, so that `except ValueError` goes on working.
"""

import importlib
from typing import Any


class UserError(Exception):
    """Marks an error that the user can mend: it says what arrived, what is allowed and what to do.

    The command line prints its message and exits with status 2. It shows the traceback of any other exception.
    """


class BadValue(UserError, ValueError):
    """An argument, a file or the data is not what is allowed."""


class BadType(UserError, TypeError):
    """An argument is of a type that is not allowed."""


class MissingPackage(UserError, ImportError):
    """A package is not installed, is too old, or cannot stand beside this one."""


class NodesLost(UserError, RuntimeError):
    """The machines were lost more often than retries allow; resuming tries again."""


class NoMemory(UserError, MemoryError):
    """A step needed more memory than there was; a smaller batch, network or image needs less."""


class NoRoom(UserError, OSError):
    """A file could not be written for want of space, of inodes, or because of a quota or a limit of sizes."""


class NoLock(UserError, OSError):
    """A lock could not be taken: the folder is not writable, or its disk answers with an error."""


def require(module: str, what: str, extra: str = "") -> Any:
    """Imports and returns a module of a package that not everyone has installed.

    Args:
        module: its name, such as "pyarrow.parquet".
        what: what needs it, as the message begins.
        extra: of this package, that brings it; "" where it is installed by its own name.

    Raises:
        MissingPackage: it is not installed; the message has the command that installs it.

    Example:
        >>> from keras_resnet.errors import require
        >>> require("no_such_module", "Tracking", "mlflow")
        Traceback (most recent call last):
        ...
        keras_resnet.errors.MissingPackage: Tracking needs no_such_module, which is not installed. Run: pip install
        'keras-resnet-zoo[mlflow]'
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        root = module.partition(".")[0]
        package = {"sklearn": "scikit-learn", "tensorflow_datasets": "tensorflow-datasets"}.get(root, root)
        source = f"'keras-resnet-zoo[{extra}]'" if extra else package
        raise MissingPackage(f"{what} needs {package}, which is not installed. Run: pip install {source}") from None
