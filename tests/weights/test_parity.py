"""Files of timm and keras.applications, loaded, give the logits and the features of their own networks."""

import json
import pathlib
import zipfile

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import models, weights
from tests import harness
from tests.weights.golden import FOLDER, NETWORKS, tensor_of

safetensors = pytest.importorskip("safetensors.numpy")
STAGES = ("stage2", "stage3", "stage4", "stage5")


def golden(name):
    with np.load(FOLDER / f"{name}.npz") as found:
        about = json.loads(str(found["about"]))
        return {key: found[key] for key in found.files if key != "about"}, about["shapes"]


def difference(got, expected):
    got = got if isinstance(got, np.ndarray) else keras.ops.convert_to_numpy(got)
    return float(np.abs(got.astype("float64") - expected).max() / np.abs(expected).max())


SMALLEST = ["resnet18", "resnet50", "seresnet50", "resnext50_32x4d"]


@pytest.mark.parametrize(
    "name", harness.tiers(NETWORKS, SMALLEST, ["resnet34", "resnet50d", "resnetrs50", "ecaresnet50d"])
)
def test_a_file_of_timm_gives_the_logits_and_features_of_timm(name, tmp_path):
    expected, shapes = golden(name)
    tensors = {key: tensor_of(key, tuple(shape)) for key, shape in shapes.items()}
    safetensors.save_file({**tensors, "bn1.num_batches_tracked": np.array(3)}, str(tmp_path / "net.safetensors"))
    asked = {"input_shape": (None, None, 3), "classifier_activation": None}
    model = models.build(NETWORKS[name], weights=tmp_path / "net.safetensors", **asked)
    assert difference(model(expected["images"], training=False), expected["logits"]) < 1e-5
    features = keras_resnet.features(model, STAGES)(expected["images"], training=False)
    for stage, found in zip(STAGES, features, strict=True):
        kept = expected[stage].shape[-1]
        assert difference(keras.ops.convert_to_numpy(found)[..., :kept], expected[stage]) < 1e-5
    # And back: the same names, the same numbers.
    weights.save_weights(model, tmp_path / "back.safetensors", names="timm")
    back = safetensors.load_file(str(tmp_path / "back.safetensors"))
    assert set(back) == set(tensors) and all(np.array_equal(back[key], tensors[key]) for key in tensors)


def fill(model, draw):
    """Draws what an initializer makes all alike."""
    for variable in model.weights:
        if "moving_variance" in variable.path or "gamma" in variable.path:
            variable.assign(draw.uniform(0.5, 1.5, variable.shape))
        elif len(variable.shape) == 1 and "seed" not in variable.path:
            variable.assign(draw.normal(0, 0.1, variable.shape))


def published(model, path):
    """Writes the weights of a model in the format in which keras.applications publishes them."""
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)


PUBLISHED = [(name, True) for name in ("ResNet50", "ResNet50V2", "ResNet101", "ResNet101V2", "ResNet152")]
HEADLESS = [("ResNet50", False), ("ResNet50V2", False)]


@pytest.mark.parametrize(("name", "include_top"), harness.tiers([*PUBLISHED, *HEADLESS], PUBLISHED[:2], HEADLESS))
@pytest.mark.skipif(keras.config.image_data_format() != "channels_last", reason="keras.applications is compared so")
def test_a_file_of_keras_applications_gives_its_logits(name, include_top, tmp_path):
    keras.utils.set_random_seed(0)
    theirs = getattr(keras.applications, name)(weights=None, include_top=include_top, input_shape=(64, 48, 3))
    draw = np.random.default_rng(0)
    fill(theirs, draw)
    published(theirs, tmp_path / "net.h5")
    images = draw.normal(0, 60, (2, 64, 48, 3)).astype("float32")
    asked = {"input_shape": (64, 48, 3), **({} if include_top else {"include_top": False})}
    ours = models.build(name.lower().removesuffix("v2"), weights=tmp_path / "net.h5", **asked)
    got, expected = ours(images, training=False), keras.ops.convert_to_numpy(theirs(images, training=False))
    if include_top:
        got = keras.ops.convert_to_numpy(got)
        got, expected = (np.log(np.maximum(one.astype("float64"), 1e-30)) for one in (got, expected))
    assert difference(got, expected) < 1e-4
    assert ours.count_params() == theirs.count_params()


def sequential(base):
    return keras.Sequential([base, keras.layers.GlobalAveragePooling2D(), keras.layers.Dropout(0.2), dense(5)])


def functional(base):
    return keras.Model(base.input, dense(5)(keras.layers.GlobalAveragePooling2D()(base.output)))


def hidden(base):
    x = dense(16, "relu")(keras.layers.GlobalAveragePooling2D()(base.output))
    return keras.Model(base.input, dense(5)(x))


def dense(units, activation=None):
    return keras.layers.Dense(units, activation)


