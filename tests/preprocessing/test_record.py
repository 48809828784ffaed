"""The record of what a network takes: checked, saved with the model, and answered for models without one."""

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import preprocessing
from keras_resnet.preprocessing import InputNormalization, InputRecord, describe_outputs, for_model

RECORD = InputRecord(
    (24, 32),
    0.875,
    "bicubic",
    "bgr",
    ("cat", "dog"),
    (0.0, 1.0),
    False,
    task="classification",
    activation="softmax",
    temperature=1.5,
    head="predictions",
)


def network(record, shape=(32, 32, 3)):
    image = keras.Input(shape)
    return keras_resnet.ResNet18(input_tensor=InputNormalization("unit", record=record)(image), width=1, classes=2)


def test_the_record_travels_inside_the_model_file(tmp_path):
    model = network(RECORD, shape=(None, None, 3))
    model.save(tmp_path / "model.keras")
    found = for_model(keras.saving.load_model(tmp_path / "model.keras"))
    assert found.to_dict() == RECORD.to_dict() and found.assumed == ()
    assert found.normalization.scheme == "unit"


def test_copies_of_a_model_keep_the_record():
    model = network(RECORD, shape=(None, None, 3))
    for copy in (keras_resnet.fuse(model), keras.models.clone_model(model)):
        assert for_model(copy).class_names == ("cat", "dog")


@pytest.mark.parametrize("layer", ["head_pool", "stage5_block2"])
def test_a_model_of_features_takes_the_same_and_names_no_classes(layer):
    model = network(RECORD, shape=(None, None, 3))
    for part in (keras_resnet.features(model), keras.Model(model.input, model.get_layer(layer).output)):
        found = for_model(part)
        assert (found.class_names, found.task, found.activation) == ((), None, None)
        assert (found.crop_fraction, found.channel_order, found.pixel_range) == (0.875, "bgr", (0.0, 1.0))


def test_the_sizes_of_the_input_come_before_those_of_the_record():
    assert for_model(network(RECORD)).image_size == (32, 32)
    assert for_model(network(RECORD)).side == 32
    assert for_model(network(RECORD, (None, None, 3))).side is None


def test_a_model_without_a_record_says_what_was_assumed():
    found = for_model(keras_resnet.ResNet18(input_shape=(32, 32, 1), width=1))
    assert (found.image_size, found.crop_fraction, found.channel_order) == ((32, 32), 1.0, "grey")
    inputs = {"crop_fraction", "interpolation", "channel_order", "pixel_range", "apply_exif"}
    assert set(found.assumed) == {*inputs, "class_names", "task"}
    assert (found.task, found.activation, found.apply_exif) == ("classification", "softmax", True)
    assert "crop_fraction  1.0  (assumed)" in str(found) and "class_names    none  (assumed)" in str(found)


@pytest.mark.parametrize(
    ("shape", "order"), [((64, 3), "any"), ((32, 32, 32, 1), "any"), ((32, 32, 5), "any"), ((32, 32, 3), "rgb")]
)
def test_signals_volumes_and_odd_channels_are_taken_as_they_are(shape, order):
    found = for_model(keras_resnet.ResNet18(input_shape=shape, width=1))
    assert found.channel_order == order
    assert (found.image_size is None) == (len(shape) != 3)


def test_a_layer_of_an_earlier_version_loads_without_a_record():
    config = InputNormalization("unit").get_config()
    del config["record"]
    assert InputNormalization.from_config(config).record is None


def test_one_side_is_both_sides():
    assert InputRecord(image_size=7).image_size == (7, 7)
    assert InputRecord(image_size=[7, 9]).image_size == (7, 9)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"image_size": 0}, ValueError, "image_size must be an int >= 1"),
        ({"image_size": (1, 2, 3)}, ValueError, "has 3 values"),
        ({"crop_fraction": 0.0}, ValueError, "crop_fraction must be a number in"),
        ({"interpolation": "bilinaer"}, ValueError, "Did you mean 'bilinear'"),
        ({"channel_order": "gray"}, ValueError, "Did you mean 'grey'"),
        ({"class_names": "cat"}, TypeError, "is not a list of strings"),
        ({"class_names": [1, 2]}, TypeError, "is not a list of strings"),
        ({"pixel_range": 255}, TypeError, "is not a pair of numbers"),
        ({"pixel_range": (255, 0)}, ValueError, "does not rise"),
        ({"task": "regresion"}, ValueError, "Did you mean 'regression'"),
        ({"activation": "relu"}, ValueError, "activation='relu' is not known"),
        ({"apply_exif": 1}, TypeError, "apply_exif must be True or False"),
        ({"task": "regression", "class_names": ["a"]}, ValueError, "Only a classification has them"),
    ],
)
def test_a_bad_record_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        InputRecord(**arguments)


