"""Digits, folders of images, arrays and TFDS behind one interface: batches, splits, class names, a fingerprint."""

from keras_resnet.data.dataset import Dataset
from keras_resnet.data.diagnosis import naming_bad_files
from keras_resnet.data.images.bad_images import BadImageError
from keras_resnet.data.images.decoding import read_image
from keras_resnet.data.images.resizing import resize_for_evaluation
from keras_resnet.data.loading import load
from keras_resnet.data.sources.labels import check_labels, check_targets
from keras_resnet.data.sources.manifest import write_manifest

__all__ = [
    "BadImageError",
    "Dataset",
    "check_labels",
    "check_targets",
    "load",
    "naming_bad_files",
    "read_image",
    "resize_for_evaluation",
    "write_manifest",
]
