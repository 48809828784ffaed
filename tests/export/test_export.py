"""Exports, loaded by those who will use them and compared with the Keras model."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import keras_resnet  # noqa: E402
from keras_resnet import ResNet18, evaluation, preprocessing, training  # noqa: E402
from keras_resnet.cli import main  # noqa: E402
from keras_resnet.errors import NoRoom  # noqa: E402
from keras_resnet.export import checking, exporting, formats  # noqa: E402
from tests import harness  # noqa: E402
from tests.data import image_files  # noqa: E402

SMALL = {"model.width": 4, "train.epochs": 6, "train.batch_size": 64}
PACKAGES = {"onnx": "tf2onnx", "openvino": "openvino", "litert": "ai_edge_litert"}
SUFFIXES = {name: row.suffix for name, row in formats.FORMATS.items()}


@pytest.fixture(scope="module")
def run(digits_run):
    return digits_run


def pictures_model(**options):
    """A network with statistics that differ from their first values, and everything that training mode would change."""
    image = keras.Input((16, 16, 3))
    record = preprocessing.InputRecord(16, 0.875, class_names=("cat", "dog", "über"))
    x = preprocessing.InputNormalization("imagenet", record=record)(image)
    options = {"classifier_activation": None, "dropout_rate": 0.5, "drop_path_rate": 0.3, **options}
    model = ResNet18(input_tensor=x, stem="small", width=4, classes=3, **options)
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if "moving_" in variable.path:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model = pictures_model()
    before = [keras.ops.convert_to_numpy(variable).copy() for variable in model.variables]
    exported = keras_resnet.export(model, format="savedmodel", out=tmp_path_factory.mktemp("saved") / "net")
    return model, before, exported


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_a_savedmodel_answers_as_the_model_in_inference_and_leaves_its_statistics(saved):
    model, before, exported = saved
    signatures = tf.saved_model.load(str(exported.path / "1")).signatures
    images = np.random.default_rng(1).uniform(0, 255, (5, 16, 16, 3)).astype("float32")
    expected = softmax(keras.ops.convert_to_numpy(model(images, training=False)))
    first = signatures["serving_default"](images=tf.constant(images))["probabilities"].numpy()
    assert np.abs(first - expected).max() < 1e-5
    assert np.array_equal(signatures["serving_default"](images=tf.constant(images))["probabilities"].numpy(), first)
    whole = np.round(images).astype("uint8")
    as_bytes = signatures["serve_uint8"](images=tf.constant(whole))["probabilities"].numpy()
    assert np.abs(as_bytes - softmax(keras.ops.convert_to_numpy(model(whole, training=False)))).max() < 1e-5
    pooled = keras.Model(model.input, model.get_layer("head_pool").output)(images, training=False)
    assert np.abs(signatures["features"](images=tf.constant(images))["features"].numpy() - pooled).max() < 1e-4
    assert all(np.array_equal(old, new) for old, new in zip(before, model.variables, strict=True))


def test_encoded_pictures_of_any_size_get_the_answers_of_predict(saved, tmp_path):
    model, _, exported = saved
    names = ["plain.jpg", "grey.jpg", "palette.png", "lossy.webp"]
    for name in names:
        (tmp_path / name).write_bytes(image_files.ODD[name][0]())
    serve = tf.saved_model.load(str(exported.path / "1")).signatures["serve_bytes"]
    answer = serve(encoded=tf.constant([(tmp_path / name).read_bytes() for name in names]))
    told = evaluation.predict(model, [tmp_path / name for name in names], top=3)
    for row, prediction in enumerate(told):
        best = prediction["classes"][0]
        assert answer["class"].numpy()[row].decode() == best["name"]
        assert answer["probabilities"].numpy()[row, best["index"]] == pytest.approx(best["probability"], abs=1e-5)
    assert [name.decode() for name in answer["class_names"].numpy()[0]] == ["cat", "dog", "über"]


def test_class_names_and_facts_travel_as_assets(saved):
    _, _, exported = saved
    assets = exported.path / "1" / "assets"
    assert (assets / "class_names.txt").read_text("utf-8").split() == ["cat", "dog", "über"]
    assert json.loads((assets / "keras_resnet.json").read_text("utf-8"))["record"]["crop_fraction"] == 0.875
    facts = json.loads(exported.path.with_name("net.json").read_text("utf-8"))
    assert facts["largest_difference"] < 1e-5 and facts["largest_difference_of_two_calls"] == 0.0
    assert facts["agreement"] == 1.0 and facts["checked_by"] == "TensorFlow" and not facts["real_images"]


REQUESTS = {
    "serving_default": {"signature_name": "serving_default", "instances": "images"},
    "serve_bytes": {"signature_name": "serve_bytes", "instances": "encoded"},
}


@pytest.mark.parametrize("name", REQUESTS)
def test_the_requests_of_the_documentation_fit_the_signatures(saved, name):
    import pathlib
    import re

    page = pathlib.Path(__file__).resolve().parents[2] / "docs" / "export.md"
    requests = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", page.read_text("utf-8"), re.DOTALL)]
    (request,) = [request for request in requests if request["signature_name"] == name]
    signature = tf.saved_model.load(str(saved[2].path / "1")).signatures[name]
    (argument,) = signature.structured_input_signature[1].values()
    (instance,) = request["instances"]
    assert set(instance) == {argument.name}
    if name == "serve_bytes":
        assert set(instance[argument.name]) == {"b64"} and argument.dtype == tf.string
    else:
        # The page shows a picture of 2 x 2 pixels; the model's own are larger.
        assert np.asarray(instance[argument.name]).ndim == len(argument.shape) - 1


@pytest.mark.parametrize("name", harness.tiers(["savedmodel", *PACKAGES], [], ["savedmodel", "onnx"]))
def test_grouped_convolutions_are_exported(name, tmp_path):
    """Through Keras's own layer they would be compiled with XLA, which no other runtime reads."""
    pytest.importorskip(PACKAGES.get(name, "tensorflow"))
    image = keras.Input((16, 16, 3))
    x = preprocessing.InputNormalization("unit", record=preprocessing.InputRecord(16, class_names=("a", "b")))(image)
    model = keras_resnet.ResNeXt50_32x4d(input_tensor=x, stem="small", width=4, classes=2)
    exported = keras_resnet.export(model, format=name, out=tmp_path / f"net{SUFFIXES[name]}")
    assert exported.facts["largest_difference"] < 1e-5


