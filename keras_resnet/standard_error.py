"""Lines that C++ libraries write to standard error past Python, and that tell a user nothing."""

import contextlib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator

from keras_resnet.errors import MissingPackage

# What TensorFlow 2.21 writes while it loads, whatever TF_CPP_MIN_LOG_LEVEL says (tensorflow issue 100442): lines such
# as "I0000 00:00:1795442865.472058 4733 port.cc:153] oneDNN custom operations are on", and one about these lines.
CHATTER = re.compile(
    r"[IWE]\d{4} \d\d:\d\d:\S+ +\d+ \S+\.cc:\d+\] |WARNING: All log messages before absl::InitializeLog"
)
# Of TensorFlow's optimizer ("remapper failed"), libjpeg and the search for a GPU; what matters of them is raised too.
QUIET = "3"


@contextlib.contextmanager
def without_lines(pattern: re.Pattern[str]) -> Iterator[None]:
    """Holds back what is written to the file descriptor of standard error, and writes it at the end without some lines.

    Example:
        >>> import os, re
        >>> from keras_resnet.standard_error import without_lines
        >>> with without_lines(re.compile("chatter")):
        ...     _ = os.write(2, b"chatter of a library")
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        original = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(original, 2)
            os.close(original)
            held.seek(0)
            for line in held.read().decode(errors="replace").splitlines():
                if not pattern.match(line):
                    print(line, file=sys.stderr)


def load_quietly() -> None:
    """Loads Keras and its backend, and keeps the backend's lines off stderr, at the start and later.

    Other lines are written when it has loaded. With TF_CPP_MIN_LOG_LEVEL at 0 or 1 the user asks for the lines, and
    nothing is held back.

    Raises:
        MissingPackage: the backend that KERAS_BACKEND names is unknown or not installed.

    Example:
        >>> from keras_resnet.standard_error import load_quietly
        >>> load_quietly()
    """
    if "keras" in sys.modules:
        return
    is_quiet = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", QUIET) not in ("0", "1")
    with without_lines(CHATTER) if is_quiet else contextlib.nullcontext():
        _load_backend()
    if not is_quiet:
        return
    for name in ("absl", "tensorflow"):  # deprecations inside TFDS, advice on retracing
        logging.getLogger(name).setLevel(logging.ERROR)


def _load_backend() -> None:
    try:
        import keras

        if keras.config.backend() == "tensorflow":
            import tensorflow

            tensorflow.config.list_physical_devices()  # the search for a GPU writes its own lines
    except (ImportError, ValueError) as error:
        backend = os.environ.get("KERAS_BACKEND", "tensorflow")
        if getattr(error, "name", None) != backend and "backend" not in str(error):
            raise
        if backend in ("jax", "torch"):
            advice = f"Run: pip install 'keras-resnet-zoo[{backend}]', or leave KERAS_BACKEND out."
        else:
            advice = "Run: pip install tensorflow. Allowed in KERAS_BACKEND are tensorflow, jax and torch."
        raise MissingPackage(f"Keras cannot load its backend {backend!r}: {error}. {advice}") from error
