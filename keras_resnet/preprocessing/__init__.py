"""What happens to pixels before the network: normalisation that is saved with the model, and augmentation."""

from keras_resnet.preprocessing.augmentation import Augmentation, PadAndCrop, augmentation
from keras_resnet.preprocessing.normalization import InputNormalization
from keras_resnet.preprocessing.record import InputRecord, for_model, order_of

__all__ = ["Augmentation", "InputNormalization", "InputRecord", "PadAndCrop", "augmentation", "for_model", "order_of"]
