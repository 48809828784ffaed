"""Exports of networks that round to 8 bits: files of integers that round at the same places."""

import keras
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import keras_resnet  # noqa: E402
from keras_resnet import models  # noqa: E402
from keras_resnet.export import checking, formats  # noqa: E402
from tests import harness  # noqa: E402

PACKAGES = {"onnx": "tf2onnx", "openvino": "openvino", "litert": "ai_edge_litert"}


def rounded_network(name="resnet8", **options):
    keras.utils.set_random_seed(0)
    options = {"stem": "small", "width": 16, "classes": 5, "classifier_activation": None, **options}
    image = keras.Input(options.pop("shape", (16, 16, 3)), name="image")
    inputs = keras.layers.Rescaling(1 / 64, offset=-2.0, name="preprocessing")(image)
    model = models.build(name, input_tensor=inputs, zero_init_residual=False, **options)
    harness.fill(model)
    return models.quantize(model, [pictures(model.input_shape[1:])])


def pictures(shape, count=64):
    return np.random.default_rng(3).uniform(0, 255, (count, *shape)).astype("float32")


def export(model, format, tmp_path, **options):
    pytest.importorskip(PACKAGES[format])
    out = tmp_path / f"net{formats.FORMATS[format].suffix}"
    return keras_resnet.export(model, format=format, out=out, task="regression", **options)


@pytest.mark.parametrize("format", PACKAGES)
@pytest.mark.parametrize("shortcut", ["conv", pytest.param("pad", marks=pytest.mark.exhaustive)])
def test_answers_are_within_one_level_of_the_network(format, shortcut, tmp_path):
    model = rounded_network(shortcut=shortcut)
    exported = export(model, format, tmp_path)
    assert exported.facts["quantize"] == "int8"
    images = pictures((16, 16, 3))
    expected = harness.to_numpy(model(images, training=False))
    answers = formats.FORMATS[format].load(str(exported.path))(images)
    layer = model.get_layer("predictions").output_range
    errors = np.abs(answers - expected) / ((float(layer.high) - float(layer.low)) / 255)
    assert (errors < 1.5).mean() >= 0.999
    file = exported.path.with_suffix(".bin") if format == "openvino" else exported.path
    assert file.stat().st_size < 2 * model.count_params()  # floats are four bytes each


NETWORKS = {
    "signals": {"name": "resnet18", "shape": (64, 4)},
    "pool": {"name": "resnet18", "stem": "conv7", "shape": (48, 48, 3)},
    "deep": {"name": "resnet18", "stem": "deep", "version": "v1", "shape": (32, 32, 3)},
    "one pixel": {"name": "resnet18", "shape": (8, 8, 1)},  # in the last stage
    "bottleneck": {"name": "resnet50", "shape": (16, 16, 3), "width": 8},
}


@pytest.mark.parametrize(
    ("network", "format"), harness.paired(list(NETWORKS), ["litert", "openvino", "onnx"], mark="exhaustive")
)
@pytest.mark.slow
def test_every_kind_of_network_is_stored_in_integers(network, format, tmp_path):
    model = rounded_network(**NETWORKS[network])
    exported = export(model, format, tmp_path)
    images = pictures(model.input_shape[1:])
    expected = harness.to_numpy(model(images, training=False))
    answers = formats.FORMATS[format].load(str(exported.path))(images)
    assert np.corrcoef(answers.ravel(), expected.ravel())[0, 1] > 0.99
    file = exported.path.with_suffix(".bin") if format == "openvino" else exported.path
    assert file.stat().st_size < 2 * model.count_params()


@pytest.mark.slow
def test_a_savedmodel_rounds_in_floats(tmp_path):
    exported = keras_resnet.export(rounded_network(), format="savedmodel", out=tmp_path / "net", task="regression")
    assert exported.facts["quantize"] is None and exported.facts["largest_difference"] < 1e-4


@pytest.mark.parametrize("quantize", ["float16", "int8-all"])
def test_it_is_stored_in_no_other_way(quantize, tmp_path):
    with pytest.raises(ValueError, match="was given for a network that rounds to 8 bits"):
        export(rounded_network(), "litert", tmp_path, quantize=quantize)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_file_that_rounds_elsewhere_is_removed(tmp_path, monkeypatch):
    expected = checking.expected_answers
    monkeypatch.setattr(checking, "expected_answers", lambda *given: expected(*given) * 1.1)
    with pytest.raises(ValueError, match="answers differently from the network that rounds"):
        export(rounded_network(), "onnx", tmp_path)
    assert not list(tmp_path.iterdir())
