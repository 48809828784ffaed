"""Digits, folders, tables, shards, arrays and TFDS behind one interface: batches, splits, class names, fingerprint."""

from keras_resnet import needs_tensorflow  # noqa: F401
from keras_resnet.data.dataset import Dataset, explain_decode_errors
from keras_resnet.data.images.decoding import read_for_network, read_image, sizing
from keras_resnet.data.images.headers import BadImageError
from keras_resnet.data.images.resizing import CROP_FRACTION, resize_for_evaluation
from keras_resnet.data.inspection import Inspection, inspect_data
from keras_resnet.data.loading import is_path_spec, load, split_spec, with_source
from keras_resnet.data.prepared import Prepared, prepare
from keras_resnet.data.sources.folder import write_manifest
from keras_resnet.tasks.labels import check_labels, check_targets

__all__ = [
    "CROP_FRACTION",
    "BadImageError",
    "Dataset",
    "Inspection",
    "Prepared",
    "check_labels",
    "check_targets",
    "inspect_data",
    "load",
    "prepare",
    "explain_decode_errors",
    "read_for_network",
    "read_image",
    "resize_for_evaluation",
    "sizing",
    "is_path_spec",
    "split_spec",
    "with_source",
    "write_manifest",
]
