"""The formats of an export: a row says what it is called, what it needs, and how it is written."""

import dataclasses
import importlib.util
import json
import os
import pathlib
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.data.images.decoding import convert_channels, decode, exif_orientation, has_16_bits
from keras_resnet.data.images.pillow import is_pillow
from keras_resnet.data.images.resizing import resize_for_evaluation
from keras_resnet.errors import MissingPackage
from keras_resnet.models.fusion import fuse, inference_function
from keras_resnet.models.quantization import is_quantized
from keras_resnet.preprocessing import InputRecord
from keras_resnet.standard_error import without_lines
from keras_resnet.tasks import CLASSIFICATION, TASKS
from keras_resnet.tasks.multilabel import thresholds_for
from keras_resnet.tasks.outputs import last_activation


class Served(tf.Module):
    """A model as it is served: images to probabilities, or to numbers for a regression."""

    def __init__(self, model: keras.Model, record: InputRecord, folder: pathlib.Path, facts: dict[str, Any]) -> None:
        super().__init__(name="served")
        self.record = record
        self.task = TASKS[record.task or CLASSIFICATION.name]
        self.has_classes = self.task.has_classes
        outputs = model.output_shape[-1]
        self.names = record.names_for(2 if outputs == 1 and not self.task.has_thresholds else outputs)
        self.shape = tuple(model.input_shape[1:])
        self.activation = last_activation(model) or "linear"
        self.rounds = is_quantized(model)
        network = model if self.rounds else fuse(model)
        head = [layer.name for layer in network.layers if layer.name == "head_pool"]
        embedding = network.get_layer(head[0]).output if head else network.output
        # Constants, which oneDNN likes; and Keras's own tracking would save functions that run in training mode.
        self.network = inference_function(keras.Model(network.input, [network.output, embedding]))
        self.assets = [tf.saved_model.Asset(str(path)) for path in self._assets(folder, facts)]

    def _assets(self, folder: pathlib.Path, facts: dict[str, Any]) -> list[pathlib.Path]:
        names, about = folder / "class_names.txt", folder / "keras_resnet.json"
        names.write_text("".join(f"{name}\n" for name in self.names if self.has_classes), encoding="utf-8")
        about.write_text(json.dumps(facts, indent=1), encoding="utf-8")
        return [names, about]

    @property
    def takes_files(self) -> bool:
        """Whether image files can be read for it: it takes pictures, and their size and range are known."""
        record = self.record
        return record.channel_order != "any" and record.pixel_range is not None and record.image_size is not None

    def about_record(self) -> dict[str, Any]:
        """Returns the record for people who read the file elsewhere: plain values, with a name for every class."""
        return {**self.record.to_dict(), "class_names": list(self.names) if self.has_classes else []}

    def answer(self, images: Any) -> dict[str, Any]:
        """Returns the outputs of a signature for float32 images of the model's size."""
        outputs = self.network(images)[0]
        if not self.has_classes:
            return {"values": tf.identity(outputs, name="values")}
        several = self.task.has_thresholds
        is_sigmoid = outputs.shape[-1] == 1 or self.record.activation == "sigmoid"
        if self.activation == "linear":
            outputs = tf.sigmoid(outputs) if is_sigmoid else tf.nn.softmax(outputs)
        if several:  # each class by itself
            return {"probabilities": tf.identity(outputs, name="probabilities")}
        if outputs.shape[-1] == 1:
            outputs = tf.concat([1 - outputs, outputs], axis=-1)
        elif is_sigmoid:  # one of several classes: sigmoids are divided by their sum
            smallest = float(np.finfo("float32").tiny)
            outputs = outputs / tf.maximum(tf.reduce_sum(outputs, axis=-1, keepdims=True), smallest)
        return {"probabilities": tf.identity(outputs, name="probabilities")}

    def picture(self, encoded: Any) -> Any:
        """Returns one encoded picture as the network takes it, float32."""
        orientation = exif_orientation(encoded) if self.record.apply_exif else 1
        decoded = decode(encoded, orientation, is_deep=True)
        is_deep = has_16_bits(encoded)
        image = convert_channels(decoded, self.record.channel_order, is_deep)

        def fit(pixels: Any) -> Any:
            record = self.record
            return resize_for_evaluation(pixels, record.image_size or 1, record.crop_fraction, record.interpolation)

        fitted = fit(image)
        if is_pillow(self.record.interpolation):  # which knows 8 bits alone
            fitted = tf.cond(is_deep, lambda: fit(image), lambda: fit(tf.cast(image, tf.uint8)))
        return tf.ensure_shape(self.record.from_bytes(tf.cast(fitted, tf.float32)), self.shape)

    def main(self) -> Any:
        """Returns the function of `serving_default`, which the other formats hold alone."""
        spec = tf.TensorSpec((None, *self.shape), tf.float32, name="images")
        return tf.function(self.answer, input_signature=[spec])

    def signatures(self) -> dict[str, Any]:
        """Returns every function of a SavedModel, by the name of its signature."""
        spec = (None, *self.shape)

        def serve_uint8(images: Any) -> dict[str, Any]:
            images = tf.cast(images, tf.float32)
            return self.answer(images if self.record.pixel_range is None else self.record.from_bytes(images))

        def features(images: Any) -> dict[str, Any]:
            embedding = self.network(images)[1]
            return {"features": tf.identity(embedding, name="features")}

        def serve_bytes(encoded: Any) -> dict[str, Any]:
            images = tf.map_fn(self.picture, encoded, fn_output_signature=tf.TensorSpec(self.shape, tf.float32))
            answer = self.answer(images)
            if not self.has_classes:
                return answer
            names = tf.constant(self.names)
            if self.task.has_thresholds:
                cuts = tf.constant(thresholds_for(self.record.thresholds, len(self.names)), tf.float32)
                every = tf.tile(names[None], [tf.shape(encoded)[0], 1])
                return {**answer, "has_class": answer["probabilities"] >= cuts, "class_names": every}
            best = tf.gather(names, tf.argmax(answer["probabilities"], axis=-1))
            every = tf.tile(names[None], [tf.shape(encoded)[0], 1])
            return {**answer, "class": best, "class_names": every}

        signatures = {
            "serving_default": self.main(),
            "serve_uint8": tf.function(serve_uint8, input_signature=[tf.TensorSpec(spec, tf.uint8, name="images")]),
            "features": tf.function(features, input_signature=[tf.TensorSpec(spec, tf.float32, name="images")]),
        }
        if self.takes_files:
            encoded = tf.TensorSpec((None,), tf.string, name="encoded")
            signatures["serve_bytes"] = tf.function(serve_bytes, input_signature=[encoded])
        return signatures


