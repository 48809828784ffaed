"""scikit-learn's handwritten digits: real data that is always there."""

import numpy as np

from keras_resnet.data.dataset import Dataset
from keras_resnet.data.examples.arrays import ArrayExamples
from keras_resnet.data.examples.splits import divided, split_off
from keras_resnet.data.options import LoadOptions
from keras_resnet.errors import BadValue, MissingPackage
from keras_resnet.tasks import CLASSIFICATION

TEST_EXAMPLES = 360


def load_digits(spec: str, argument: str, options: LoadOptions) -> Dataset:
    """Returns 1797 digits of 8x8 pixels: 360 for test, the others for training and validation."""
    if argument:
        raise BadValue(
            f"spec={spec!r} has something after 'digits'. Allowed is 'digits' alone. Leave {argument!r} out."
        )
    if options.task is not CLASSIFICATION:
        raise BadValue(
            f"task={options.task.name!r} was given with spec='digits', whose labels are classes. "
            "Allowed is task='classification'. Use an npz: spec for regression."
        )
    try:
        from sklearn.datasets import load_digits as bundled
    except ImportError:
        raise MissingPackage(
            "spec='digits' needs scikit-learn, which is not installed. Run: pip install scikit-learn"
        ) from None
    pixels, labels = bundled(return_X_y=True)
    # 0 to 16 in the file: how many of the 4x4 pixels of the scan were on.
    images = np.round(pixels * (255 / 16)).astype("uint8").reshape(-1, 8, 8, 1)
    labels = labels.astype("int32")
    train, test = split_off(labels, TEST_EXAMPLES, seed=options.split_seed, stratified=True)
    splits = {
        "train": ArrayExamples(images[train], labels[train]),
        "test": ArrayExamples(images[test], labels[test]),
    }
    return Dataset(
        spec,
        divided(splits, options),
        class_names=tuple(str(digit) for digit in range(10)),
        num_outputs=10,
        report=[],
    )
