"""What happens to pixels before the network: normalisation that is saved with the model, and augmentation."""

from keras_resnet.preprocessing.augmentation import Augmentation, PadAndCrop, augmentation
from keras_resnet.preprocessing.normalization import InputNormalization, for_model

__all__ = ["Augmentation", "InputNormalization", "PadAndCrop", "augmentation", "for_model"]