def quantize_onnx(path: pathlib.Path, images: np.ndarray) -> None:
    """Replaces an ONNX file by one with weights and activations of 8 bits (ONNX Runtime, QDQ, a scale a channel).

    Activations are unsigned: the dot products of x86 processors take one signed and one unsigned factor, and with both
    signed ONNX Runtime 1.31 needs 2.4 times as long, longer than in float32 (`benchmarks/export_speed.py`).
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


def store_integer_kernels(model: Any) -> None:
    """Stores the rounded kernels of an ONNX model as integers, and the biases of its convolutions too, in place.

    Its feature maps are rounded already, by QuantizeLinear and DequantizeLinear; with both factors and the bias so
    written, ONNX Runtime multiplies integers.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    added: dict[str, Any] = {}  # name of a tensor of integers -> the node that reads it

    def store(name: str, integers: np.ndarray, scale: np.ndarray, **axis: Any) -> str:
        """Returns the name of what stands for integers times their scale."""
        if name not in added:
            zero = np.zeros_like(scale, integers.dtype)
            arrays = {"integers": integers, "scale": scale.astype("float32"), "zero": zero}
            graph.initializer.extend(numpy_helper.from_array(array, f"{name}_{key}") for key, array in arrays.items())
            inputs = [f"{name}_{key}" for key in arrays]
            added[name] = helper.make_node("DequantizeLinear", inputs, [f"{name}_dequantized"], **axis)
        return f"{name}_dequantized"

    for node in graph.node:
        if node.op_type not in ("Conv", "MatMul") or node.input[1] not in values:
            continue
        kernel, is_conv = values[node.input[1]], node.op_type == "Conv"
        axes = tuple(range(1, kernel.ndim)) if is_conv else None
        largest = np.abs(kernel).max(axis=axes, keepdims=True).astype("float64")
        scale = np.where(largest > 0, largest, 1.0) / 127
        integers, scale = np.rint(kernel / scale).astype("int8"), scale.reshape(-1 if is_conv else ())
        source = makers[node.input[0]]
        while source.op_type != "DequantizeLinear":  # what moves values and does not change them
            source = makers[source.input[0]]
        if is_conv and len(node.input) > 2:
            product = scale * float(values[source.input[1]])
            sums = np.rint(values[node.input[2]] / product).astype("int32")
            node.input[2] = store(node.input[2], sums, product, axis=0)
        node.input[1] = store(node.input[1], integers, scale, **({"axis": 0} if is_conv else {}))
    read = {name for node in graph.node for name in node.input} | {
        name for node in added.values() for name in node.input
    }
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    nodes = [*added.values(), *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)


