import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import ResNet18, ResNet50, models
from keras_resnet.blocks import BottleneckBlock, Convolution, IdentityBlock, Shortcut, Stem
from keras_resnet.preprocessing import InputNormalization
from tests import harness

SMALL = {"width": 4, "stem": "small", "classes": 5, "classifier_activation": None}
INPUTS = {1: (20, 3), 2: (16, 12, 3), 3: (10, 8, 9, 3)}
# Folding rounds each kernel once: single layers differ by 1e-7 of their outputs, and 150 of them stay far below this.
TOLERANCE = 1e-5
# In float64. Keras's batch norm on PyTorch computes float64 to the precision of float32 only (7e-8 for a single one).
EXACT = 1e-11 if keras.backend.backend() != "torch" else TOLERANCE
LOAD = """
import sys
import keras, keras_resnet
import numpy as np
folder = sys.argv[1]
images = np.load(f"{folder}/images.npy")
for name in sys.argv[2:]:
    model = keras.saving.load_model(f"{folder}/{name}.keras", safe_mode=True)
    np.save(f"{folder}/{name}-reloaded.npy", keras.ops.convert_to_numpy(model(images, training=False)))
"""


def filled(variant, shape=INPUTS[2], **arguments):
    """A model as training leaves it: branches small beside their shortcuts, moving averages those of activations.

    A network without these amplifies the rounding of float32 from layer to layer, with norms or without: the outputs
    of a ResNet-152 of random weights are as far from those in float64 as fused outputs are from both, 1e-3.
    """
    model = models.build(variant, input_shape=shape, **{**SMALL, **arguments})
    harness.fill(model)
    for layer in model.layers:
        if isinstance(layer, (IdentityBlock, BottleneckBlock)):
            last = layer.convolutions[-1].kernel if layer.version == "v2" else layer.norms[-1].gamma
            last.assign(0.2 * keras.ops.convert_to_numpy(last).astype("float32"))
    norms = [layer for layer in harness.sublayers(model) if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    model(harness.random_images(8, *shape), training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model


def outputs_of(model, images):
    return [harness.to_numpy(output) for output in keras.tree.flatten(model(images, training=False))]


def assert_same(model, fused, images, tolerance=TOLERANCE):
    """The largest difference of every output is small against its largest value, which is not zero."""
    expected, outputs = outputs_of(model, images), outputs_of(fused, images)
    assert len(outputs) == len(expected)
    for ours, theirs in zip(outputs, expected, strict=True):
        assert ours.shape == theirs.shape
        assert 0 < np.abs(theirs).max() < np.inf
        assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


def norms_of(model):
    """The paths of the norms in a model, "stage2_block1/norm1"."""
    norms = [layer for layer in harness.sublayers(model) if isinstance(layer, keras.layers.BatchNormalization)]
    return {norm.path for norm in norms}


def norms_that_stay(model, version):
    if version != "v2":
        return set()
    return {f"{layer.name}/norm1" for layer in model.layers if layer.name.startswith("stage")} | {"head_norm"}


VERSIONS = ["v1", "v1.5", "v2"]


@pytest.mark.parametrize(("variant", "version"), harness.paired(harness.VARIANTS, VERSIONS, mark="exhaustive"))
def test_a_fused_model_computes_the_same_without_the_norms_behind_convolutions(variant, version):
    model = filled(variant, version=version)
    fused = keras_resnet.fuse(model)
    assert_same(model, fused, harness.random_images(2, *INPUTS[2]))
    assert norms_of(fused) == norms_that_stay(model, version)
    assert len(norms_of(model)) > len(norms_of(fused))


@pytest.mark.skipif("float64" not in harness.POLICIES, reason="float64 is off")
@pytest.mark.parametrize(
    ("variant", "version"), harness.paired(("resnet18", "resnet50", "resnext50_32x4d"), VERSIONS, mark="exhaustive")
)
def test_folding_is_exact_but_for_rounding(variant, version):
    model = filled(variant, version=version, dtype="float64", attention="se")
    assert_same(model, keras_resnet.fuse(model), harness.random_images(2, *INPUTS[2]), EXACT)


ARGUMENTS = [
    {"stem": "conv7"},
    {"stem": "deep", "shortcut": "pool"},
    {"stem": "deep_strided", "shortcut": "pool", "attention": "se_quarter"},
    {"attention": "se"},
    {"drop_path_rate": 0.3, "dropout_rate": 0.4},
    {"kernel_regularizer": keras.regularizers.L2(1e-4), "kernel_initializer": keras.initializers.HeUniform(seed=1)},
]


@pytest.mark.parametrize(("arguments", "version"), harness.paired(ARGUMENTS, VERSIONS, mark="exhaustive"))
def test_every_argument_of_a_model_is_kept(arguments, version):
    shape = (33, 34, 3)
    model = filled("resnet26", shape=shape, version=version, **arguments)
    fused = keras_resnet.fuse(model)
    assert_same(model, fused, harness.random_images(2, *shape))
    assert norms_of(fused) == norms_that_stay(model, version)
    for layer, copy in zip(model.layers, fused.layers, strict=True):
        config = layer.get_config()
        changed = {name: value for name, value in {"fused": True, "trainable": False}.items() if name in config}
        assert copy.get_config() == {**config, **changed}


@pytest.mark.parametrize(("version", "rank"), harness.paired(VERSIONS, [1, 3]))
def test_signals_and_volumes_fuse(rank, version):
    model = filled("resnet18", shape=INPUTS[rank], version=version)
    assert_same(model, keras_resnet.fuse(model), harness.random_images(2, *INPUTS[rank]))


@pytest.mark.parametrize("pooling", [None, "avg", "max"])
def test_a_model_without_a_head_fuses(pooling):
    model = ResNet18(include_top=False, pooling=pooling, input_shape=(None, None, 3), width=4, stem="small")
    harness.fill(model)
    fused = keras_resnet.fuse(model)
    assert fused.input_shape == (None, None, None, 3)
    for side in (8, 13):
        assert_same(model, fused, harness.random_images(1, side, side, 3))


@pytest.mark.parametrize("version", ["v1.5", "v2"])
def test_features_of_a_model_fuse_and_a_fused_model_has_features(version):
    model = filled("resnet18", version=version)
    features = keras_resnet.features(model, ("stage1", "stage3", "stage5"))
    images = harness.random_images(2, *INPUTS[2])
    fused = keras_resnet.fuse(features)
    assert fused.name == "resnet18_features_fused"
    assert_same(features, fused, images)
    assert_same(features, keras_resnet.features(keras_resnet.fuse(model), ("stage1", "stage3", "stage5")), images)


def test_preprocessing_in_front_stays_with_its_state():
    image = keras.Input((16, 16, 3), dtype="uint8", name="raw")
    adapted = keras.layers.Normalization()
    adapted.adapt(harness.random_images(20, 16, 16, 3) * 3 + 7)
    x = keras.ops.multiply(
        adapted(InputNormalization("dataset", mean=[90.0, 100.0, 110.0], std=[9.0, 8.0, 7.0])(image)), 2
    )
    model = ResNet18(input_tensor=x, **SMALL)
    for layer in model.layers:
        if layer is not adapted:
            harness.fill(layer)
    fused = keras_resnet.fuse(model)
    assert (fused.input.name, fused.input.dtype) == ("raw", "uint8")
    assert_same(model, fused, np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype="uint8"))


def test_blocks_in_a_graph_of_the_users_own_fuse():
    image = keras.Input((16, 16, 3), name="image")
    x = Stem(8, kind="deep", name="stem")(image)
    block = IdentityBlock(8, name="shared")
    x = block(block(x))
    beside = Shortcut(16, strides=2, kind="pool", name="beside")(x)
    plain = Shortcut(16, strides=2, norm_epsilon=None, name="plain")(x)
    picked = Shortcut(8, strides=2, kind="subsample", name="picked")(x)
    x = BottleneckBlock(4, strides=2, shortcut="pool", name="deeper")(x)
    x = keras.layers.Concatenate()([keras.layers.Conv2D(4, 1, name="other")(x + beside * plain), picked])
    x = BottleneckBlock(3, strides=2, version="v2", shortcut="subsample", name="last")(x)
    model = keras.Model({"image": image}, {"a": x, "b": keras.layers.BatchNormalization(name="norm")(x)}, name="own")
    harness.fill(model)
    fused = keras_resnet.fuse(model)
    images = {"image": harness.random_images(2, 16, 16, 3)}
    assert list(fused(images)) == ["a", "b"]
    assert_same(model, fused, images)
    assert norms_of(fused) == {"norm", "last/norm1"}
    assert len(fused.get_layer("shared").weights) == 4


def test_models_nested_in_others_fuse():
    inner = ResNet18(include_top=False, pooling="avg", input_shape=(16, 16, 3), width=4, stem="small")
    model = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Rescaling(2.0), inner, keras.layers.Dense(2)])
    harness.fill(model)
    fused = keras_resnet.fuse(model)
    assert fused.get_layer("resnet18").get_layer("stage2_block1").fused
    assert not norms_of(fused)
    assert_same(model, fused, harness.random_images(2, 16, 16, 3))
    with pytest.raises(ValueError, match="is fused already: its layer 'stem'"):
        keras_resnet.fuse(fused)


