"""The record of what a network takes: checked, saved with the model, and answered for models without one."""

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import preprocessing
from keras_resnet.preprocessing import InputNormalization, InputRecord, for_model

RECORD = InputRecord((24, 32), 0.875, "bicubic", "bgr", ("cat", "dog"))


def network(record, shape=(32, 32, 3)):
    image = keras.Input(shape)
    return keras_resnet.ResNet18(input_tensor=InputNormalization("unit", record=record)(image), width=1, classes=2)


def test_the_record_travels_inside_the_model_file(tmp_path):
    model = network(RECORD, shape=(None, None, 3))
    model.save(tmp_path / "model.keras")
    found = for_model(keras.saving.load_model(tmp_path / "model.keras"))
    assert found.stored() == RECORD.stored() and found.assumed == ()
    assert found.normalization.scheme == "unit"


def test_copies_of_a_model_keep_the_record():
    model = network(RECORD, shape=(None, None, 3))
    for copy in (keras_resnet.fuse(model), keras_resnet.features(model), keras.models.clone_model(model)):
        assert for_model(copy).class_names == ("cat", "dog")


def test_the_sizes_of_the_input_come_before_those_of_the_record():
    assert for_model(network(RECORD)).image_size == (32, 32)
    assert for_model(network(RECORD)).side == 32
    assert for_model(network(RECORD, (None, None, 3))).side is None


def test_a_model_without_a_record_says_what_was_assumed():
    found = for_model(keras_resnet.ResNet18(input_shape=(32, 32, 1), width=1))
    assert (found.image_size, found.crop_fraction, found.channel_order) == ((32, 32), 1.0, "grey")
    assert set(found.assumed) == {"crop_fraction", "interpolation", "channel_order", "class_names"}
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
    ],
)
def test_a_bad_record_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        InputRecord(**arguments)


def test_what_is_no_record_is_refused():
    with pytest.raises(TypeError, match="is no record"):
        InputNormalization("unit", record={"side": 3})
    assert preprocessing.InputNormalization("unit", record=RECORD.stored()).record == RECORD


def test_normalising_does_not_depend_on_the_record():
    pixels = np.arange(12, dtype="float32").reshape(1, 2, 2, 3)
    plain, other = InputNormalization("unit")(pixels), InputNormalization("unit", record=RECORD)(pixels)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(plain), keras.ops.convert_to_numpy(other))
