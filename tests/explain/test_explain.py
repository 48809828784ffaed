"""Maps follow what decides, and nothing once the weights are random."""

import keras
import numpy as np
import pytest
from PIL import Image

import keras_resnet
from keras_resnet import ResNet18, explain, preprocessing
from keras_resnet.explain.methods import METHODS
from tests import harness

SIDE, PATCH = 24, 6
# What is drawn on a grid of 12 x 12 is not finer than it.
SHARES = {"grad-cam": 0.7, "grad-cam++": 0.7, "score-cam": 0.6, "integrated-gradients": 0.7, "occlusion": 0.7}


@pytest.fixture(autouse=True)
def _seeded():
    """First weights are the same in every run: differences across a ReLU's kink depend on them."""
    keras.utils.set_random_seed(0)


def planted(count, seed):
    """Noise with two striped patches of one contrast; in class 1 the first has rows, every other one columns."""
    rng = np.random.default_rng(seed)
    images = rng.uniform(90, 165, (count, SIDE, SIDE, 1)).astype("float32")
    half = SIDE // 2
    corners = rng.integers(0, (half - PATCH + 1, SIDE - PATCH + 1), (count, 2))
    others = rng.integers((half, 0), (SIDE - PATCH + 1, SIDE - PATCH + 1), (count, 2))
    swapped = rng.random(count) < 0.5  # above or below
    corners[swapped], others[swapped] = others[swapped].copy(), corners[swapped].copy()
    labels = np.arange(count) % 2
    columns = np.broadcast_to(np.where(np.arange(PATCH) % 2, 255.0, 0.0)[None, :, None], (PATCH, PATCH, 1))
    for image, corner, other, label in zip(images, corners, others, labels, strict=True):
        for (row, column), stripes in ((corner, columns.transpose(1, 0, 2) if label else columns), (other, columns)):
            image[row : row + PATCH, column : column + PATCH] = stripes
    return images, labels, corners


def network():
    image = keras.Input((SIDE, SIDE, 1))
    x = preprocessing.InputNormalization("unit")(image)
    return ResNet18(input_tensor=x, stem="small", width=8, classes=2)


@pytest.fixture(scope="module")
def trained():
    keras.utils.set_random_seed(0)
    model = network()
    model.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy", metrics=["accuracy"])
    images, labels, _ = planted(512, seed=1)
    model.fit(images, labels, batch_size=32, epochs=6, verbose=0)
    assert model.evaluate(*planted(128, seed=2)[:2], verbose=0)[1] > 0.95
    return model


def share_on_the_patch(maps, corners):
    """How often the largest value lies on the patch, or at most two pixels beside it."""
    hits = []
    for heat, (row, column) in zip(maps, corners, strict=True):
        peak = np.unravel_index(int(heat.argmax()), heat.shape)
        hits.append(row - 2 <= peak[0] < row + PATCH + 2 and column - 2 <= peak[1] < column + PATCH + 2)
    return np.mean(hits)


@pytest.mark.parametrize("method", harness.tiers(METHODS, [], ["grad-cam"]))
def test_a_map_follows_a_planted_patch_and_random_weights_destroy_it(trained, method):
    images, labels, corners = planted(40, seed=3)
    images, corners = images[labels == 1], corners[labels == 1]
    found = explain.explain(trained, images, method=method, classes=1, stage="stage3")
    assert share_on_the_patch(found.maps, corners) >= SHARES[method]
    # Adebayo et al. 2018: a map that does not depend on what was learnt shows edges, not reasons.
    keras.utils.set_random_seed(5)
    chance = explain.explain(network(), images, method=method, classes=1, stage="stage3")
    correlations = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(found.maps, chance.maps, strict=True)]
    assert np.nanmean(correlations) < 0.5
    assert share_on_the_patch(chance.maps, corners) < share_on_the_patch(found.maps, corners)


