"""The program `keras-resnet`.

It stands beside the package: `import keras_resnet` loads Keras, which takes seconds, except where this module was
imported first, so that `--help`, a mistyped option and `list` answer at once.
"""

import os
import platform
import sys


def main() -> int:
    """Runs the command line in a process of its own; returns the exit status."""
    if platform.machine().lower() in ("x86_64", "amd64") and os.environ.get("KERAS_RESNET_KERNELS") != "0":
        # TensorFlow keeps its oneDNN operations for the newest CPUs. On one with AVX2 alone they train a ResNet-50
        # about a third faster than its own (docs/training.md).
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    sys.modules.setdefault("keras_resnet_command", sys.modules[__name__])  # as a script it has another name
    from keras_resnet import cli, terminal

    terminal.open_closed_descriptors()
    with terminal.guarded():
        try:
            status = cli.main()
            sys.stdout.flush()
        except OSError as error:
            told = terminal.told_of_output("keras-resnet", error)
            if told is None:
                raise
            status = told
        return status


if __name__ == "__main__":
    sys.exit(main())
