"""What does not fit, is damaged or hostile is refused, named, and changes nothing."""

import json
import os
import pickle
import tracemalloc
import zipfile

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import ResNet18, ResNet50, models, preprocessing, weights
from keras_resnet.weights import download, sources
from tests.weights.test_parity import checkpoint

safetensors = pytest.importorskip("safetensors.numpy")
SMALL = {"stem": "small", "width": 4, "classes": 3, "input_shape": (8, 8, 3)}
RECORD = {"image_size": [8, 8], "class_names": ["a", "b", "c"], "task": "classification", "activation": "softmax"}
NORMALIZATION = {"scheme": "dataset", "mean": [100.0, 110.0, 120.0], "std": [50.0, 60.0, 70.0], "record": RECORD}


@pytest.fixture
def model():
    keras.utils.set_random_seed(1)
    made = ResNet18(**SMALL)
    draw = np.random.default_rng(0)
    for variable in made.weights:
        variable.assign(draw.uniform(0.1, 1.0, variable.shape))
    return made


@pytest.fixture
def file(model, tmp_path):
    return weights.save_weights(model, tmp_path / "net.safetensors", preprocessing=NORMALIZATION)


def values(model):
    return [keras.ops.convert_to_numpy(variable).copy() for variable in model.weights]


def test_our_own_file_brings_architecture_and_preprocessing(model, file, tmp_path):
    again = ResNet18(weights=file)
    assert all(np.array_equal(one, other) for one, other in zip(values(again), values(model), strict=True))
    record = preprocessing.for_model(again)
    assert record.class_names == ("a", "b", "c") and record.image_size == (8, 8) and not record.assumed
    white = np.full((1, 8, 8, 3), 255, "uint8")
    scaled = keras.ops.convert_to_numpy(record.normalization(white))[0, 0, 0]
    assert scaled == pytest.approx([155 / 50, 145 / 60, 135 / 70])
    # The record travels with the bare network.
    again.save(tmp_path / "bare.keras")
    loaded = keras.saving.load_model(tmp_path / "bare.keras")
    assert preprocessing.for_model(loaded).class_names == ("a", "b", "c")
    # And one call makes the network that takes pixels.
    whole = models.pretrained_model("resnet18", file)
    logits = models.build("resnet18", weights=file, classifier_activation=None)(record.normalization(white))
    got, expected = (keras.ops.convert_to_numpy(one) for one in (whole(white), logits))
    assert np.allclose(got, expected, atol=1e-4)
    assert preprocessing.for_model(whole).class_names == ("a", "b", "c")


def test_another_number_of_classes_makes_a_new_head_and_says_so(model, file, caplog):
    other = ResNet18(weights=file, classes=5)
    assert "5 were asked for: the head 'predictions' is new" in caplog.text
    assert other.output_shape == (None, 5) and preprocessing.for_model(other).class_names == ()
    assert np.array_equal(other.get_layer("stem").get_weights()[0], model.get_layer("stem").get_weights()[0])
    body = ResNet18(weights=file, include_top=False, pooling="avg", input_shape=(16, 16, 3))
    assert body.output_shape == (None, 32)
    there = {one.path: keras.ops.convert_to_numpy(one) for one in model.weights}
    assert all(np.array_equal(keras.ops.convert_to_numpy(one), there[one.path]) for one in body.weights)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"version": "v1"}, "version='v1' was given.*need version='v1.5'.*follows from the weights"),
        ({"width": 8}, "need width=4"),
        ({"stem": "conv7"}, "need stem='small'"),
        ({"input_shape": (8, 8, 1)}, "are for pictures of 3 channels, and the network takes pictures of 1"),
    ],
)
def test_arguments_that_the_weights_do_not_allow(file, arguments, message):
    with pytest.raises(ValueError, match=message):
        ResNet18(weights=file, **arguments)


def test_another_variant_is_told_which_fits(file):
    with pytest.raises(ValueError, match="Models that fit are resnet18"):
        ResNet50(weights=file)


def changed(file, change):
    tensors, metadata = safetensors.load_file(str(file)), weights.open_tensors(file).metadata
    change(tensors, metadata)
    path = file.with_name("changed.safetensors")
    safetensors.save_file(tensors, str(path), metadata)
    return path


def setting(name, value):
    return lambda tensors, metadata: tensors.update({name: value(tensors[name])})