@pytest.mark.parametrize("name", harness.tiers(PACKAGES, [], ["onnx", "litert"]))
def test_every_other_format_answers_as_the_model(run, name, tmp_path):
    pytest.importorskip(PACKAGES[name])
    exported = keras_resnet.export(run.path, format=name, out=tmp_path / f"net{SUFFIXES[name]}")
    facts = json.loads((tmp_path / f"net{SUFFIXES[name]}.json").read_text("utf-8"))
    assert facts == exported.facts
    assert facts["largest_difference"] < 1e-5 and facts["agreement"] == 1.0 and facts["real_images"]
    assert facts["images"] == 32  # in calls of 8, and of 1: the batch is free
    assert facts["fingerprint"] == run.about.fingerprint
    left = {f"net{SUFFIXES[name]}", f"net{SUFFIXES[name]}.json", "net.bin", f"net_{SUFFIXES[name][1:]}_predict.py"}
    assert {path.name for path in tmp_path.iterdir()} <= left


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name if name == "onnx" else pytest.param(name, marks=pytest.mark.exhaustive) for name in PACKAGES]
)
def test_int8_keeps_the_accuracy(run, name, tmp_path):
    pytest.importorskip(PACKAGES[name])
    if name == "openvino":
        pytest.importorskip("nncf")
    out = tmp_path / f"net{SUFFIXES[name]}"
    assert main(["export", str(run.path), "--format", name, "--quantize", "int8", "--out", str(out)]) == 0
    facts = json.loads(out.with_name(f"{out.name}.json").read_text("utf-8"))
    assert facts["examples"] == 360 and facts["quantize"] == "int8"
    # A network of six epochs has small margins; the figures of a whole run are in the documentation.
    assert facts["accuracy"] >= facts["accuracy_before"] - 0.05


