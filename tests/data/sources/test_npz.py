"""Arrays in .npz files: keys, ranks, regression, and no pickles."""

import pickle

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from keras_resnet import data  # noqa: E402


def arrays(*shape, classes=3, seed=0):
    draw = np.random.default_rng(seed)
    return draw.integers(0, 256, shape, dtype="uint8"), np.arange(shape[0]) % classes


def saved(tmp_path, **content):
    np.savez(tmp_path / "data.npz", **content)
    return f"npz:{tmp_path / 'data.npz'}"


def test_given_splits_are_kept(tmp_path):
    parts = {"train": arrays(30, 6, 5, 3), "val": arrays(9, 6, 5, 3), "test": arrays(12, 6, 5, 3)}
    content = {f"{axis}_{name}": part for name, pair in parts.items() for axis, part in zip("xy", pair, strict=True)}
    dataset = data.load(saved(tmp_path, **content, class_names=np.array(["cat", "dog", "eel"])))
    assert dataset.sizes == {"train": 30, "validation": 9, "test": 12}
    assert dataset.class_names == ("cat", "dog", "eel")
    for split, name in (("train", "train"), ("validation", "val"), ("test", "test")):
        images, labels = dataset.arrays(split)
        np.testing.assert_array_equal(images, parts[name][0])
        np.testing.assert_array_equal(labels, parts[name][1])


def test_x_and_y_alone_are_split_in_three(tmp_path):
    x, y = arrays(60, 6, 5, 1)
    dataset = data.load(saved(tmp_path, x=x, y=y), validation_fraction=0.1, test_fraction=0.2)
    assert dataset.sizes == {"train": 43, "validation": 5, "test": 12}
    assert dataset.class_names == ("0", "1", "2")
    everything = np.concatenate([dataset.arrays(split)[0] for split in dataset.sizes])
    assert sorted(image.tobytes() for image in everything) == sorted(image.tobytes() for image in x)


@pytest.mark.parametrize("shape", [(40, 3), (6, 5, 3), (4, 5, 6, 2)])
def test_signals_images_and_volumes_are_batched(tmp_path, shape):
    x = np.random.default_rng(0).normal(size=(30, *shape))
    dataset = data.load(saved(tmp_path, x=x, y=np.arange(30) % 2))
    assert dataset.image_shape == shape
    images, labels = next(iter(dataset.training_batches(8, seed=0)))
    assert images.shape == (8, *shape) and images.dtype == "float32" and labels.dtype == "int32"


@pytest.mark.parametrize("outputs", [1, 4])
def test_regression_targets_are_float32(tmp_path, outputs):
    targets = np.random.default_rng(0).normal(size=(30, outputs))
    x = np.arange(30.0)[:, None, None] * np.ones((1, 5, 1))
    dataset = data.load(saved(tmp_path, x=x, y=targets), task="regression")
    assert dataset.class_names == () and dataset.num_outputs == outputs
    images, labels = dataset.arrays("test")
    expected = targets.astype("float32")[images[:, 0, 0].astype(int)]
    np.testing.assert_array_equal(labels.reshape(len(labels), -1), expected)
    assert next(iter(dataset.training_batches(4, seed=0)))[1].shape == ((4,) if outputs == 1 else (4, 4))


def test_one_hot_labels_are_read(tmp_path):
    x, y = arrays(60, 6, 5, 1)
    assert data.load(saved(tmp_path, x=x, y=np.eye(5)[y])).num_outputs == 5


class Hostile:
    def __reduce__(self):
        return pickle.loads, (b"I0\n.",)


