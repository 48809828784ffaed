"""`python -m keras_resnet` runs the commands of `keras-resnet` in a process that has loaded Keras already."""

import sys

from keras_resnet.cli import main

if __name__ == "__main__":
    sys.exit(main())
