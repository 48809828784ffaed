import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_resnet import ResNet18, ResNet50
from tests import harness

LOAD = """
import sys
import keras, keras_resnet
import numpy as np
folder = sys.argv[1]
images = np.load(f"{folder}/images.npy")
for name in sys.argv[2:]:
    model = keras.saving.load_model(f"{folder}/{name}.keras")
    np.save(f"{folder}/{name}-reloaded.npy", keras.ops.convert_to_numpy(model(images, training=False)))
"""
NETS = {
    "plain": lambda: ResNet18(input_shape=(32, 32, 3), width=8, classes=5),
    "everything": lambda: ResNet50(
        input_shape=(32, 32, 3), width=4, classes=5, version="v2", stem="deep", shortcut="pool", attention="se",
        drop_path_rate=0.2, dropout_rate=0.3, kernel_regularizer=keras.regularizers.L1L2(1e-4, 1e-4),
        kernel_initializer=keras.initializers.GlorotUniform(seed=1), name="my.net",
    ),
    "mixed": lambda: ResNet18(input_shape=(None, None, 3), width=8, classes=5, version="v1", dtype="mixed_bfloat16"),
}  # fmt: skip


@pytest.mark.slow
def test_a_saved_model_gives_bit_equal_outputs_in_a_fresh_process(tmp_path):
    images = harness.random_images(2, 32, 32, 3)
    np.save(tmp_path / "images.npy", images)
    outputs = {}
    for name, build in NETS.items():
        model = build()
        harness.fill(model)
        model.save(tmp_path / f"{name}.keras")
        outputs[name] = keras.ops.convert_to_numpy(model(images, training=False))
    subprocess.run([sys.executable, "-c", LOAD, str(tmp_path), *NETS], check=True)
    for name, expected in outputs.items():
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}-reloaded.npy"), expected, err_msg=name)


def test_weights_files_carry_over_to_a_new_model(tmp_path):
    model, other = NETS["everything"](), NETS["everything"]()
    harness.fill(model)
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    images = harness.random_images(2, 32, 32, 3)
    np.testing.assert_array_equal(
        harness.to_numpy(other(images, training=False)), harness.to_numpy(model(images, training=False))
    )


@pytest.mark.exhaustive
def test_a_saved_model_goes_on_training(tmp_path):
    model = NETS["everything"]()
    images, labels = harness.random_images(8, 32, 32, 3), np.arange(8) % 5
    model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    model.fit(images, labels, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert np.isfinite(loaded.fit(images, labels, verbose=0).history["loss"][0])


@pytest.mark.parametrize("name", NETS)
def test_a_cloned_model_is_the_same_network(name):
    model = NETS[name]()
    harness.fill(model)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    images = harness.random_images(2, 32, 32, 3)
    np.testing.assert_array_equal(
        harness.to_numpy(clone(images, training=False)), harness.to_numpy(model(images, training=False))
    )