GOOD = {"x": np.zeros((30, 4, 4, 1), "uint8"), "y": np.arange(30) % 2}
X, Y = GOOD["x"], GOOD["y"]
BAD = {
    "pickled images": ({"x": np.array([Hostile()] * 30, object), "y": Y}, "array 'x' holds pickled objects"),
    "pickled labels": ({"x": X, "y": np.array([{}] * 30, object)}, "array 'y' holds pickled objects"),
    "an unknown key": ({**GOOD, "classnames": Y}, r"\['classnames'\]. Did you mean 'class_names'"),
    "no labels": ({"x_train": X}, r"lacks \['y_train'\]"),
    "no training": ({"x_test": X, "y_test": Y}, r"lacks \['x_train', 'y_train'\]"),
    "both forms": ({**GOOD, "x_test": X, "y_test": Y}, r"'x' or 'y' beside \['x_test', 'y_test'\]"),
    "lengths differ": ({"x": X, "y": Y[:29]}, "30 images and 29 labels"),
    "a negative label": ({"x": X, "y": Y - 1}, r"y of .*\[0\]=-1"),
    "a label beyond the names": ({**GOOD, "class_names": ["a", "b"], "y": Y + 1}, r"\[1\]=2.*from 0 to 1"),
    "a gap in the labels": ({"x": X, "y": Y * 5}, r"\[1\]=5 is the largest label, but label 1 never occurs"),
    "one class": ({"x": X, "y": Y * 0}, "holds one class"),
    "float labels": ({"x": X, "y": Y + 0.5}, r"\[0\]=0.5"),
    "no examples": ({"x": X[:0], "y": Y[:0]}, "y of .* is empty"),
    "no channel axis": ({"x": np.zeros((30, 4)), "y": Y}, r"shape \(30, 4\)"),
    "not a number": ({"x": np.full((30, 4, 4, 1), np.nan), "y": Y}, r"x of .*\[0\] holds NaN.*30 such"),
    "complex images": ({"x": X * 1j, "y": Y}, "dtype complex128"),
    "shapes differ": ({"x_train": X, "y_train": Y, "x_test": X[:, :3], "y_test": Y}, "different shapes"),
    "types differ": ({"x_train": X, "y_train": Y, "x_test": X * 1.0, "y_test": Y}, "different shapes or types"),
    "a test label beyond training": (
        {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y + 1},
        r"y_test of .*\[1\]=2 .*Allowed is an integer from 0 to 1",
    ),
    "names of another kind": ({**GOOD, "class_names": np.arange(2)}, "class_names of .* has dtype int64"),
    "equal names": ({**GOOD, "class_names": ["a", "a"]}, "class_names of .*different strings"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_are_refused_with_key_and_file(tmp_path, case):
    content, message = BAD[case]
    spec = saved(tmp_path, **content)
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        data.load(spec)
    assert str(tmp_path / "data.npz") in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"PK\3\4 half a zip", "cannot be read"),
        (b"text", "cannot be read"),
        (None, "No such file"),
    ],
)
def test_files_that_are_no_npz_are_refused(tmp_path, content, message):
    path = tmp_path / "data.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        data.load(f"npz:{path}")


def test_a_single_array_and_a_pickle_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(ValueError, match="it holds a single array"):
        data.load(f"npz:{tmp_path / 'a.npy'}")
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(ValueError, match="cannot be read"):
        data.load(f"npz:{tmp_path / 'b.npz'}")


def test_a_truncated_and_a_corrupted_file_are_refused(tmp_path):
    saved(tmp_path, **GOOD)
    content = (tmp_path / "data.npz").read_bytes()
    for broken in (content[:-50], content[:300] + b"\1" + content[301:]):
        (tmp_path / "data.npz").write_bytes(broken)
        with pytest.raises(ValueError, match="cannot be read"):
            data.load(f"npz:{tmp_path / 'data.npz'}")


def test_classes_without_examples_are_reported(tmp_path):
    dataset = data.load(saved(tmp_path, **GOOD, class_names=["a", "b", "c"]))
    assert any("has no examples of the classes ['c']" in line for line in dataset.report)


@pytest.mark.parametrize("kind", [str, bytes])
def test_labels_may_be_words(tmp_path, kind):
    images = np.zeros((40, 4, 4, 1), "uint8")
    words = np.array(["zebra", "ant", "über", "ant"] * 10)
    labels = np.char.encode(words, "utf-8") if kind is bytes else words
    np.savez(tmp_path / "a.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    found = data.load(f"npz:{tmp_path / 'a.npz'}", validation_fraction=0)
    assert found.class_names == ("ant", "zebra", "über")
    assert [found.class_names[label] for label in found.arrays("test")[1]] == words.tolist()


def test_words_are_matched_with_the_class_names_of_the_file(tmp_path):
    images, words = np.zeros((40, 4, 4, 1), "uint8"), np.array(["zebra", "ant"] * 20)
    given = {"x": images, "y": words}
    np.savez(tmp_path / "a.npz", **given, class_names=np.array(["zebra", "ant", "bee"]))
    found = data.load(f"npz:{tmp_path / 'a.npz'}", validation_fraction=0, test_fraction=0)
    assert found.class_names == ("zebra", "ant", "bee") and found.arrays("train")[1].tolist() == [0, 1] * 20
    np.savez(tmp_path / "b.npz", **given, class_names=np.array(["zebra", "bee"]))
    with pytest.raises(ValueError, match=r"y\[1\]=ant of .*none of the class_names"):
        data.load(f"npz:{tmp_path / 'b.npz'}")


@pytest.mark.parametrize(
    ("shape", "right"), [((12, 500), (500, 12)), ((3, 32, 40), (32, 40, 3)), ((1, 8, 32, 32), (8, 32, 32, 1))]
)
def test_channels_before_the_other_axes_are_noticed(tmp_path, shape, right):
    labels = np.arange(20) % 2
    np.savez(tmp_path / "a.npz", x=np.zeros((20, *shape), "float32"), y=labels)
    with pytest.raises(ValueError, match=r"stand before the other axes.*numpy.moveaxis\(array, 1, -1\)"):
        data.load(f"npz:{tmp_path / 'a.npz'}")
    assert data.load(f"npz:{tmp_path / 'a.npz'}", rank=len(shape) - 1).image_shape == shape
    np.savez(tmp_path / "b.npz", x=np.moveaxis(np.zeros((20, *shape), "float32"), 1, -1), y=labels)
    assert data.load(f"npz:{tmp_path / 'b.npz'}").image_shape == right