@pytest.mark.parametrize("name", harness.tiers(["openvino", "litert"], [], ["litert"]))
def test_float16_halves_the_file(run, name, tmp_path):
    pytest.importorskip(PACKAGES[name])
    exported = [
        keras_resnet.export(run, format=name, quantize=quantize, out=tmp_path / f"{quantize}{SUFFIXES[name]}")
        for quantize in (None, "float16")
    ]
    assert 0 < exported[1].facts["largest_difference"] < checking.TOLERANCES["float16"]
    # OpenVINO keeps the graph in its own file; in LiteRT's it is half of so small a network.
    suffix, most = (".bin", 0.55) if name == "openvino" else (".tflite", 0.8)
    whole, half = (one.path.with_suffix(suffix).stat().st_size for one in exported)
    assert half < most * whole


@pytest.fixture(scope="module", params=harness.tiers(["mixed_bfloat16", "mixed_float16"], [], ["mixed_bfloat16"]))
def half_run(request, tmp_path_factory):
    words = {**SMALL, "train.epochs": 2, "train.precision": request.param}
    out = tmp_path_factory.mktemp("half") / "run"
    return training.fit("quick", model="resnet10", out=out, overrides=words, verbose=0, score=())


def test_a_loaded_model_still_says_in_which_dtype_it_computes(half_run):
    loaded = keras.saving.load_model(half_run.path / "best.keras")
    dtype = half_run.recipe.train.precision.removeprefix("mixed_")
    assert loaded.dtype_policy.name == "float32"  # Keras forgets the policy of a model
    assert keras_resnet.models.compute_dtype(loaded) == dtype
    twin = keras_resnet.models.to_float32(loaded)
    assert {layer.dtype_policy.name for layer in twin.layers} == {"float32"}
    assert all(np.array_equal(one, other) for one, other in zip(loaded.get_weights(), twin.get_weights(), strict=True))


IN_CI = [("savedmodel", None), ("litert", "float16")]
FORMS = [(name, quantize) for name, row in formats.FORMATS.items() for quantize in (None, *row.quantizations)]


@pytest.mark.parametrize(
    ("name", "quantize"),
    [
        pytest.param(*form, marks=[pytest.mark.slow, *([] if form in IN_CI else [pytest.mark.exhaustive])])
        for form in FORMS
    ],
)
def test_a_run_trained_in_mixed_precision_is_exported_in_every_form(half_run, name, quantize, tmp_path):
    pytest.importorskip(PACKAGES.get(name, "tensorflow"))
    if (name, quantize) == ("openvino", "int8"):
        pytest.importorskip("nncf")
    out = tmp_path / f"net{SUFFIXES[name]}"
    words = ["export", str(half_run.path), "--format", name, "--out", str(out)]
    assert main([*words, *(["--quantize", quantize] if quantize else [])]) == 0
    facts = json.loads(out.with_name(f"{out.name}.json").read_text("utf-8"))
    dtype = half_run.recipe.train.precision.removeprefix("mixed_")
    assert facts["compute_dtype"] == (dtype if name == "savedmodel" else "float32")
    most = {None: checking.TOLERANCES[facts["compute_dtype"]], "float16": 1e-2, "int8": 0.6, "int8-all": 0.6}[quantize]
    assert facts["largest_difference"] < most  # of one probability; in 8 bits the accuracy is what stays
    if most == 0.6:
        assert facts["accuracy"] > facts["accuracy_before"] - 0.1
    if quantize is None:
        # The weights are those of the run: against the model itself, in its own precision.
        images = checking.images_of(half_run.dataset, evaluation.open_predictor(half_run.path), 32, "test")
        expected = softmax(np.asarray(half_run.model(images, training=False), "float32"))
        got = formats.FORMATS[name].load(str(out))(images)
        # Its rounding is the processor's, and twice the tolerance was seen on one without bfloat16.
        assert np.abs(got - expected).max() < 2 * checking.TOLERANCES[dtype]


