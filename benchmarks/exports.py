"""Steps of exported networks, each by the runtime that its users have; for `benchmarks.contestants`."""

import argparse
import os
import pathlib
import runpy
import tempfile
import time
from collections.abc import Callable

SCRIPT = pathlib.Path(__file__).resolve().parents[1] / "keras_resnet" / "export" / "predict_image.py"
SUFFIXES = {"savedmodel": "", "onnx": ".onnx", "openvino": ".xml", "litert": ".tflite"}
# Contestant -> the format, and how it is stored.
OURS = {
    "keras_resnet_savedmodel": ("savedmodel", None),
    "keras_resnet_onnx": ("onnx", None),
    "keras_resnet_openvino": ("openvino", None),
    "keras_resnet_litert": ("litert", None),
    "keras_resnet_onnx_int8": ("onnx", "int8"),
    "keras_resnet_openvino_int8": ("openvino", "int8"),
    "keras_resnet_litert_int8": ("litert", "int8"),
}
NAMES = (*OURS, "keras_applications_savedmodel", "timm_onnx")


def ours(name: str, options: argparse.Namespace, folder: pathlib.Path) -> pathlib.Path:
    """Writes this package's export and returns its path."""
    import numpy as np

    import keras_resnet
    from benchmarks.contestants import keras_resnet as build

    form, quantize = OURS[name]
    calibration = None
    if quantize:
        # Noise will do for the time of a call.
        draw = np.random.default_rng(0)
        images = draw.integers(0, 256, (40, options.size, options.size, 3), "uint8")
        np.savez(folder / "noise.npz", x_train=images, y_train=np.arange(40) % 10)
        calibration = f"npz:{folder / 'noise.npz'}"
    out = folder / f"network{SUFFIXES[form]}"
    return keras_resnet.export(build(options), format=form, out=out, quantize=quantize, calibration=calibration).path


def keras_applications(options: argparse.Namespace, folder: pathlib.Path) -> pathlib.Path:
    """Writes keras.applications' network by Keras's own export and returns its path."""
    from benchmarks.contestants import keras_applications as build

    build(options).export(folder / "network", verbose=False)
    return folder / "network"


def timm(options: argparse.Namespace, folder: pathlib.Path) -> pathlib.Path:
    """Writes timm's network by PyTorch's ONNX exporter and returns its path."""
    import torch

    from benchmarks.contestants import timm_network

    images = torch.rand(2, 3, options.size, options.size)
    dynamic = ({0: torch.export.Dim("batch")},)
    torch.onnx.export(
        timm_network(options).eval(),
        (images,),
        folder / "network.onnx",
        dynamo=True,
        dynamic_shapes=dynamic,
        verbose=False,
    )
    return folder / "network.onnx"


def export_steps(name: str, options: argparse.Namespace) -> Callable[[int], list[float]]:
    """Returns calls of an exported network, on float32 images in memory."""
    import numpy as np

    folder = pathlib.Path(tempfile.mkdtemp(prefix="exports-"))
    load = runpy.run_path(os.fspath(SCRIPT))["load"]
    shape: tuple[int, ...] = (options.batch, options.size, options.size, 3)
    if name in OURS:
        run = load(os.fspath(ours(name, options, folder)))
    elif name == "timm_onnx":
        run, shape = load(os.fspath(timm(options, folder))), (options.batch, 3, options.size, options.size)
    else:
        import tensorflow as tf

        loaded = tf.saved_model.load(os.fspath(keras_applications(options, folder))).signatures["serving_default"]
        (argument,) = loaded.structured_input_signature[1]
        run = lambda images: next(iter(loaded(**{argument: tf.constant(images)}).values())).numpy()  # noqa: E731
    images = np.random.default_rng(0).random(shape, dtype="float32") * 255

    def steps(count: int) -> list[float]:
        seconds = []
        for _ in range(count):
            start = time.perf_counter()
            run(images)
            seconds.append(time.perf_counter() - start)
        return seconds

    return steps