def keep_rounding(model: Any) -> None:
    """Writes what is rounded and then added in single steps, in an OpenVINO model, in place.

    OpenVINO 2026.4 computes a convolution, its FakeQuantize and the sum behind it in one pass, and leaves the rounding
    out of it; these steps it computes in the same pass as they are.
    """
    from openvino import opset13 as steps

    for node in model.get_ordered_ops():
        readers = node.output(0).get_target_inputs() if node.get_type_name() == "FakeQuantize" else ()
        if not readers or any(reader.get_node().get_type_name() != "Add" for reader in readers):
            continue
        values, low, high = (node.input_value(place) for place in range(3))
        low, high = (float(np.ravel(end.get_node().data)[0]) for end in (low, high))
        scale = (high - low) / 255
        zero = round(-low / scale)
        levels = steps.multiply(values, steps.constant(np.float32(1 / scale)))
        levels = steps.round(steps.clamp(levels, -zero, 255 - zero), "half_to_even")
        rounded = steps.multiply(levels, steps.constant(np.float32(scale)))
        for reader in readers:
            reader.replace_source_output(rounded.output(0))


def quantize_openvino(model: Any, images: np.ndarray) -> Any:
    """Returns an OpenVINO model with int8 weights and activations (NNCF)."""
    import nncf

    return nncf.quantize(model, nncf.Dataset([image[None] for image in images]), subset_size=len(images))


def prepare_litert(converter: Any, images: np.ndarray) -> None:
    """Makes a LiteRT converter write int8 operations; pictures and answers stay float32."""
    import tensorflow as tf

    def representative() -> Iterator[dict[str, np.ndarray]]:
        for image in images:
            yield {"images": image[None]}

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]


ONNX_OPSET = 18
# Under which the record, with the class names, stands in the metadata of a file, as JSON.
RECORD = "keras_resnet.record"
CONVERTER_CHATTER = re.compile(r"fully_quantize: |[IWE]\d{4} ")


@dataclasses.dataclass(frozen=True)
class Format:
    """A row of the table.

    Attributes:
        write: from what is served, the SavedModel of it, a path, calibration images (None where nothing is to be
            calibrated) and the quantization, to the file.
        consumer: who loads it, and checks it here.
        load: the function `load` of the script beside an export, which stands alone there: from a path to a function of
            float32 images that returns the answers.
        suffix: of the file; empty for a folder.
        packages: import name -> what to install, without which it cannot be written or checked.
        quantizations: the kinds that it can be stored in, of `exporting.QUANTIZATIONS`.
        half_precision: whether the graph of a model with a 16-bit policy is stored as it is; else in float32.
    """

    write: Callable[[Served, pathlib.Path, pathlib.Path, Any, str | None], None]
    consumer: str
    load: Callable[[str], Callable[[np.ndarray], np.ndarray]]
    suffix: str
    packages: dict[str, str]
    quantizations: tuple[str, ...] = ()
    half_precision: bool = False

    @property
    def is_installed(self) -> bool:
        """Whether every package is there."""
        return not _missing(self.packages)

    def check_packages(self, name: str, calibrated: bool) -> None:
        """Raises ImportError where a package is missing."""
        packages = {**self.packages, **({"nncf": "nncf"} if calibrated and name == "openvino" else {})}
        if missing := _missing(packages):
            raise MissingPackage(
                f"format={name!r} needs {', '.join(missing)}, which is not installed. It comes with the extra "
                "'export'. Run: pip install 'keras-resnet-zoo[export]'"
            )


def _missing(packages: dict[str, str]) -> list[str]:
    return [package for module, package in packages.items() if importlib.util.find_spec(module) is None]


def _savedmodel(
    served: Served, saved: pathlib.Path, path: pathlib.Path, calibration: Any, quantize: str | None
) -> None:
    # TensorFlow Serving takes the highest number in a folder.
    path.mkdir()
    os.rename(saved, path / "1")


