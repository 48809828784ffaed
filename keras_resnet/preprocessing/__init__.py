"""What happens to pixels before the network: normalization that is saved with the model, and augmentation."""

from keras_resnet.preprocessing.augmentation import Augmentation, Erasing, PadAndCrop
from keras_resnet.preprocessing.batch_transforms import BatchTransforms, Mixing, transform_in_step
from keras_resnet.preprocessing.model_record import default_activation, describe_outputs, for_model
from keras_resnet.preprocessing.normalization import InputNormalization
from keras_resnet.preprocessing.operations import OPERATIONS, augmentation
from keras_resnet.preprocessing.policy_layers import AugMix, AutoAugment, ColorJitter, RandAugment, TrivialAugment
from keras_resnet.preprocessing.record import InputRecord, order_of
from keras_resnet.preprocessing.transforms import FlipAxis, Gain, Noise, QuarterTurns, Shift

__all__ = [
    "OPERATIONS",
    "AugMix",
    "Augmentation",
    "AutoAugment",
    "BatchTransforms",
    "ColorJitter",
    "Erasing",
    "FlipAxis",
    "Gain",
    "InputNormalization",
    "InputRecord",
    "Mixing",
    "Noise",
    "PadAndCrop",
    "QuarterTurns",
    "RandAugment",
    "Shift",
    "TrivialAugment",
    "augmentation",
    "default_activation",
    "describe_outputs",
    "for_model",
    "order_of",
    "transform_in_step",
]
