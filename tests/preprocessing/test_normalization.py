"""Normalization: the numbers of keras.applications, purity, dtypes, ranks, and life after saving."""

import pathlib
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest

from keras_resnet.preprocessing import InputNormalization, for_model
from tests import harness

SCHEMES = ("unit", "imagenet", "caffe", "tf")
# Our scheme -> the mode of keras.applications.
MODES = {"imagenet": "torch", "caffe": "caffe", "tf": "tf"}


def pixels(*shape, dtype="uint8", seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(dtype)


def layer_of(scheme, **kwargs):
    if scheme == "dataset":
        kwargs = {"mean": [120.0, 110.0, 100.0], "std": [60.0, 50.0, 70.0], **kwargs}
    return InputNormalization(scheme, **kwargs)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("scheme", MODES)
def test_the_numbers_are_those_of_keras_applications(scheme, data_format):
    images = pixels(2, 5, 4, 3) if data_format == "channels_last" else pixels(2, 3, 5, 4)
    expected = keras.applications.imagenet_utils.preprocess_input(
        images.astype("float64"), mode=MODES[scheme], data_format=data_format
    )
    found = harness.to_numpy(InputNormalization(scheme, data_format=data_format)(images))
    # float32 against float64: a few units in the last place of values up to 151.
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_unit_divides_by_255():
    found = harness.to_numpy(InputNormalization()(np.array([[[[0, 51, 255]]]], "uint8")))
    np.testing.assert_allclose(found, [[[[0, 0.2, 1]]]], rtol=1e-6)


def test_a_dataset_has_its_own_mean_and_deviation():
    found = harness.to_numpy(InputNormalization("dataset", mean=[1, 2], std=[4, 5])(np.array([[[5, 12]]], "int16")))
    np.testing.assert_allclose(found, [[[1, 2]]], rtol=1e-6)


@pytest.mark.parametrize("scheme", [*SCHEMES, "dataset"])
@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "float32", "float64"])
def test_the_callers_array_is_never_changed(scheme, dtype):
    images = pixels(2, 5, 4, 3, dtype=dtype)
    before = images.copy()
    layer_of(scheme)(images)
    np.testing.assert_array_equal(images, before)
    images.setflags(write=False)
    layer_of(scheme)(np.array(images))


@pytest.mark.parametrize("scheme", [*SCHEMES, "dataset"])
@pytest.mark.parametrize("shape", [(2, 7, 3), (2, 5, 4, 3), (2, 4, 5, 3, 3)])
def test_signals_images_and_volumes_are_normalised_channel_by_channel(scheme, shape):
    images = pixels(*shape)
    expected = harness.to_numpy(layer_of(scheme)(images.reshape(2, -1, 1, 3))).reshape(shape)
    np.testing.assert_array_equal(harness.to_numpy(layer_of(scheme)(images)), expected)


