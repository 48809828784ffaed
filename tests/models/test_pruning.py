"""Pruning: what is left computes what the whole network does without the channels that were removed."""

import keras
import numpy as np
import pytest

from keras_resnet import fuse, models
from keras_resnet.models import model_info, prune, pruning
from keras_resnet.weights.adaptation import architecture_of
from tests import harness

SHAPE = (32, 32, 3)
NETWORKS = {
    "identity": ("resnet18", {"width": 16, "stem": "small"}),
    "padded": ("resnet20", {}),
    "bottleneck": ("resnet26", {"width": 8, "stem": "small"}),
    "v1": ("resnet26", {"width": 8, "version": "v1"}),
    "v2": ("resnet26", {"width": 8, "version": "v2"}),
    "v2-keras": ("resnet26", {"width": 8, "version": "v2-keras"}),
    "deep stem, pooled shortcuts": ("resnet26", {"width": 8, "stem": "deep", "shortcut": "pool"}),
    "attention": ("resnet26", {"width": 16, "attention": "se"}),
    "groups": ("resnext50_32x4d", {"width": 16}),
}
FEW = ["identity", "padded", "v2"]


def network(name, seed=0, **arguments):
    """A network whose norms are not those of the start."""
    variant, own = NETWORKS[name]
    keras.utils.set_random_seed(seed)
    model = models.build(variant, **{"input_shape": SHAPE, "classes": 10, **own, **arguments})
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            size = layer.gamma.shape[0]
            values = (rng.uniform(0.5, 1.5, size), *rng.normal(0, 0.3, (2, size)), rng.uniform(0.5, 1.5, size))
            layer.set_weights(values)
    return model


def images(count=2):
    return np.random.default_rng(1).normal(size=(count, *SHAPE)).astype("float32")


def outputs(model, count=2):
    return keras.ops.convert_to_numpy(model(images(count), training=False))


def pruned_groups(monkeypatch, model, share):
    """The pruned network, and the channels that it was made of."""
    seen = []
    own = pruning._rebuilt
    monkeypatch.setattr(pruning, "_rebuilt", lambda *arguments: seen.append(arguments[1]) or own(*arguments))
    return prune(model, share), seen[0]


@pytest.mark.parametrize("name", harness.tiers(list(NETWORKS), ["padded"], FEW))
def test_nothing_pruned_is_nothing_changed(name):
    model = network(name)
    same = prune(model, 1.0)
    assert [w.path for w in same.weights] == [w.path for w in model.weights]
    np.testing.assert_array_equal(outputs(same), outputs(model))


@pytest.mark.parametrize("name", harness.tiers(list(NETWORKS), ["padded"], FEW))
def test_it_computes_as_the_network_whose_removed_channels_are_zero(name, monkeypatch):
    model = network(name)
    small, channels = pruned_groups(monkeypatch, model, 0.5)
    assert model_info(small).multiply_adds <= 0.5 * model_info(model).multiply_adds
    assert small.count_params() < 0.8 * model.count_params()
    for variable in model.weights:
        value = keras.ops.convert_to_numpy(variable).copy()
        for axis, stream in channels.axes.get(variable.path, {}).items():
            removed = np.setdiff1d(np.arange(value.shape[axis]), pruning._places(stream))
            index = [slice(None)] * value.ndim
            index[axis] = removed
            value[tuple(index)] = 1.0 if "variance" in variable.path else 0.0
        variable.assign(value)
    whole = outputs(model)
    np.testing.assert_allclose(outputs(small), whole, atol=1e-5 * np.abs(whole).max())


def test_channels_that_are_switched_off_go_first_and_change_nothing():
    model = network("identity")
    for name in ("stage3_block2", "stage4_block1", "stage5_block2"):
        norm = model.get_layer(name).norm1
        off = np.arange(norm.gamma.shape[0]) % 2 == 0
        for variable in (norm.gamma, norm.beta):
            variable.assign(np.where(off, 0.0, keras.ops.convert_to_numpy(variable)))
    costs = {cost.name: cost.multiply_adds for cost in model_info(model).layers}
    half = sum(costs[f"{name}/conv{n}"] for name in ("stage3_block2", "stage4_block1", "stage5_block2") for n in (1, 2))
    small = prune(model, 1 - 0.5 * half / sum(costs.values()) + 1e-9)
    assert small.get_layer("stage4_block1").widths == (32, 64)
    assert small.get_layer("stage4_block2").widths == (64, 64)
    np.testing.assert_allclose(outputs(small), outputs(model), atol=1e-6)


@pytest.mark.parametrize("share", [0.75, 0.25])
def test_the_share_is_kept_and_the_widths_are_multiples(share):
    model = network("identity")
    small = prune(model, share, multiple=8)
    counted = model_info(small).multiply_adds / model_info(model).multiply_adds
    assert 0.6 * share < counted <= share
    assert all(width % 8 == 0 for name in ("stage3_block1", "stage5_block2") for width in small.get_layer(name).widths)


