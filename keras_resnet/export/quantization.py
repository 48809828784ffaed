"""Full-integer quantization after training, calibrated on real images."""

import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np


def quantize_onnx(path: pathlib.Path, images: np.ndarray) -> None:
    """Replaces an ONNX file by one with weights and activations of 8 bits (ONNX Runtime, QDQ, a scale a channel).

    Activations are unsigned: the dot products of x86 processors take one signed and one unsigned factor, and with both
    signed ONNX Runtime 1.31 needs 2.4 times as long, longer than in float32 (`benchmarks/export_speed.py`).

    Args:
        path: of the float32 file.
        images: float32, `(examples, *shape)`.
    """
    from onnxruntime import quantization

    class Images(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.rest = iter(images)

        def get_next(self) -> Any:
            image = next(self.rest, None)
            return None if image is None else {"images": image[None]}

    kinds = {"activation_type": quantization.QuantType.QUInt8, "weight_type": quantization.QuantType.QInt8}
    prepared, done = path.with_suffix(".prepared.onnx"), path.with_suffix(".int8.onnx")
    quantization.shape_inference.quant_pre_process(os.fspath(path), os.fspath(prepared), skip_symbolic_shape=True)
    quantization.quantize_static(os.fspath(prepared), os.fspath(done), Images(), per_channel=True, **kinds)
    prepared.unlink()
    os.replace(done, path)


def quantize_openvino(model: Any, images: np.ndarray) -> Any:
    """Returns an OpenVINO model with int8 weights and activations (NNCF).

    Args:
        model: in float32.
        images: float32, `(examples, *shape)`.
    """
    import nncf

    return nncf.quantize(model, nncf.Dataset([image[None] for image in images]), subset_size=len(images))


def prepare_litert(converter: Any, images: np.ndarray) -> None:
    """Makes a LiteRT converter write int8 operations; pictures and answers stay float32.

    Args:
        converter: `tf.lite.TFLiteConverter`.
        images: float32, `(examples, *shape)`.
    """
    import tensorflow as tf

    def representative() -> Iterator[dict[str, np.ndarray]]:
        for image in images:
            yield {"images": image[None]}

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