def test_a_block_with_a_branch_of_its_own_folds_whole():
    class Long(IdentityBlock):
        branch = ((3, 1), (3, 1), (3, 1))

    image = keras.Input((8, 8, 3))
    model = keras.Model(image, Long(4, name="long")(Stem(4, kind="small", name="stem")(image)))
    harness.fill(model)
    fused = keras_resnet.fuse(model)
    assert norms_of(fused) == set() and len(norms_of(model)) >= 4
    assert_same(model, fused, harness.random_images(2, 8, 8, 3))


def test_a_block_that_computes_something_of_its_own_is_refused():
    class Doubled(IdentityBlock):
        def call(self, inputs, training=None):
            return 2 * super().call(inputs, training=training)

    image = keras.Input((8, 8, 3))
    model = keras.Model(image, Doubled(4, name="doubled")(Stem(4, kind="small", name="stem")(image)))
    with pytest.raises(ValueError, match=r"layer 'doubled' is a Doubled, whose call\(\) is not that of Resid"):
        keras_resnet.fuse(model)


@pytest.mark.parametrize(
    ("policy", "tolerance"),
    # 16-bit kernels are rounded after the fold, at 2**-11 and 2**-8 of their values, and so is every output.
    [("mixed_float16", 2e-2), ("mixed_bfloat16", 1e-1), ("float16", 2e-2), ("bfloat16", 1e-1), ("float64", EXACT)],
)
@pytest.mark.parametrize("version", ["v1.5", "v2"])
def test_the_dtype_policy_is_kept(policy, tolerance, version):
    if policy.startswith("mixed") and version != "v2":
        pytest.skip("kernels without norms beside them are kept in 16 bits")
    if policy not in harness.POLICIES and policy == "float64":
        pytest.skip("float64 is off")
    model = filled("resnet18", dtype=policy, version=version, attention="se")
    fused = keras_resnet.fuse(model)
    assert fused.dtype_policy == model.dtype_policy
    for layer, copy in zip(model.layers, fused.layers, strict=True):
        assert copy.dtype_policy == layer.dtype_policy
        children = {child.path: child for child in harness.sublayers(layer)}
        for child in harness.sublayers(copy):
            assert child.dtype_policy == children[child.path].dtype_policy, child.path
    assert {weight.path: weight.dtype for weight in fused.weights}.items() <= {
        **{weight.path.replace("kernel", "bias"): weight.dtype for weight in model.weights},
        **{weight.path: weight.dtype for weight in model.weights},
    }.items()
    assert_same(model, fused, harness.random_images(2, *INPUTS[2]), tolerance)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_kernels_without_norms_are_rounded_once(policy, tmp_path):
    model = filled("resnet18", dtype=policy, attention="se")
    fused, images = keras_resnet.fuse(model), harness.random_images(2, *INPUTS[2])
    assert fused.dtype_policy == model.dtype_policy
    short = policy.removeprefix("mixed_")
    dtypes = {layer.name: {weight.dtype for weight in layer.weights} for layer in fused.layers if layer.weights}
    assert dtypes.pop("predictions") == {"float32"} and set(map(frozenset, dtypes.values())) == {frozenset({short})}

    # The same rounding as in every call: a copy that kept float32 kernels would return the same bits.
    def unrounded(layer):
        changed = {"dtype": policy} if layer.dtype_policy.name == short else {}
        return type(layer).from_config({**layer.get_config(), **changed})

    kept = keras.models.clone_model(fused, clone_function=unrounded)
    for weight, value in zip(kept.weights, fused.weights, strict=True):
        weight.assign(keras.ops.cast(value, weight.dtype))
    np.testing.assert_array_equal(outputs_of(fused, images), outputs_of(kept, images))
    fused.save(tmp_path / "fused.keras")
    np.testing.assert_array_equal(
        outputs_of(keras.saving.load_model(tmp_path / "fused.keras"), images), outputs_of(fused, images)
    )


