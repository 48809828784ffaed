import math

import keras
import pytest

import keras_resnet
from keras_resnet import ResNet18


def test_multiply_adds_and_bytes_of_a_small_net_are_those_counted_by_hand():
    info = keras_resnet.model_info("resnet18", input_shape=(16, 16, 3), stem="small", width=4, classes=10)
    layers = {layer.name: layer for layer in info.layers}
    assert layers["stem/conv1"].multiply_adds == 16 * 16 * 3 * 3 * 3 * 4
    assert layers["stage3_block1/conv1"].multiply_adds == 8 * 8 * 3 * 3 * 4 * 8
    assert layers["stage3_block1/shortcut/conv"].multiply_adds == 8 * 8 * 4 * 8
    assert layers["predictions"].multiply_adds == 32 * 10
    assert layers["stage3_block1/conv1"].activation_bytes == 8 * 8 * 8 * 4
    for count in ("multiply_adds", "parameters", "trainable_parameters", "activation_bytes"):
        assert getattr(info, count) == sum(getattr(stage, count) for stage in info.stages)
        assert getattr(info, count) == sum(getattr(layer, count) for layer in info.layers)


def test_counts_agree_with_keras():
    model = ResNet18(input_shape=(32, 32, 3), width=8, attention="se", drop_path_rate=0.1, version="v2")
    info = keras_resnet.model_info(model)
    seeds = sum(2 for weight in model.weights if weight.name == "seed_generator_state")
    assert info.parameters == model.count_params() - seeds
    assert info.trainable_parameters == sum(math.prod(weight.shape) for weight in model.trainable_weights)


def test_multiply_adds_grow_with_the_input_and_memory_halves_in_16_bit():
    small, large = (keras_resnet.model_info("resnet18", width=8, input_shape=(side, side, 3)) for side in (64, 128))
    assert large.stages[0].multiply_adds == 4 * small.stages[0].multiply_adds
    half = keras_resnet.model_info("resnet18", width=8, input_shape=(64, 64, 3), dtype="mixed_bfloat16")
    head = small.stages[-1].activation_bytes
    assert half.activation_bytes - head == (small.activation_bytes - head) / 2


def test_a_model_of_unknown_sizes_needs_an_input_shape():
    model = ResNet18(input_shape=(None, None, 3), width=8)
    with pytest.raises(ValueError, match="is not fully known.*Pass input_shape="):
        keras_resnet.model_info(model)
    info = keras_resnet.model_info(model, input_shape=(64, 64, 3))
    assert info == keras_resnet.model_info("resnet18", width=8, input_shape=(64, 64, 3))


def test_a_loaded_model_is_counted_like_the_one_that_was_saved(tmp_path):
    model = ResNet18(input_shape=(32, 32, 3), width=8)
    model.save(tmp_path / "model.keras")
    assert keras_resnet.model_info(keras.saving.load_model(tmp_path / "model.keras")) == keras_resnet.model_info(model)


def test_the_table_is_printed_with_its_total():
    text = str(keras_resnet.model_info("resnet50"))
    assert "total" in text and "25,610,152" in text and "4,089,184,256" in text


def test_what_is_no_model_is_refused():
    with pytest.raises(ValueError, match="model='resnet49' is not known. Did you mean 'resnet"):
        keras_resnet.model_info("resnet49")
    with pytest.raises(TypeError, match="model must be a name or a Keras model, got int"):
        keras_resnet.model_info(50)
    with pytest.raises(TypeError, match="unexpected keyword 'widht'. Did you mean 'width'"):
        keras_resnet.model_info("resnet18", widht=8)
    with pytest.raises(TypeError, match="were given with a built model"):
        keras_resnet.model_info(ResNet18(input_shape=(32, 32, 3), width=4), width=8)


def test_counting_by_name_draws_no_random_weights(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("a random number was drawn")

    monkeypatch.setattr(keras.initializers.HeNormal, "__call__", refuse)
    assert keras_resnet.model_info("resnet18", width=4).parameters > 0
