"""Runs an exported model as its users do, without this package: `python consumers.py FORMAT PATH IMAGES.npz OUT.npz`.

The file is run by its path and imports nothing of keras_resnet. It answers with the outputs, and the milliseconds of a
call for 1 and 8 images.
"""

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

CALLS = 15
Run = Callable[[np.ndarray], np.ndarray]


def savedmodel(path: str) -> Run:
    """Returns a function from float32 images to answers, by TensorFlow alone."""
    import tensorflow as tf

    loaded = tf.saved_model.load(f"{path}/1")
    serve = loaded.signatures["serving_default"]
    return lambda images: next(iter(serve(images=tf.constant(images)).values())).numpy()


def onnx(path: str) -> Run:
    """Returns a function from float32 images to answers, by ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {session.get_inputs()[0].name: images})[0]


def openvino(path: str) -> Run:
    """Returns a function from float32 images to answers, by OpenVINO."""
    import openvino

    core = openvino.Core()
    # By itself OpenVINO computes in bfloat16 where the processor can.
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: next(iter(compiled(images).values()))


def litert(path: str) -> Run:
    """Returns a function from float32 images to answers, by LiteRT."""
    import os

    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=os.cpu_count())
    given, answer = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def run(images: np.ndarray) -> np.ndarray:
        if tuple(interpreter.get_input_details()[0]["shape"]) != images.shape:
            interpreter.resize_tensor_input(given["index"], images.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], _to_integers(images, given))
        interpreter.invoke()
        return _from_integers(interpreter.get_tensor(answer["index"]), answer)

    interpreter.allocate_tensors()
    return run


def _to_integers(values: np.ndarray, about: dict) -> np.ndarray:
    """Returns values as a tensor of the interpreter stores them; floats as they are."""
    if about["dtype"] == np.float32:
        return values
    (scale, zero), kind = about["quantization"], np.iinfo(about["dtype"])
    return np.clip(np.round(values / scale + zero), kind.min, kind.max).astype(about["dtype"])


def _from_integers(values: np.ndarray, about: dict) -> np.ndarray:
    """Returns the numbers that a tensor of the interpreter stands for."""
    scale, zero = about["quantization"]
    return values if values.dtype == np.float32 else (values.astype("float32") - zero) * np.float32(scale)


CONSUMERS = {"savedmodel": savedmodel, "onnx": onnx, "openvino": openvino, "litert": litert}


def milliseconds(run: Run, images: np.ndarray) -> float:
    """Returns the median time of a call."""
    seconds = []
    for _ in range(CALLS + 3):
        start = time.perf_counter()
        run(images)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[3:]) * 1e3


def main(name: str, path: str, source: str, out: str) -> None:
    """Answers for all images, and for the first ones a second time."""
    run = CONSUMERS[name](path)
    images = np.load(source)["images"]
    answers = np.concatenate([run(images[start : start + 8]) for start in range(0, len(images), 8)])
    again = run(images[:8])
    eight = np.resize(images, (8, *images.shape[1:]))
    assert "keras_resnet" not in sys.modules
    np.savez(
        out,
        answers=answers,
        repeated=np.abs(again - answers[: len(again)]).max(),
        ms_1=milliseconds(run, images[:1]),
        ms_8=milliseconds(run, eight),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