def test_what_is_no_record_is_refused():
    with pytest.raises(TypeError, match="is not a record"):
        InputNormalization("unit", record={"side": 3})
    assert preprocessing.InputNormalization("unit", record=RECORD.to_dict()).record == RECORD


@pytest.mark.parametrize("scheme", ["unit", "imagenet", "caffe", "tf"])
@pytest.mark.parametrize("pixel_range", [(0.0, 255.0), (0.0, 1.0), (-1.0, 1.0), None])
def test_the_network_sees_the_same_whatever_the_range_of_the_pixels(scheme, pixel_range):
    pixels = np.linspace(0, 255, 12, dtype="float32").reshape(1, 2, 2, 3)
    record = InputRecord(pixel_range=pixel_range)
    scaled = record.from_bytes(pixels) if pixel_range else pixels
    expected, found = InputNormalization(scheme)(pixels), InputNormalization(scheme, record=record)(scaled)
    np.testing.assert_allclose(*map(keras.ops.convert_to_numpy, (found, expected)), rtol=1e-5, atol=1e-4)


def test_statistics_of_the_data_are_in_the_units_of_the_data():
    layer = InputNormalization("dataset", mean=0.5, std=0.25, record=InputRecord(pixel_range=(0, 1)))
    assert float(layer(np.full((1, 1, 1, 1), 0.75, "float32"))[0, 0, 0, 0]) == 1.0


def headed(model, layer, **arguments):
    """The network of a model under a new head."""
    return keras.Model(model.input, layer(model.get_layer("head_pool").output), **arguments)


def test_a_new_head_is_not_called_by_the_old_names():
    model = network(RECORD, shape=(32, 32, 3))
    new = headed(model, keras.layers.Dense(2, name="even_or_odd"))
    with pytest.raises(ValueError, match="outputs of the layer 'predictions', and the model ends in 'even_or_odd'"):
        for_model(new)
    describe_outputs(new, ["even", "odd"])
    found = for_model(new)
    assert (found.class_names, found.head, found.activation) == (("even", "odd"), "even_or_odd", "softmax")
    assert (found.crop_fraction, found.pixel_range, found.temperature) == (0.875, (0.0, 1.0), 1.0)
    describe_outputs(new, task="regression", units=["mm", "mm"])
    assert for_model(new).task == "regression" and for_model(new).class_names == ()


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (keras.layers.Dense(5, name="predictions"), "names 2 classes, and the model has 5 outputs"),
        (keras.layers.Dense(2, activation="sigmoid", name="predictions"), "'softmax', and the model ends in 'sigmoid'"),
    ],
)
def test_a_head_of_the_old_name_must_fit_the_record(head, message):
    with pytest.raises(ValueError, match=message):
        for_model(headed(network(RECORD), head))


def test_a_head_around_the_whole_network_is_a_new_one():
    model = keras.Sequential([network(RECORD), keras.layers.Dense(2, name="more")])
    with pytest.raises(ValueError, match="the model ends in 'more'"):
        for_model(model)
    with_softmax = keras.Sequential([network(RECORD), keras.layers.Identity()])
    assert for_model(with_softmax).class_names == ("cat", "dog")


def test_what_does_not_fit_is_not_described():
    model = network(RECORD)
    with pytest.raises(ValueError, match="names 3 classes, and the model has 2 outputs"):
        describe_outputs(model, ["a", "b", "c"])
    with pytest.raises(ValueError, match="says regression, and the model ends in 'softmax'"):
        describe_outputs(model, task="regression")
    with pytest.raises(ValueError, match="no row of outputs per example"):
        describe_outputs(keras_resnet.features(model), ["a", "b"])
    with pytest.raises(ValueError, match="holds no InputNormalization layer"):
        describe_outputs(keras_resnet.ResNet18(input_shape=(32, 32, 3), width=1), ["a"])
    assert for_model(model).class_names == ("cat", "dog")


def test_a_record_of_an_earlier_version_keeps_what_it_did():
    old = {"image_size": [8, 8], "crop_fraction": None, "interpolation": "bilinear", "channel_order": "grey"}
    layer = InputNormalization("unit", record={**old, "class_names": ["a", "b"]})
    image = keras.Input((8, 8, 1))
    found = for_model(keras_resnet.ResNet18(input_tensor=layer(image), stem="small", width=1, classes=2))
    assert (found.task, found.apply_exif, found.pixel_range) == ("classification", False, (0.0, 255.0))
    assert found.assumed == ()


@pytest.mark.parametrize(
    ("activation", "outputs", "task"),
    [(None, 1, "regression"), (None, 3, "classification"), ("sigmoid", 1, "classification")],
)
def test_a_model_without_a_record_is_taken_for_what_its_outputs_look_like(activation, outputs, task):
    model = keras_resnet.ResNet18(input_shape=(32, 32, 3), width=1, classes=outputs, classifier_activation=activation)
    found = for_model(model)
    assert found.task == task and "task" in found.assumed
