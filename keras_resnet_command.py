"""The program `keras-resnet`.

It stands beside the package, not in it: `import keras_resnet` loads Keras, which takes seconds, and the program reads
its options first. The package sees that this module is loaded, and leaves Keras until a command needs it.
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
    from keras_resnet import cli

    return cli.main()


if __name__ == "__main__":
    # By its name, by which the package sees it.
    import keras_resnet_command

    sys.exit(keras_resnet_command.main())