@pytest.mark.parametrize("name", harness.tiers(list(NETWORKS), ["padded"], FEW))
def test_it_is_saved_built_from_its_weights_and_fused_as_any_other(name, tmp_path):
    small = prune(network(name), 0.6)
    expected = outputs(small)
    small.save(tmp_path / "small.keras")
    np.testing.assert_array_equal(outputs(keras.models.load_model(tmp_path / "small.keras")), expected)
    variant, own = NETWORKS[name]
    own = {key: value for key, value in own.items() if key not in ("width", "version", "stem", "shortcut", "attention")}
    rebuilt = models.build(variant, weights=tmp_path / "small.keras", input_shape=SHAPE, **own)
    np.testing.assert_array_equal(outputs(rebuilt), expected)
    assert architecture_of(rebuilt)["widths"] == architecture_of(small)["widths"] != ""
    np.testing.assert_allclose(outputs(fuse(small)), expected, atol=1e-5)


def test_a_projection_that_equal_widths_would_leave_out_stays():
    model = network("bottleneck")
    channels = pruning.Channels(model)
    ((before, after),) = channels.projections
    scores = [np.ones(group.size) for group in channels.groups]
    for group in after:
        scores[channels.groups.index(group)] = np.zeros(group.size)
    costs = {cost.name: cost.multiply_adds for cost in model_info(model).layers}
    # Eight channels of the stem, and eight of stage 2 by their scores alone.
    pruning._choose(channels, scores, costs, 0.9, multiple=8)
    assert pruning._width(before) == 8 and pruning._width(after) == 16
    assert pruning._rebuilt(model, channels).get_layer("stage2_block1").shortcut is not None


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="gradients by TensorFlow")
def test_taylor_is_the_change_of_the_loss_to_first_order():
    model = network("identity", dtype="float64", classifier_activation=None)
    labels = np.array([1, 3, 4, 5])

    def loss(labels, logits):  # Keras's losses are computed in float32
        return keras.ops.mean(keras.ops.sparse_categorical_crossentropy(labels, logits, from_logits=True))

    channels = pruning.Channels(model)
    scores = pruning._taylor(model, channels.groups, [(images(4), labels)], loss)
    norm = model.get_layer("stage3_block2").norm1
    (index,) = (n for n, group in enumerate(channels.groups) if any(part[1] is norm for part in group.producers))
    assert scores[index].max() > 1e-3
    for channel in np.argsort(scores[index])[[0, 16, -1]]:
        values = []
        for factor in (1 - 1e-4, 1 + 1e-4):
            kept = norm.get_weights()
            scaled = [value.copy() for value in kept]
            for value in scaled[:2]:
                value[channel] *= factor
            norm.set_weights(scaled)
            values.append(float(loss(labels, model(images(4), training=False))))
            norm.set_weights(kept)
        assert scores[index][channel] == pytest.approx(abs(values[1] - values[0]) / 2e-4, rel=1e-3, abs=1e-9)


def test_what_cannot_be_pruned_is_refused():
    model = network("identity")
    with pytest.raises(ValueError, match="macs must be|macs="):
        prune(model, 0.0)
    with pytest.raises(ValueError, match=r"macs=0.0001 was given, and 0\.\d+ of the multiply-adds stay with 4"):
        prune(model, 0.0001)
    with pytest.raises(ValueError, match="norms folded"):
        prune(fuse(model), 0.5)
    with pytest.raises(ValueError, match="Did you mean 'taylor'|by='tailor'"):
        prune(model, 0.5, by="tailor")
    with pytest.raises(ValueError, match="without a loss"):
        prune(model, 0.5, by="taylor")
    with pytest.raises(ValueError, match="0 stems"):
        prune(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), 0.5)


def test_features_that_somebody_else_reads_stay():
    model = network("identity", include_top=False)
    small = prune(model, 0.6)
    assert small.output_shape == model.output_shape and small.count_params() < model.count_params()


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ("16", "needs a number for the stem and 2 for each of 8 blocks"),
        ("16 " + " ".join(["8,16"] * 7), "2 for each of 8 blocks"),
        ("16 " + " ".join(["8,a"] * 8), "2 for each of 8 blocks"),
        ("0 " + " ".join(["8,16"] * 8), "2 for each of 8 blocks"),
    ],
)
def test_widths_that_do_not_fit_are_refused(widths, message):
    with pytest.raises(ValueError, match=message):
        models.build("resnet18", input_shape=SHAPE, widths=widths)
    with pytest.raises(TypeError, match="must be a string"):
        models.build("resnet18", input_shape=SHAPE, widths=[16, 8])