def test_the_fold_is_computed_in_float64():
    model = filled("resnet18", version="v1")
    block, copy = model.get_layer("stage2_block1"), keras_resnet.fuse(model).get_layer("stage2_block1")
    kernel, bias = (np.asarray(keras.ops.convert_to_numpy(value), "float64") for value in block.conv1.get_weights())
    gamma, beta, mean, variance = (np.asarray(value, "float64") for value in block.norm1.get_weights())
    scale = gamma / np.sqrt(variance + 1.001e-5)
    np.testing.assert_array_equal(harness.to_numpy(copy.conv1.kernel), (kernel * scale).astype("float32"))
    np.testing.assert_array_equal(harness.to_numpy(copy.conv1.bias), (beta + (bias - mean) * scale).astype("float32"))


def test_the_original_stays_and_shares_nothing():
    model = filled("resnet18", drop_path_rate=0.2)
    model.compile(optimizer="sgd", loss="mse")
    weights, config, names = model.get_weights(), model.get_config(), [layer.name for layer in model.layers]
    images = harness.random_images(2, *INPUTS[2])
    expected = outputs_of(model, images)
    fused = keras_resnet.fuse(model)
    assert fused.name == "resnet18_fused"
    assert [layer.name for layer in fused.layers] == names
    assert not {id(variable) for variable in fused.variables} & {id(variable) for variable in model.variables}
    for weight in fused.weights:
        weight.assign(np.zeros(weight.shape))
    assert model.get_config() == config and model.name == "resnet18" and model.compiled and model.trainable_weights
    for ours, theirs in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(outputs_of(model, images), expected)