@pytest.mark.parametrize("scheme", [*SCHEMES, "dataset"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_channels_first_is_the_transposed_channels_last(scheme, rank):
    images = pixels(2, 5, 4, 3, 3)[:, : 5 if rank < 3 else None][(slice(None),) + (0,) * (3 - rank)]
    last = harness.to_numpy(layer_of(scheme)(images))
    first = harness.to_numpy(layer_of(scheme, data_format="channels_first")(np.moveaxis(images, -1, 1)))
    np.testing.assert_array_equal(np.moveaxis(first, 1, -1), last)


@pytest.mark.parametrize("scheme", [*SCHEMES, "dataset"])
@pytest.mark.parametrize("policy", harness.POLICIES)
def test_the_output_has_the_compute_dtype_and_is_rounded_once(scheme, policy):
    # Fractions that bfloat16 would round by half a gray value on the way in.
    images = (pixels(2, 5, 4, 3) * 0.997).astype("float32")
    layer = layer_of(scheme, dtype=policy)
    outputs = layer(images)
    compute = keras.dtype_policies.get(policy).compute_dtype
    assert keras.backend.standardize_dtype(outputs.dtype) == compute
    precise = layer_of(scheme, dtype="float32")(images)
    expected = harness.to_numpy(keras.ops.cast(precise, compute))
    # float64 sums differ from float32 in the last place; 16 bits hold the very same rounding.
    np.testing.assert_allclose(harness.to_numpy(outputs), expected, rtol=1e-5 if policy == "float64" else 0, atol=1e-5)


@pytest.mark.parametrize("scheme", [*SCHEMES, "dataset"])
def test_a_layer_survives_its_config(scheme):
    harness.check_config(layer_of(scheme), pixels(2, 5, 4, 3, dtype="float32"))


@pytest.mark.parametrize("scheme", [*SCHEMES, "dataset"])
def test_the_static_shape_is_the_dynamic_shape(scheme):
    harness.check_static_shape(layer_of(scheme), pixels(2, 5, 4, 3, dtype="float32"))


def test_adapting_finds_mean_and_deviation_of_arrays_and_batches_alike():
    images = np.random.default_rng(0).normal(50, 20, (37, 6, 5, 3)) + [0, 100, 1e6]
    whole = InputNormalization.from_data(images)
    np.testing.assert_allclose(whole.mean, images.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(whole.std, images.std(axis=(0, 1, 2)), rtol=1e-9)
    batches = [(images[first : first + 8], np.zeros(8)) for first in range(0, 37, 8)]
    parts = InputNormalization.from_data(batches)
    np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(parts.std, whole.std, rtol=1e-9)
    normalized = harness.to_numpy(whole(images))[..., :2]
    np.testing.assert_allclose(normalized.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(normalized.std(axis=(0, 1, 2)), 1, atol=1e-5)


def test_adapting_works_on_channels_first_and_on_a_channel_that_never_varies():
    images = np.zeros((4, 2, 5, 6))
    images[:, 1] = np.random.default_rng(0).normal(size=(4, 5, 6))
    layer = InputNormalization.from_data(images, data_format="channels_first")
    assert layer.mean[0] == 0 and layer.std[0] == 1
    assert np.isfinite(harness.to_numpy(layer(images))).all()


def test_a_model_answers_for_its_preprocessing():
    layer = InputNormalization("imagenet", name="preprocessing")
    inner = keras.Sequential([keras.Input((8, 8, 3)), layer, keras.layers.Flatten()])
    outer = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Identity(), inner])
    assert for_model(inner).normalization is layer and for_model(outer).normalization is layer
    with pytest.raises(ValueError, match="holds no InputNormalization layer"):
        for_model(keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)]))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: InputNormalization("imagnet"), ValueError, "scheme='imagnet' is not known. Did you mean 'imagenet'"),
        (lambda: InputNormalization("unit", mean=[1.0]), ValueError, r"mean=\[1.0\] was given with scheme='unit'"),
        (lambda: InputNormalization("tf", std=[1.0]), ValueError, r"std=\[1.0\] was given with scheme='tf'"),
        (lambda: InputNormalization("dataset"), ValueError, "mean=None was given with scheme='dataset'"),
        (lambda: InputNormalization("dataset", mean=[1, 2], std=[1]), ValueError, "mean has 2 values and std has 1"),
        (lambda: InputNormalization("dataset", mean=[1], std=[0]), ValueError, r"std=\[0\] holds a value that is not"),
        (
            lambda: InputNormalization("dataset", mean=["a"], std=[1]),
            TypeError,
            r"mean=\['a'\] is not a list of numbers",
        ),
        (lambda: InputNormalization("dataset", mean=[np.nan], std=[1]), ValueError, "mean=.*not finite"),
        (lambda: InputNormalization(data_format="last"), ValueError, "data_format='last' is not known"),
        (lambda: InputNormalization("imagenet")(pixels(2, 5, 4, 1)), ValueError, "with 1 channels.*needs 3 channels"),
        (lambda: InputNormalization()(pixels(5, 4)), ValueError, "Expected 3 to 5 axes"),
        (lambda: InputNormalization.from_data([]), ValueError, "images holds no example"),
        (lambda: InputNormalization.from_data(np.full((1, 2, 2, 1), np.nan)), ValueError, "mean=.*not finite"),
    ],
)
def test_bad_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_saved_model_leaks_no_training_mode(tmp_path):
    """Some of Keras's preprocessing layers, called without `training`, run all later layers in training mode."""
    model = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            InputNormalization("imagenet"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5, seed=1),
            keras.layers.Flatten(),
        ]
    )
    model.save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras")
    images = pixels(4, 6, 6, 3)
    before = [np.array(keras.ops.convert_to_numpy(weight)) for weight in model.weights]
    bare, inference = harness.to_numpy(model(images)), harness.to_numpy(model(images, training=False))
    np.testing.assert_array_equal(bare, inference)
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(weight), value)


def test_an_exported_model_leaks_no_training_mode(tmp_path):
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("exporting a SavedModel needs the TensorFlow backend")
    layers = [InputNormalization(), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)]
    model = keras.Sequential([keras.Input((6, 6, 3)), *layers])
    model.export(tmp_path / "exported", verbose=False)
    images = pixels(4, 6, 6, 3, dtype="float32")
    exported = tf.saved_model.load(tmp_path / "exported")
    served = exported.serve(images)
    np.testing.assert_allclose(served, model(images, training=False), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["caffe", "dataset"])
def test_a_model_reloads_in_a_fresh_process(tmp_path, scheme):
    model = keras.Sequential([keras.Input((6, 6, 3)), layer_of(scheme), keras.layers.Flatten()])
    images = pixels(4, 6, 6, 3)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    script = f"""
        import keras, keras_resnet, keras_resnet.preprocessing, numpy as np
        model = keras.saving.load_model({str(tmp_path / "model.keras")!r})
        outputs = model(np.load({str(tmp_path / "images.npy")!r}))
        np.save({str(tmp_path / "outputs.npy")!r}, keras.ops.convert_to_numpy(outputs))
    """
    root = pathlib.Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, cwd=root)
    np.testing.assert_array_equal(np.load(tmp_path / "outputs.npy"), harness.to_numpy(model(images)))