def load_savedmodel(path: str) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function of the model, by TensorFlow."""
    import tensorflow as tf

    serve = tf.saved_model.load(f"{path}/1").signatures["serving_default"]
    return lambda images: next(iter(serve(images=tf.constant(images)).values())).numpy()


def _onnx(served: Served, saved: pathlib.Path, path: pathlib.Path, calibration: Any, quantize: str | None) -> None:
    import tf2onnx

    function = served.main()
    # Pictures and answers keep TensorFlow's order of axes, height, width, channels; inside, convolutions have ONNX's.
    tf2onnx.convert.from_function(
        function, input_signature=function.input_signature, opset=ONNX_OPSET, output_path=os.fspath(path)
    )
    import onnx

    if calibration is not None:
        quantize_onnx(path, calibration)
    model = onnx.load(os.fspath(path))
    if served.rounds:
        store_integer_kernels(model)
    model.metadata_props.add(key=RECORD, value=json.dumps(served.about_record()))
    onnx.save(model, os.fspath(path))


def load_onnx(path: str) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function of the model, by ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {session.get_inputs()[0].name: images})[0]


def _openvino(served: Served, saved: pathlib.Path, path: pathlib.Path, calibration: Any, quantize: str | None) -> None:
    import openvino

    model = openvino.convert_model(os.fspath(saved))
    if calibration is not None:
        model = quantize_openvino(model, calibration)
    if served.rounds:
        keep_rounding(model)
    model.set_rt_info(json.dumps(served.about_record()), [RECORD])
    openvino.save_model(model, os.fspath(path), compress_to_fp16=quantize == "float16")


def load_openvino(path: str) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function of the model, by OpenVINO."""
    import openvino

    # By itself OpenVINO computes in bfloat16 where the processor can.
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: next(iter(compiled(images).values()))


def _litert(served: Served, saved: pathlib.Path, path: pathlib.Path, calibration: Any, quantize: str | None) -> None:
    converter = tf.lite.TFLiteConverter.from_saved_model(os.fspath(saved), signature_keys=["serving_default"])
    if calibration is not None:
        prepare_litert(converter, calibration)
    if served.rounds:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "int8-all":
        converter.inference_input_type = converter.inference_output_type = tf.int8
    if quantize == "float16":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    with warnings.catch_warnings():
        # The converter calibrates with the interpreter that TensorFlow is going to drop.
        warnings.filterwarnings("ignore", message=r"\s*Warning: tf.lite.Interpreter is deprecated")
        with without_lines(CONVERTER_CHATTER):
            converted = converter.convert()
        path.write_bytes(_with_metadata(converted, json.dumps(served.about_record())))


def _with_metadata(content: bytes, text: str) -> bytes:
    """Returns a LiteRT file that holds a text among its metadata, under the name `RECORD`."""
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(content)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = list(text.encode())
    entry.name, entry.buffer = RECORD, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def load_litert(path: str) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function of the model, by LiteRT; integers of the file are translated by its scales."""
    import os

    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=os.cpu_count())
    interpreter.allocate_tensors()
    given, answer = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def run(images: np.ndarray) -> np.ndarray:
        if tuple(interpreter.get_input_details()[0]["shape"]) != images.shape:
            interpreter.resize_tensor_input(given["index"], images.shape)
            interpreter.allocate_tensors()
        if given["dtype"] != np.float32:
            (scale, zero), kind = given["quantization"], np.iinfo(given["dtype"])
            images = np.clip(np.round(images / scale + zero), kind.min, kind.max).astype(given["dtype"])
        interpreter.set_tensor(given["index"], images)
        interpreter.invoke()
        values = interpreter.get_tensor(answer["index"])
        if values.dtype == np.float32:
            return values
        scale, zero = answer["quantization"]
        return (values.astype("float32") - zero) * np.float32(scale)

    return run


FORMATS: dict[str, Format] = {
    "savedmodel": Format(_savedmodel, "TensorFlow", load_savedmodel, "", {}, half_precision=True),
    "onnx": Format(
        _onnx,
        "ONNX Runtime",
        load_onnx,
        ".onnx",
        {"tf2onnx": "tf2onnx", "onnx": "onnx", "onnxruntime": "onnxruntime"},
        ("int8",),
    ),
    "openvino": Format(_openvino, "OpenVINO", load_openvino, ".xml", {"openvino": "openvino"}, ("int8", "float16")),
    "litert": Format(
        _litert, "LiteRT", load_litert, ".tflite", {"ai_edge_litert": "ai-edge-litert"}, ("int8", "int8-all", "float16")
    ),
}
