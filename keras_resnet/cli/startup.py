"""Loads Keras and its backend without the backend's chatter."""

import os
import re
import sys
import tempfile

# What TensorFlow 2.21 writes while it loads, whatever TF_CPP_MIN_LOG_LEVEL says (tensorflow issue 100442): lines such
# as "I0000 00:00:1795442865.472058 4733 port.cc:153] oneDNN custom operations are on", and one about these lines.
CHATTER = re.compile(
    r"[IWE]\d{4} \d\d:\d\d:\S+ +\d+ \S+\.cc:\d+\] |WARNING: All log messages before absl::InitializeLog"
)


def load_quietly() -> None:
    """Loads Keras and its backend, and keeps the backend's start-up lines off stderr.

    Other lines are written when it has loaded. With TF_CPP_MIN_LOG_LEVEL at 0 or 1 the user asks for the lines, and
    nothing is held back.

    Example:
        >>> from keras_resnet.cli.startup import load_quietly
        >>> load_quietly()
    """
    level = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if level in ("0", "1") or "keras" in sys.modules:
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        # The lines come from C++, past sys.stderr: the file descriptor itself has to point elsewhere.
        original = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            _load_backend()
        finally:
            sys.stderr.flush()
            os.dup2(original, 2)
            os.close(original)
            held.seek(0)
            for line in held.read().decode(errors="replace").splitlines():
                if not CHATTER.match(line):
                    print(line, file=sys.stderr)


def _load_backend() -> None:
    import keras

    if keras.config.backend() == "tensorflow":
        import tensorflow

        tensorflow.config.list_physical_devices()  # the search for a GPU writes lines of its own