@pytest.mark.parametrize(("shape", "stem"), [((64, 2), "small"), ((24, 16, 3), "small"), ((8, 16, 8, 1), "small")])
@pytest.mark.parametrize("method", harness.tiers(METHODS, ["grad-cam"], METHODS))
def test_every_method_draws_every_rank(shape, stem, method):
    model = ResNet18(input_shape=shape, stem=stem, width=4, classes=3, classifier_activation=None)
    images = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    before = [keras.ops.convert_to_numpy(variable).copy() for variable in model.variables]
    found = explain.explain(model, images, method=method, classes=[0, 2], stage="stage3")
    assert found.maps.shape == (2, *shape[:-1]) and found.maps.dtype == "float32"
    assert found.maps.min() >= 0 and found.maps.max() <= 1 and np.isfinite(found.maps).all()
    assert found.classes.tolist() == [0, 2]
    values = [keras.ops.convert_to_numpy(variable) for variable in model.variables]
    assert all(np.array_equal(a, b) for a, b in zip(before, values, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "gradcam"}, "Did you mean 'grad-cam'"),
        ({"stage": "stage6"}, "stage6"),
        ({"classes": 3}, "classes must be an int from 0 to 2"),
        ({"images": np.zeros((16, 16, 1))}, r"Pass images\[None\]"),
        ({"model": "resnet18"}, "Keras model"),
    ],
)
def test_a_mistake_is_named(options, message):
    model = ResNet18(input_shape=(16, 16, 1), stem="small", width=4, classes=3)
    given = {"model": model, "images": np.zeros((1, 16, 16, 1)), **options}
    with pytest.raises((ValueError, TypeError), match=message):
        explain.explain(given.pop("model"), given.pop("images"), **given)


@pytest.mark.parametrize("shape", [(64, 2), (24, 16, 3), (24, 16, 1), (8, 16, 8, 1)])
def test_an_overlay_is_a_png_of_every_rank(shape, tmp_path):
    rng = np.random.default_rng(0)
    heat = rng.uniform(0, 1, shape[:-1]).astype("float32")
    explain.overlay(rng.uniform(0, 255, shape), heat, tmp_path / "a.png", "cat")
    with Image.open(tmp_path / "a.png") as picture:
        assert min(picture.size) >= 200
    with pytest.raises(ValueError, match="must agree"):
        explain.overlay(rng.uniform(0, 255, shape), np.zeros(3), tmp_path / "b.png")


def test_the_command_writes_an_overlay_for_every_file(tmp_path, capsys):
    from keras_resnet.cli import main

    record = preprocessing.InputRecord(16, 0.875, class_names=("cat", "dog"))
    image = keras.Input((16, 16, 3))
    x = preprocessing.InputNormalization("unit", record=record)(image)
    ResNet18(input_tensor=x, stem="small", width=4, classes=2).save(tmp_path / "net.keras")
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.full((20, 30, 3), 99, "uint8")).save(tmp_path / folder / "a.png")
    words = [str(tmp_path / "one" / "a.png"), str(tmp_path / "two" / "a.png")]
    assert main(["explain", str(tmp_path / "net.keras"), *words, "--out", str(tmp_path / "maps")]) == 0
    assert {path.name for path in (tmp_path / "maps").iterdir()} == {"a.png", "a-2.png"}
    assert capsys.readouterr().out.split() == [str(tmp_path / "maps" / name) for name in ("a.png", "a-2.png")]
    assert main(["explain", str(tmp_path / "net.keras"), str(tmp_path / "no.png"), "--out", str(tmp_path / "m")]) == 2
    assert not (tmp_path / "m").exists()
    assert keras_resnet.explain is explain


def test_the_stage_is_by_default_the_last_one_whose_map_shows_a_place():
    small = ResNet18(input_shape=(8, 8, 1), stem="small", width=4, classes=3)
    image = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 1)).astype("float32")
    # 8, 8, 4, 2 and 1 cells along an axis.
    assert np.array_equal(explain.explain(small, image).maps, explain.explain(small, image, stage="stage3").maps)
    large = ResNet18(input_shape=(32, 32, 1), stem="small", width=4, classes=3)
    image = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 1)).astype("float32")
    assert np.array_equal(explain.explain(large, image).maps, explain.explain(large, image, stage="stage5").maps)