KILLED = """
import sys
from keras_resnet import export
from keras_resnet.export import exporting
def stop(*arguments):
    print("written", flush=True)
    sys.stdin.read()
exporting.check_export = stop
export.export(sys.argv[1], format=sys.argv[2], out=sys.argv[3])
"""


@pytest.mark.parametrize("name", harness.tiers(["savedmodel", "openvino"], [], ["savedmodel"]))
def test_a_kill_between_writing_and_checking_leaves_nothing_under_the_final_name(run, name, tmp_path):
    pytest.importorskip(PACKAGES.get(name, "tensorflow"))
    out = tmp_path / f"net{SUFFIXES[name]}"
    words = [sys.executable, "-c", KILLED, str(run.path), name, str(out)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "written\n"
        process.kill()
    # What was written is in a folder of a hidden name, which TensorFlow Serving does not look into.
    assert all(path.name.startswith(".net") for path in tmp_path.iterdir())
    exported = keras_resnet.export(run, format=name, out=out)
    assert exported.path == out and out.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"version": "v2", "classifier_activation": "softmax"},
        *(
            pytest.param(options, marks=pytest.mark.exhaustive)
            for options in ({"version": "v1"}, {"attention": "se", "shortcut": "pool"}, {"dtype": "mixed_bfloat16"})
        ),
    ],
    ids=str,
)
def test_every_kind_of_network_is_exported(options, tmp_path):
    exported = keras_resnet.export(pictures_model(**options), format="savedmodel", out=tmp_path / "net")
    assert exported.facts["largest_difference"] < checking.TOLERANCES[exported.facts["compute_dtype"]]


