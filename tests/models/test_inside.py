import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import ResNet18, ResNet50


def values(tensor):
    return keras.ops.convert_to_numpy(tensor)


@pytest.mark.parametrize("version", ["v1.5", "v2"])
def test_the_activations_inside_a_block_are_those_that_it_computes(version):
    model = ResNet50(input_shape=(32, 32, 3), stem="small", width=4, classes=5, version=version, attention="se")
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    names = ["stem", "stage2_block3", "stage3_block1", "stage3_block1/conv1", "stage3_block1/shortcut/conv"]
    before, block, after, conv1, shortcut = map(values, keras_resnet.activations(model, names)(images))
    layer = model.get_layer("stage3_block1")
    assert np.allclose(values(layer(block)), after, atol=1e-5)
    read = values(keras.ops.relu(layer.norm1(block))) if version == "v2" else block
    assert np.allclose(values(layer.conv1(read)), conv1, atol=1e-5)
    assert np.allclose(values(layer.shortcut.conv(read)), shortcut, atol=1e-5)
    assert np.allclose(values(model.get_layer("stem")(images)), before, atol=1e-5)


def test_every_layer_that_model_info_lists_can_be_asked_for():
    model = ResNet18(input_shape=(64, 2), stem="deep", width=4, classes=5, shortcut="pool")
    names = [cost.name for cost in keras_resnet.model_info(model).layers]
    outputs = keras_resnet.activations(model, names)(np.ones((1, 64, 2), "float32"))
    assert [tuple(output.shape[1:]) for output in outputs] == [
        cost.output_shape for cost in keras_resnet.model_info(model).layers
    ]


def test_the_model_is_left_as_it_was(tmp_path):
    model = ResNet18(input_shape=(16, 16, 1), stem="small", width=4, classes=5)
    keras_resnet.activations(model, ["stage3_block2/conv2"])
    keras_resnet.activations(model, ["stage3_block2/conv2"])
    model.save(tmp_path / "model.keras")
    images = np.ones((1, 16, 16, 1), "float32")
    assert np.array_equal(values(keras.saving.load_model(tmp_path / "model.keras")(images)), values(model(images)))


def test_a_mistake_is_named():
    model = ResNet18(input_shape=(16, 16, 1), stem="small", width=4, classes=5)
    with pytest.raises(ValueError, match="did you mean 'stage3_block2/conv2'|stage3_block2/conv2"):
        keras_resnet.activations(model, ["stage3_block2/conv3"])
    with pytest.raises(TypeError, match="sequence of names"):
        keras_resnet.activations(model, "stem")
    with pytest.raises(TypeError, match="functional Keras model"):
        keras_resnet.activations("resnet18", ["stem"])
