"""The formats of an export: a row says what it is called, what it needs, and how it is written."""

import dataclasses
import importlib.util
import json
import os
import pathlib
import re
import warnings
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_resnet.errors import MissingPackage
from keras_resnet.export.serving import Served
from keras_resnet.standard_error import without_lines

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
        suffix: of the file; empty for a folder.
        packages: import name -> what to install, without which it cannot be written or checked.
        quantizations: the kinds that it can be stored in, of `exporting.QUANTIZATIONS`.
        half_precision: whether the graph of a model with a 16-bit policy is stored as it is; else in float32.
    """

    write: Callable[[Served, pathlib.Path, pathlib.Path, Any, str | None], None]
    consumer: str
    suffix: str
    packages: dict[str, str]
    quantizations: tuple[str, ...] = ()
    half_precision: bool = False

    def check_packages(self, name: str, calibrated: bool) -> None:
        """Raises ImportError where a package is missing."""
        wanted = {**self.packages, **({"nncf": "nncf"} if calibrated and name == "openvino" else {})}
        missing = [package for module, package in wanted.items() if importlib.util.find_spec(module) is None]
        if missing:
            raise MissingPackage(
                f"format={name!r} needs {', '.join(missing)}, which is not installed. It comes with the extra "
                "'export'. Run: pip install 'keras-resnet-zoo[export]'"
            )


def _savedmodel(
    served: Served, saved: pathlib.Path, path: pathlib.Path, calibration: Any, quantize: str | None
) -> None:
    # TensorFlow Serving takes the highest number in a folder.
    path.mkdir()
    os.rename(saved, path / "1")


def _onnx(served: Served, saved: pathlib.Path, path: pathlib.Path, calibration: Any, quantize: str | None) -> None:
    import tf2onnx

    function = served.main()
    # Pictures and answers keep TensorFlow's order of axes, height, width, channels; inside, convolutions have ONNX's.
    tf2onnx.convert.from_function(
        function, input_signature=function.input_signature, opset=ONNX_OPSET, output_path=os.fspath(path)
    )
    if calibration is not None:
        from keras_resnet.export.quantization import quantize_onnx

        quantize_onnx(path, calibration)
    import onnx

    model = onnx.load(os.fspath(path))
    model.metadata_props.add(key=RECORD, value=json.dumps(served.about_record()))
    onnx.save(model, os.fspath(path))


def _openvino(served: Served, saved: pathlib.Path, path: pathlib.Path, calibration: Any, quantize: str | None) -> None:
    import openvino

    model = openvino.convert_model(os.fspath(saved))
    if calibration is not None:
        from keras_resnet.export.quantization import quantize_openvino

        model = quantize_openvino(model, calibration)
    model.set_rt_info(json.dumps(served.about_record()), [RECORD])
    openvino.save_model(model, os.fspath(path), compress_to_fp16=quantize == "float16")


def _litert(served: Served, saved: pathlib.Path, path: pathlib.Path, calibration: Any, quantize: str | None) -> None:
    converter = tf.lite.TFLiteConverter.from_saved_model(os.fspath(saved), signature_keys=["serving_default"])
    if calibration is not None:
        from keras_resnet.export.quantization import prepare_litert

        prepare_litert(converter, calibration)
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


FORMATS: dict[str, Format] = {
    "savedmodel": Format(_savedmodel, "TensorFlow", "", {}, half_precision=True),
    "onnx": Format(
        _onnx, "ONNX Runtime", ".onnx", {"tf2onnx": "tf2onnx", "onnx": "onnx", "onnxruntime": "onnxruntime"}, ("int8",)
    ),
    "openvino": Format(_openvino, "OpenVINO", ".xml", {"openvino": "openvino"}, ("int8", "float16")),
    "litert": Format(
        _litert, "LiteRT", ".tflite", {"ai_edge_litert": "ai-edge-litert"}, ("int8", "int8-all", "float16")
    ),
}