@pytest.mark.slow
def test_signals_two_classes_and_regressions_are_exported(tmp_path):
    signal = ResNet18(input_shape=(64, 2), stem="small", width=4, classes=1, classifier_activation=None)
    # One output without activation looks like a regression; the model does not say what it is for.
    exported = keras_resnet.export(signal, format="savedmodel", out=tmp_path / "signal", task="classification")
    signatures = tf.saved_model.load(str(exported.path / "1")).signatures
    assert set(signatures) == {"serving_default", "serve_uint8", "features"}
    answer = signatures["serving_default"](images=tf.zeros((3, 64, 2)))["probabilities"].numpy()
    assert answer.shape == (3, 2) and np.allclose(answer.sum(axis=1), 1)

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (64, 8, 8, 1), "uint8")
    np.savez(tmp_path / "v.npz", x=images, y=images.mean(axis=(1, 2, 3)).astype("float32"))
    words = {"loss.name": "huber", "model.width": 4, "train.epochs": 1, "train.batch_size": 16}
    recipe = training.Recipe().replace(words)
    run = training.fit(recipe, model="resnet10", data=f"npz:{tmp_path / 'v.npz'}", out=tmp_path / "run", verbose=0)
    exported = keras_resnet.export(run.path, format="savedmodel", out=tmp_path / "values")
    assert exported.facts["agreement"] is None and "difference" in str(exported)
    serve = tf.saved_model.load(str(exported.path / "1")).signatures["serving_default"]
    assert serve(images=tf.zeros((2, 8, 8, 1)))["values"].shape == (2, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "onxx"}, "Did you mean 'onnx'"),
        ({"format": "onnx", "out": "net.h5"}, "does not end in '.onnx'"),
        (
            {"format": "savedmodel", "quantize": "int8"},
            "weights and activations of 8 bits.*Allowed are 'onnx', 'openvino'",
        ),
        ({"format": "onnx", "quantize": "float16", "out": "n.onnx"}, "weights of 16 bits.*'openvino', 'litert'"),
        ({"format": "savedmodel", "quantize": "int4"}, "quantize='int4'"),
        ({"format": "savedmodel", "out": "taken-too/net"}, "taken-too.*which is a file"),
        ({"format": "savedmodel", "out": "taken"}, "exists.*never writes over another"),
    ],
)
def test_a_mistake_is_told_before_anything_is_written(run, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken-too").write_text("a file where a folder is wanted")
    with pytest.raises(ValueError, match=message):
        keras_resnet.export(run.path, **{"out": "net", **options})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken", "taken-too"]


def test_a_missing_package_names_the_command(run, tmp_path, monkeypatch):
    find = formats.importlib.util.find_spec
    hidden = lambda name: None if name == "openvino" else find(name)  # noqa: E731
    monkeypatch.setattr(formats.importlib.util, "find_spec", hidden)
    with pytest.raises(ImportError, match=r"openvino, which is not installed.*pip install .keras-resnet-zoo\[export\]"):
        keras_resnet.export(run.path, format="openvino", out=tmp_path / "net.xml")


def test_a_file_that_answers_differently_never_takes_its_name(run, tmp_path, monkeypatch):
    answers = checking.expected_answers
    monkeypatch.setattr(checking, "expected_answers", lambda *arguments: answers(*arguments) + 1e-3)
    with pytest.raises(ValueError, match="answers differently from the model"):
        keras_resnet.export(run.path, format="savedmodel", out=tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(run, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise OSError(28, "No space left on device", str(tmp_path))

    monkeypatch.setattr(exporting.tf.saved_model, "save", fail)
    with pytest.raises(NoRoom, match="net' could not be written: there is no room for it"):
        keras_resnet.export(run.path, format="savedmodel", out=tmp_path / "net")
    assert os.listdir(tmp_path) == []


def test_a_model_of_unknown_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match="one input of known size"):
        keras_resnet.export(ResNet18(input_shape=(None, None, 3), width=4), out=tmp_path / "net")


@pytest.mark.exhaustive
def test_calibration_data_set_the_ranges_and_leave_the_test_split_to_the_run(run, tmp_path):
    pytest.importorskip("ai_edge_litert")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 8, 8, 1), "uint8")
    names = np.array([str(digit) for digit in range(10)])
    labels = rng.permutation(np.arange(60) % 10)  # no network can know these
    np.savez(tmp_path / "c.npz", x_train=images, y_train=labels, x_test=images, y_test=labels, class_names=names)
    spec = f"npz:{tmp_path / 'c.npz'}"
    own, other = (
        keras_resnet.export(run, format="litert", quantize="int8", calibration=data, out=tmp_path / f"{name}.tflite")
        for name, data in (("own", None), ("other", spec))
    )
    assert own.facts["examples"] == other.facts["examples"] == 360
    assert own.facts["accuracy_before"] == other.facts["accuracy_before"] > 0.5
    assert own.path.read_bytes() != other.path.read_bytes()
    with pytest.raises(ValueError, match="takes 1 channels"):
        np.savez(tmp_path / "rgb.npz", x=rng.integers(0, 256, (60, 8, 8, 3), "uint8"), y=labels, class_names=names)
        rgb = f"npz:{tmp_path / 'rgb.npz'}"
        keras_resnet.export(run, format="litert", quantize="int8", calibration=rgb, out=tmp_path / "rgb.tflite")
    with pytest.raises(ValueError, match="quantize='float16', which has no ranges to set from images"):
        keras_resnet.export(run, format="litert", quantize="float16", calibration=rgb, out=tmp_path / "rgb.tflite")
