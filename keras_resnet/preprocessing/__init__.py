"""What happens to pixels before the network: normalisation that is saved with the model, and augmentation."""

from keras_resnet.preprocessing.augmentation import Augmentation, PadAndCrop
from keras_resnet.preprocessing.normalization import InputNormalization
from keras_resnet.preprocessing.operations import OPERATIONS, augmentation
from keras_resnet.preprocessing.record import InputRecord, for_model, order_of

__all__ = [
    "OPERATIONS",
    "Augmentation",
    "InputNormalization",
    "InputRecord",
    "PadAndCrop",
    "augmentation",
    "for_model",
    "order_of",
]