def says(**fields):
    def change(tensors, metadata):
        key = "keras_resnet.architecture"
        metadata[key] = json.dumps({**json.loads(metadata[key]), **fields})

    return change


KERNEL = "stage3_block1/conv1/kernel"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors, metadata: tensors.pop(KERNEL), f"missing: {KERNEL}"),
        (lambda tensors, metadata: tensors.update(extra=np.zeros(3, "float32")), "unexpected: extra"),
        (
            setting(KERNEL, lambda array: array.transpose(3, 2, 1, 0).copy()),
            r"conv1/kernel has the shape \(8, 4, 3, 3\)",
        ),
        (setting(KERNEL, lambda array: array.astype("int8")), "is I8, and weights are floating-point"),
        (setting(KERNEL, lambda array: array * np.nan), "conv1/kernel holds NaN"),
        (setting(KERNEL, lambda array: np.where(array > 0.9, np.inf, array)), "holds NaN or infinity"),
        (setting("stem/norm1/moving_variance", np.zeros_like), "no positive variance"),
        (says(version="v1"), "version is 'v1' in the file"),
        (says(norm_epsilon=1.001e-5), "norm_epsilon is 1.001e-05 in the file and 1e-05"),
        (says(strides=[[1, 1], [1, 2], [1, 2], [1, 2]]), "strides is"),
    ],
)
def test_what_does_not_fit_is_named_and_changes_nothing(model, file, change, message):
    path, before = changed(file, change), values(model)
    with pytest.raises(ValueError, match=message):
        weights.load_weights(model, path)
    assert all(np.array_equal(one, other) for one, other in zip(values(model), before, strict=True))


class Attack:
    def __reduce__(self):
        return os.system, ("touch attacked",)