def test_score_cam_is_the_papers_algorithm():
    """Wang et al. 2020, algorithm 1, by hand: masks spread over [0, 1] (equation 6), a softmax of what they gain."""
    keras.utils.set_random_seed(0)
    model = ResNet18(
        input_shape=(16, 16, 1), stem="small", width=4, classes=3, classifier_activation=None, zero_init_residual=False
    )
    image = np.random.default_rng(0).uniform(0, 1, (1, 16, 16, 1)).astype("float32")
    found = explain.explain(model, image, method="score-cam", classes=1, stage="stage2").maps[0]
    inner = keras.Model(model.input, model.get_layer("stage2_block2").output)
    maps = np.moveaxis(np.asarray(inner(image, training=False))[0], -1, 0)  # of the size of the image

    def chances(images):
        logits = np.asarray(model(images, training=False), "float64")
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    gains = []
    for one in maps:
        mask = (one - one.min()) / (one.max() - one.min())
        gains.append(chances(image * mask[None, ..., None])[0, 1] - chances(np.zeros_like(image))[0, 1])
    weights = np.exp(gains) / np.exp(gains).sum()
    expected = np.maximum(np.tensordot(weights, maps, 1), 0)
    assert np.abs(found - expected / expected.max()).max() < 1e-5


def two_class_networks():
    """The same probabilities from one logit and from two."""
    keras.utils.set_random_seed(1)
    record = preprocessing.InputRecord(16, None, class_names=("cat", "dog"))
    image = keras.Input((16, 16, 3))
    x = preprocessing.InputNormalization("unit", record=record)(image)
    options = {"stem": "small", "width": 4, "zero_init_residual": False, "classifier_activation": None}
    one = ResNet18(input_tensor=x, classes=1, **options)
    two_logits = keras.layers.Dense(2, name="predictions")(one.get_layer("head_pool").output)
    two = keras.Model(one.input, two_logits)
    kernel, _ = one.get_layer("predictions").get_weights()
    one.get_layer("predictions").set_weights([kernel, np.array([0.3], "float32")])
    halves = np.concatenate([-kernel / 2, kernel / 2], axis=1), np.array([-0.15, 0.15], "float32")
    two.get_layer("predictions").set_weights(list(halves))
    sigmoid = keras.layers.Dense(1, activation="sigmoid", name="predictions")
    probability = keras.Model(one.input, sigmoid(one.get_layer("head_pool").output))
    sigmoid.set_weights(one.get_layer("predictions").get_weights())
    return one, two, probability


@pytest.mark.parametrize("method", harness.tiers(METHODS, [], ["grad-cam"]))
def test_two_classes_have_the_same_maps_with_one_output_and_with_two(method):
    """With one output every picture was titled with the first class, and had the map of the second."""
    one, two, probability = two_class_networks()
    images = np.random.default_rng(0).uniform(0, 255, (6, 16, 16, 3)).astype("float32")
    expected = explain.explain(two, images, method=method)
    logits = np.asarray(one(images, training=False))[:, 0]
    assert np.array_equal(expected.classes, (logits > 0).astype(int))
    for model in (one, probability):
        found = explain.explain(model, images, method=method)
        assert np.array_equal(found.classes, expected.classes) and found.outputs.shape == (6, 1)
        assert np.abs(found.maps - expected.maps).max() < 1e-3
        for index in (0, 1):
            maps = [explain.explain(net, images, method=method, classes=index).maps for net in (model, two)]
            assert np.abs(maps[0] - maps[1]).max() < 1e-3
    with pytest.raises(ValueError, match="classes must be an int from 0 to 1"):
        explain.explain(one, images, method=method, classes=2)


def foreign():
    image = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(keras.layers.Rescaling(1 / 255)(image))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(3, activation="softmax")(x), name="foreign")


def around():
    base = keras_resnet.ResNet18(input_shape=(32, 32, 3), width=4, include_top=False)
    return keras.Sequential([base, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)], name="around")


@pytest.mark.parametrize("make", [foreign, around])
@pytest.mark.parametrize("method", ["grad-cam", "grad-cam++", "score-cam", "integrated-gradients", "occlusion"])
def test_other_networks_are_explained_by_their_last_feature_map(make, method):
    """They ended in a bare IndexError."""
    keras.utils.set_random_seed(0)
    model = make()
    images = np.random.default_rng(0).uniform(0, 255, (2, *model.input_shape[1:])).astype("float32")
    found = explain.explain(model, images, method=method)
    assert found.maps.shape == images.shape[:-1] and np.isfinite(found.maps).all()
    assert np.array_equal(found.classes, model.predict(images, verbose=0).argmax(axis=1))


def test_a_network_without_a_feature_map_says_so():
    inner = foreign()
    with pytest.raises(ValueError, match=r"no feature map .* Pass the network inside it, model.get_layer\('foreign'\)"):
        explain.explain(keras.Sequential([inner, keras.layers.Softmax()], name="outer"), np.zeros((1, 16, 16, 3)))