NETS = {
    "plain": {"variant": "resnet18"},
    "everything": {
        "variant": "resnet50", "version": "v2", "shortcut": "pool", "attention": "se", "drop_path_rate": 0.2,
        "dropout_rate": 0.3, "kernel_regularizer": keras.regularizers.L1L2(1e-4, 1e-4), "name": "my.net",
    },
    "mixed": {"variant": "resnet18", "version": "v1", "dtype": "mixed_bfloat16"},
}  # fmt: skip


@pytest.mark.slow
def test_a_saved_fused_model_gives_bit_equal_outputs_in_a_fresh_process(tmp_path):
    images = harness.random_images(2, *INPUTS[2])
    np.save(tmp_path / "images.npy", images)
    expected = {}
    for name, arguments in NETS.items():
        fused = keras_resnet.fuse(filled(**arguments))
        fused.save(tmp_path / f"{name}.keras")
        expected[name] = keras.ops.convert_to_numpy(fused(images, training=False))
        loaded = keras.saving.load_model(tmp_path / f"{name}.keras")
        assert keras_resnet.model_info(loaded) == keras_resnet.model_info(fused)
        with pytest.raises(ValueError, match="is fused already: its layer 'stem'"):
            keras_resnet.fuse(loaded)
    subprocess.run([sys.executable, "-c", LOAD, str(tmp_path), *NETS], check=True)
    for name, outputs in expected.items():
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}-reloaded.npy"), outputs, err_msg=name)