def attack_archive(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", pickle.dumps({"state_dict": Attack()}, protocol=2))


def header(path, text, data=b""):
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


HOSTILE = {
    "archive.pth": attack_archive,
    "bare.pth": lambda path: path.write_bytes(pickle.dumps(Attack())),
    "text.pth": lambda path: path.write_text("not weights"),
    "empty.safetensors": lambda path: path.write_bytes(b""),
    "long.safetensors": lambda path: path.write_bytes((2**60).to_bytes(8, "little") + b"{}"),
    "no-json.safetensors": lambda path: header(path, b"{nonsense"),
    "cut.safetensors": lambda path: header(path, b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}', b"1234"),
    "huge.safetensors": lambda path: header(
        path, b'{"a":{"dtype":"F32","shape":[100000,100000],"data_offsets":[0,40000000000]}}', b"1234"
    ),
    "outside.safetensors": lambda path: header(
        path, b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[90,94]}}', b"1234"
    ),
    "twice.safetensors": lambda path: header(
        path,
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        b"1234",
    ),
    "text.h5": lambda path: path.write_text("not weights"),
    "text.keras": lambda path: path.write_text("not weights"),
    "net.weights.h5": lambda path: path.write_text("not weights"),
    "net.txt": lambda path: path.write_text("not weights"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_and_damaged_files_are_refused_and_run_nothing(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    HOSTILE[name](tmp_path / name)
    with pytest.raises(ValueError, match="weights="):
        weights.open_tensors(tmp_path / name)
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize(
    "make",
    [
        lambda h5py, file: file.create_group("conv1_conv").__setitem__("kernel:0", h5py.ExternalLink("/etc/x", "/a")),
        lambda h5py, file: file.__setitem__("conv1_conv", h5py.SoftLink("/nowhere")),
        lambda h5py, file: file.create_dataset("c/kernel:0", (2,), "f4", external=[("raw.bin", 0, 8)]),
    ],
)
def test_links_out_of_an_hdf5_file_are_refused(make, tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py")
    monkeypatch.chdir(tmp_path)
    with h5py.File("net.h5", "w") as file:
        make(h5py, file)
    with pytest.raises(ValueError, match=r"refused|lies elsewhere"):
        weights.open_tensors("net.h5")


def test_an_hdf5_file_of_many_paths_to_one_group_is_refused(tmp_path):
    """24 links to each group, eight levels deep, are 10**11 paths in 23 kB."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "net.h5", "w") as file:
        group = file.create_group("0")
        for depth in range(1, 8):
            below = file.create_group(str(depth))
            for index in range(24):
                group[str(index)] = below
            group = below
    with pytest.raises(ValueError, match="twice"):
        weights.open_tensors(tmp_path / "net.h5")


def test_a_pickle_with_a_large_memo_index_takes_no_memory(tmp_path):
    with zipfile.ZipFile(tmp_path / "net.pth", "w") as archive:
        archive.writestr("net/data.pkl", b"\x80\x02}r" + (2**27).to_bytes(4, "little") + b".")
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="holds no tensors"):
            weights.open_tensors(tmp_path / "net.pth")
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_a_header_of_safetensors_beyond_any_network_is_refused(tmp_path):
    header(tmp_path / "net.safetensors", b"{" + b" " * 2**24 + b"}")
    with pytest.raises(ValueError, match="has a header of 16777218 bytes. Allowed are 16777216"):
        weights.open_tensors(tmp_path / "net.safetensors")


def test_a_tensor_that_claims_more_than_its_storage_is_refused(tmp_path):
    checkpoint(tmp_path / "net.pth", {"a": np.zeros((2, 2), "float32")})
    with zipfile.ZipFile(tmp_path / "net.pth") as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "cut.pth", "w") as archive:
        for name, content in held.items():
            archive.writestr(name, content[:8] if name.endswith("data/0") else content)
    with pytest.raises(ValueError, match="storage '0' has 8 bytes"):
        weights.open_tensors(tmp_path / "cut.pth")


def test_tags_and_paths_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_RESNET_HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_RESNET_OFFLINE", "1")
    with pytest.raises(ValueError, match="neither a tag nor a file.*Did you mean 'imagenet.a1_in1k'"):
        ResNet18(weights="imagenet.a1_in1")
    with pytest.raises(ValueError, match="resnet18-f37072fd.pth is not on this machine.*KERAS_RESNET_OFFLINE"):
        ResNet18(weights="imagenet.tv1")
    with pytest.raises(ValueError, match="neither a tag nor a file") as told:
        ResNet18(weights="imagenet.cifar10")
    assert "imagenet.cifar10" not in str(told.value).partition("neither")[2]
    with pytest.raises(ValueError, match="is not a file"):
        ResNet18(weights=tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="does not name a repository"):
        ResNet18(weights="hf://../../etc")
    with pytest.raises(ValueError, match="does not name a repository"):
        ResNet18(weights="hf://../..")
    with pytest.raises(TypeError, match="weights must be None, a tag or a path"):
        ResNet18(weights=3)


def test_a_file_in_the_cache_has_the_preprocessing_of_its_publisher(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_RESNET_HOME", str(tmp_path))
    row = next(row for row in weights.list_weights("resnet18") if row.tag == "a1_in1k")
    path = download.cache_folder() / "resnet18" / row.tag / row.file
    path.parent.mkdir(parents=True)
    weights.save_weights(ResNet18(input_shape=(32, 32, 3), classes=1000), path, names="timm")
    record = preprocessing.for_model(ResNet18(weights="imagenet.a1_in1k"))
    assert record.image_size == (224, 224) and record.crop_fraction == 0.95 and record.interpolation == "pil-bicubic"
    assert len(set(record.class_names)) == 1000 and record.class_names[207] == "golden retriever"
    white = np.full((1, 2, 2, 3), 255, "uint8")
    scaled = keras.ops.convert_to_numpy(record.normalization(white))[0, 0, 0]
    assert scaled == pytest.approx([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225], rel=1e-5)


def test_the_table_of_published_weights():
    rows = keras_resnet.list_weights()
    assert len({(row.model, row.tag) for row in rows}) == len(rows) >= 67
    assert {row.model for row in rows} <= set(models.list_models())
    assert not next(row for row in rows if row.tag == "fb_swsl_ig1b_ft_in1k").is_free
    for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"):
        assert sources.default_of(name).is_free and sources.default_of(name).classes == 1000
    with pytest.raises(ValueError, match="Did you mean 'resnet50'"):
        keras_resnet.list_weights("resnet5")


def test_the_rows_of_keras_applications_have_the_hashes_that_keras_checks():
    from keras.src.applications import resnet

    rows = [row for row in weights.list_weights() if row.publisher == "keras.applications"]
    assert len(rows) == 12
    for row in rows:
        version, without_top = "v2" if "v2" in row.tag else "", row.tag.endswith("notop")
        assert row.hash == f"md5 {resnet.WEIGHTS_HASHES[row.model + version][without_top]}"
        name = f"{row.model}{version}_weights_tf_dim_ordering_tf_kernels{'_notop' if without_top else ''}.h5"
        assert row.url == f"{resnet.BASE_WEIGHTS_PATH}{name}" and row.file == name


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"scheme": "dataset", "record": {}}',
        '{"scheme": "x", "record": {}}',
        '{"record": {"image_size": "a"}}',
    ],
)
def test_what_a_stranger_wrote_of_the_pixels_is_checked(file, text):
    path = changed(file, lambda tensors, metadata: metadata.update({"keras_resnet.preprocessing": text}))
    with pytest.raises(ValueError, match="say damaged things of the images"):
        ResNet18(weights=path)


def test_weights_of_signals_and_volumes_are_read_too(tmp_path):
    for shape in ((64, 2), (16, 16, 16, 1)):
        model = ResNet18(input_shape=shape, stem="small", width=4, classes=3)
        path = weights.save_weights(model, tmp_path / f"{len(shape)}.safetensors")
        again = ResNet18(weights=path, input_shape=shape)
        pairs = zip(values(again), values(model), strict=True)
        assert all(np.array_equal(one, other) for one, other in pairs)
    with pytest.raises(ValueError, match="Only weights of pictures can be adapted"):
        ResNet18(weights=path, input_shape=(16, 16, 1), adapt_weights=True)


@pytest.fixture
def rounded(model):
    images = np.random.default_rng(5).normal(size=(8, 8, 8, 3)).astype("float32")
    return models.quantize(model, [images])


def test_a_network_that_rounds_is_written_in_integers_and_answers_the_same(rounded, tmp_path):
    path = weights.save_weights(rounded, tmp_path / "int8.safetensors", preprocessing=NORMALIZATION)
    tensors = safetensors.load_file(path)
    integers = {name: tensor for name, tensor in tensors.items() if tensor.dtype == np.int8}
    assert set(integers) == {variable.path for variable in rounded.weights if variable.path.endswith("/kernel")}
    for name, levels in integers.items():
        # The levels of the specification of 8-bit kernels: the largest of each filter is 127 steps from 0.
        (kernel,) = (np.asarray(variable) for variable in rounded.weights if variable.path == name)
        steps = np.abs(kernel).max(axis=None if name.startswith("predictions") else tuple(range(kernel.ndim - 1))) / 127
        np.testing.assert_allclose(tensors[f"{name}/scale"], steps, rtol=1e-6)
        assert np.abs(levels * steps - kernel).max() <= 0.5001 * np.max(steps) and abs(levels).max() == 127
    again = ResNet18(weights=path)
    assert models.is_quantized(again) and preprocessing.for_model(again).class_names == ("a", "b", "c")
    images = np.random.default_rng(6).normal(size=(16, 8, 8, 3)).astype("float32")
    got, expected = (keras.ops.convert_to_numpy(one(images, training=False)) for one in (again, rounded))
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_what_was_rounded_for_one_network_is_refused_for_another(rounded, tmp_path):
    path = weights.save_weights(rounded, tmp_path / "int8.safetensors", preprocessing=NORMALIZATION)
    for options in ({"classes": 4}, {"include_top": False}, {"adapt_weights": True, "input_shape": (8, 8, 1)}):
        with pytest.raises(ValueError, match="rounded to 8 bits in the ranges of one network.*Use weights in floats"):
            ResNet18(weights=path, **options)
    with pytest.raises(ValueError, match="quantized=True"):
        weights.save_weights(rounded, tmp_path / "timm.safetensors", names="timm")
    tensors = safetensors.load_file(path)
    metadata = weights.open_tensors(path).metadata
    scale = tensors.pop("stem/conv1/kernel/scale")
    for wrong in ({}, {"stem/conv1/kernel/scale": scale[:, None]}, {"stem/conv1/kernel/scale": scale.astype("int8")}):
        safetensors.save_file({**tensors, **wrong}, path, metadata)
        with pytest.raises(ValueError, match="stem/conv1/kernel is I8|unexpected: stem/conv1/kernel/scale"):
            ResNet18(weights=path)