# Keras loads no file of the older format with such heads, and writes none.
TUNED = [("ResNet50", sequential), ("ResNet50V2", functional), ("ResNet50", hidden), ("ResNet50", lambda base: base)]


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
@pytest.mark.parametrize(("name", "wrap"), harness.tiers(TUNED, TUNED[:1], TUNED[1:]))
@pytest.mark.skipif(keras.config.image_data_format() != "channels_last", reason="keras.applications is compared so")
def test_a_network_of_keras_applications_that_a_user_saved_gives_its_answers(name, wrap, suffix, tmp_path, caplog):
    base = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(64, 48, 3))
    theirs, draw = wrap(base), np.random.default_rng(0)
    base.get_layer("conv4_block1_1_conv").trainable = False
    fill(theirs, draw)
    path = tmp_path / f"tuned{suffix}"
    (theirs.save if suffix == ".keras" else theirs.save_weights)(path)
    images = draw.normal(0, 60, (2, 64, 48, 3)).astype("float32")
    has_head = wrap in (sequential, functional)
    asked = {"classifier_activation": None} if has_head else {"include_top": False}
    ours = models.build(name.lower().removesuffix("v2"), weights=path, input_shape=(64, 48, 3), **asked)
    expected = (theirs if has_head else base)(images, training=False)
    assert difference(ours(images, training=False), keras.ops.convert_to_numpy(expected)) < 1e-4
    assert ("left out: dense" in caplog.text) == (wrap is hidden)


def checkpoint(path, tensors, wrap=lambda found: found):
    """Writes what torch.save writes, without PyTorch: an archive of a pickle and the numbers."""
    import collections
    import io
    import pickle

    class FloatStorage:
        pass

    class Storage:
        def __init__(self, key, numel):
            self.key, self.numel = key, numel

    class Tensor:
        def __init__(self, key, shape):
            self.key, self.shape = key, shape

        def __reduce__(self):
            strides = [int(np.prod(self.shape[axis + 1 :])) for axis in range(len(self.shape))]
            arguments = (Storage(self.key, int(np.prod(self.shape))), 0, tuple(self.shape), tuple(strides), False, None)
            return _rebuild_tensor_v2, arguments

    def _rebuild_tensor_v2(*arguments):
        raise AssertionError("only its name is written")

    class Pickler(pickle._Pickler):
        def persistent_id(self, found):
            return ("storage", FloatStorage, found.key, "cpu", found.numel) if isinstance(found, Storage) else None

        def save_global(self, found, name=None):
            names = {
                FloatStorage: ("torch", "FloatStorage"),
                _rebuild_tensor_v2: ("torch._utils", "_rebuild_tensor_v2"),
            }
            if found in names:
                module, name = names[found]
                self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())
            else:
                super().save_global(found, name)

        dispatch = {**pickle._Pickler.dispatch, type(FloatStorage): save_global, type(_rebuild_tensor_v2): save_global}

    found = collections.OrderedDict(
        (name, Tensor(str(number), array.shape)) for number, (name, array) in enumerate(tensors.items())
    )
    held = io.BytesIO()
    Pickler(held, 2).dump(wrap(found))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", held.getvalue())
        for number, array in enumerate(tensors.values()):
            archive.writestr(f"net/data/{number}", array.astype("float32").tobytes())


def _others(found):
    """Other weights of the same shapes: two layers of one shape are exchanged."""
    names = [name for name in found if name.startswith("layer1.") and name.endswith("conv1.weight")]
    return {**found, names[0]: found[names[1]], names[1]: found[names[0]]}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda found: found,
        lambda found: {"epoch": 3, "state_dict": {f"module.{name}": one for name, one in found.items()}},
        lambda found: {"model": found, "optimizer": {"state": {}}},
        lambda found: {"state_dict": {f"model.{name}": one for name, one in found.items()}, "hyper_parameters": {}},
        # The average is what timm loads, and what torchvision's references evaluate.
        lambda found: {"state_dict": _others(found), "state_dict_ema": found},
        lambda found: {
            "model": _others(found),
            "model_ema": {"n_averaged": found["bn1.bias"], **{f"module.{name}": one for name, one in found.items()}},
        },
        lambda found: {"best_acc1": found["bn1.bias"], "state_dict": {f"module.{n}": one for n, one in found.items()}},
    ],
    ids=[
        "state dict",
        "timm",
        "torchvision",
        "lightning",
        "timm's average",
        "torchvision's average",
        "imagenet example",
    ],
)
def test_a_checkpoint_of_ones_own_training_in_pytorch_is_read_without_it(tmp_path, wrap):
    expected, shapes = golden("resnet18")
    tensors = {name: tensor_of(name, tuple(shape)) for name, shape in shapes.items()}
    checkpoint(tmp_path / "net.pth", tensors, wrap)
    model = models.build(
        "resnet18", weights=tmp_path / "net.pth", input_shape=(None, None, 3), classifier_activation=None
    )
    assert difference(model(expected["images"], training=False), expected["logits"]) < 1e-5


def test_the_golden_files_are_of_every_network():
    assert {path.stem for path in pathlib.Path(FOLDER).glob("*.npz")} == set(NETWORKS)