@pytest.mark.parametrize("version", ["v1.5", "v2"])
def test_fit_on_a_fused_model_says_that_it_is_for_inference_and_changes_nothing(version):
    fused = keras_resnet.fuse(filled("resnet18", version=version))
    images, labels = harness.random_images(4, *INPUTS[2]), np.arange(4)
    before = fused.get_weights()
    assert not fused.trainable_weights and not fused.compiled
    fused.compile(optimizer="sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fused.fit(images, labels, verbose=0)
    assert any("Train the original model and fuse it again" in str(warning.message) for warning in caught)
    for ours, theirs in zip(fused.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("version", ["v1", "v1.5", "v2"])
def test_called_in_training_the_norms_of_a_fused_model_are_those_of_inference(version):
    fused = keras_resnet.fuse(filled("resnet50", version=version))
    images = harness.random_images(2, *INPUTS[2])
    with pytest.warns(UserWarning, match="A fused layer was called with training=True"):
        outputs = harness.to_numpy(fused(images, training=True))
    np.testing.assert_allclose(outputs, outputs_of(fused, images)[0], rtol=1e-4, atol=1e-4)
    for cls in (IdentityBlock, BottleneckBlock):
        block = cls(3, strides=2, version=version, fused=True)  # not frozen
        block(images)
        harness.fill(block)
        expected = harness.to_numpy(block(images))
        with pytest.warns(UserWarning, match="A fused layer was called with training=True"):
            np.testing.assert_allclose(harness.to_numpy(block(images, training=True)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("version", ["v1", "v1.5", "v2"])
def test_the_cost_of_a_fused_model_is_counted_without_its_norms(version):
    model = filled("resnet50", version=version, drop_path_rate=0.1)
    fused = keras_resnet.fuse(model)
    before, after = keras_resnet.model_info(model), keras_resnet.model_info(fused)
    seeds = sum(2 for weight in fused.weights if weight.name == "seed_generator_state")
    assert after.name == "resnet50_fused" and after.trainable_parameters == 0
    assert after.parameters == fused.count_params() - seeds < before.parameters
    assert after.multiply_adds == before.multiply_adds
    assert after.activation_bytes < before.activation_bytes
    convolutions = [layer.name for layer in harness.sublayers(fused) if isinstance(layer, Convolution)]
    assert len([layer for layer in after.layers if layer.name.rsplit("/")[-1] in convolutions]) == len(convolutions)
    assert "total" in str(after)


class Subclass(keras.Model):
    def __init__(self):
        super().__init__(name="subclass")
        self.net = ResNet18(input_shape=(8, 8, 3), **SMALL)
        self.built = True


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: "resnet50", "model must be a Keras model, got str.*Pass for example"),
        (lambda: IdentityBlock(4), "model must be a Keras model, got IdentityBlock"),
        (
            lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="plain"),
            "model 'plain' holds no layer of keras_resnet with norms to fold",
        ),
        (lambda: keras.Sequential([Stem(4), IdentityBlock(4)], name="new"), "model 'new' is not built.*Build it"),
        (Subclass, "model 'subclass' is a Subclass, whose graph is not known.*Fuse the functional model inside"),
        (
            lambda: keras_resnet.fuse(ResNet18(input_shape=(8, 8, 3), **SMALL)),
            "model 'resnet18_fused' is fused already: its layer 'stem' has no norms left.*fuse the original again",
        ),
    ],
    ids=["a name", "a block", "no blocks", "not built", "a subclass", "fused"],
)
def test_what_cannot_be_fused_is_refused(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        keras_resnet.fuse(make())


@pytest.mark.parametrize("version", ["v1", "v1.5", "v2"])
def test_channels_first_fuses(version):
    if keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow has no channels_first on a CPU")
    model = filled("resnet50", shape=(3, 16, 12), version=version, data_format="channels_first", shortcut="pool")
    assert_same(model, keras_resnet.fuse(model), harness.random_images(2, 3, 16, 12))


def test_a_norm_before_a_convolution_is_not_folded_into_it():
    """Beside zero padding no kernel and bias can hold what stands before it, so that "v2" keeps its first norms."""
    model = filled("resnet50", version="v2")
    block = keras_resnet.fuse(model).get_layer("stage3_block1")
    assert [layer.name for layer in block.sublayers()] == ["norm1", "conv1", "conv2", "conv3", "shortcut"]
    assert all(conv.bias is not None for conv in block.convolutions)


def test_resnet50_of_full_width_keeps_the_names_of_its_layers():
    model = ResNet50(input_shape=(32, 32, 3), classes=3)
    fused = keras_resnet.fuse(model)
    assert [layer.name for layer in fused.layers] == [layer.name for layer in model.layers]
    assert isinstance(fused.get_layer("stage3_block2"), BottleneckBlock)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="it is TensorFlow that fuses operations")
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_tensorflow_computes_bias_sum_and_relu_inside_the_folded_convolutions(dtype, tmp_path):
    import tensorflow as tf

    fused = keras_resnet.fuse(ResNet18(input_shape=(32, 32, 3), width=16, classes=5, dtype=dtype))
    call = tf.function(lambda images: fused(images, training=False))
    images = tf.zeros((2, 32, 32, 3))
    counts = harness.operations_of(lambda: call(images), tmp_path)
    convolutions = sum(count for kind, count in counts.items() if kind.endswith("FusedConv2D"))
    assert convolutions == 20
    assert not [
        kind
        for kind in counts
        if kind.strip("_").endswith(("Relu", "AddV2", "BiasAdd", "Conv2D", "BatchNormEx")) and "Fused" not in kind
    ]
