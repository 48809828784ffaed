"""A `.keras` file that is damaged, or whose weights cannot be those of its layers, is one error."""

import io
import shutil
import zipfile

import h5py
import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.weights.files import is_whole_model, load_model_file


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.keras"
    model = keras_resnet.ResNet18(input_shape=(32, 32, 3), classes=4, width=2)
    model.save(path)
    return path


def changed(saved, path, change):
    """Writes the file again with another HDF5 file inside; all checksums are right."""
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith(".h5"):
                held = io.BytesIO(content)
                with h5py.File(held, "r+") as file:
                    kernel = file.visititems(lambda _, entry: entry if getattr(entry, "ndim", 0) == 4 else None)
                    change(file, kernel)
                content = held.getvalue()
            new.writestr(name, content)


def as_integers(file, kernel):
    name = kernel.name
    values = kernel[...].astype("int8")
    del file[name]
    file[name] = values


def with_nan(file, kernel):
    kernel[0, 0, 0, 0] = np.nan


@pytest.mark.parametrize(("change", "told"), [(as_integers, "tensors of float32"), (with_nan, "NaN or infinity")])
def test_weights_that_no_training_wrote_are_refused(saved, tmp_path, change, told):
    path = tmp_path / "changed.keras"
    changed(saved, path, change)
    keras.saving.load_model(path, compile=False)  # which Keras takes as it is
    with pytest.raises(ValueError, match=told):
        load_model_file(path)
    with pytest.raises(ValueError, match=told):
        keras_resnet.ResNet18(input_shape=(32, 32, 3), classes=4, width=2, weights=path)


def test_a_small_file_of_huge_layers_is_refused_before_they_are_made(saved, tmp_path):
    for name, change, told in (
        ("units", {"compression": zipfile.ZIP_STORED, "units": 400_000_000}, "units=400,000,000 in a file of"),
        ("padded", {"compression": zipfile.ZIP_DEFLATED, "padding": 2**22}, "is to have [0-9,]+ bytes in a file of"),
    ):
        path = tmp_path / f"{name}.keras"
        with zipfile.ZipFile(saved) as old, zipfile.ZipFile(path, "w", change["compression"]) as new:
            for member in old.namelist():
                content = old.read(member)
                if member == "config.json":
                    content = content.replace(b'"units": 4,', f'"units": {change.get("units", 4)},'.encode())
                new.writestr(member, content + bytes(change.get("padding", 0)))
        with pytest.raises(ValueError, match=told):
            load_model_file(path)


def test_every_flipped_byte_and_every_cut_is_found(saved, tmp_path):
    assert is_whole_model(saved) and load_model_file(saved).name == "resnet18"
    content, rng = saved.read_bytes(), np.random.default_rng(0)
    with zipfile.ZipFile(saved) as archive:
        weights = archive.getinfo("model.weights.h5")
    start = weights.header_offset + 100
    path = tmp_path / "m.keras"
    for place in rng.integers(start, start + weights.compress_size - 200, 40):
        path.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
        assert not is_whole_model(path)
    for size in rng.integers(0, len(content), 20):
        path.write_bytes(content[:size])
        assert not is_whole_model(path)
        with pytest.raises(ValueError, match="could not be loaded as a Keras model"):
            load_model_file(path)
    assert not is_whole_model(tmp_path)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "bfloat16"])
def test_models_of_other_types_are_loaded(saved, tmp_path, dtype):
    model = keras_resnet.ResNet18(input_shape=(32, 32, 3), classes=4, width=2, dtype=dtype)
    model.save(tmp_path / "m.keras")
    loaded = load_model_file(tmp_path / "m.keras")
    assert [layer.dtype_policy.name for layer in loaded.layers] == [layer.dtype_policy.name for layer in model.layers]
    assert dtype in {layer.dtype_policy.name for layer in loaded.layers}
    shutil.copy(saved, tmp_path / "other.keras")
    assert load_model_file(tmp_path / "other.keras").count_params() == model.count_params()
