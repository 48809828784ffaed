"""The faster TensorFlow forms against Keras's own layers, and against TensorFlow's gradients in float64."""

import itertools
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("the faster forms are TensorFlow's", allow_module_level=True)

import tensorflow as tf

from keras_resnet.blocks import BottleneckBlock, Convolution, IdentityBlock, kernels
from keras_resnet.blocks.convolution import BatchNorm
from keras_resnet.blocks.kernels import convolution, gradients, selection
from tests import harness

ENGINES = ("onednn", "onednn_avx2", "eigen", "gpu")
# Shapes that reach every row of the tables and every corner of a window: (sizes, window, strides, channels, filters).
SHAPES = [
    *(((size, size + 1), window, strides, 3, 5) for size in (1, 2, 5, 8) for window in (1, 3, 7) for strides in (1, 2)),
    *(((size,), window, strides, 4, 3) for size in (1, 2, 9) for window in (1, 3) for strides in (1, 2, 3)),
    *(((size, 2, 3), window, strides, 2, 3) for size in (1, 4, 5) for window in (1, 3) for strides in (1, 2)),
    # TensorFlow's "SAME" is wrong in three dimensions where the last window ends two pixels before the input.
    ((3, 6, 9), 1, 3, 2, 3),
    ((5, 10, 15), 3, 5, 2, 3),
    ((7, 7), 3, 1, 256, 8),
    ((3, 4), 3, 2, 129, 4),
    ((2, 2), 3, 1, 130, 4),
    ((9, 10), 5, 2, 66, 4),
    ((9, 9), 1, 1, 128, 8),
    ((9, 10), 3, 1, 256, 4),
    ((55, 56), 3, 2, 64, 2),
]
# float32 sums of up to a few thousand products of order one.
TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "float16": 6e-3, "bfloat16": 4e-2}  # one thread sums in another order


@pytest.fixture(autouse=True)
def _kernels_on():
    before = kernels.enabled()
    kernels.use(True)
    yield
    kernels.use(before)


def relative_error(found, expected):
    found, expected = (np.asarray(tf.cast(tensor, tf.float64)) for tensor in (found, expected))
    assert found.shape == expected.shape
    return np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30)


def draw(shape, dtype, seed=0):
    return tf.cast(tf.random.stateless_normal(shape, [seed, 1], dtype="float64"), dtype)


def plain(inputs, kernel, strides):
    """The definition: zeros on both sides, then a convolution that pads nothing, differentiated by TensorFlow."""
    rank = len(inputs.shape) - 2
    pads = [[0, 0], *([width // 2] * 2 for width in kernel.shape[:rank]), [0, 0]]
    data_format = {1: "NWC", 2: "NHWC", 3: "NDHWC"}[rank]
    return tf.nn.convolution(tf.pad(inputs, pads), kernel, strides, "VALID", data_format=data_format)


def value_and_gradients(function, *tensors):
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        outputs = function(*tensors)
        weights = draw(outputs.shape, outputs.dtype, seed=9)
        loss = tf.reduce_sum(outputs * weights)
    return [outputs, *tape.gradient(loss, tensors)]


@pytest.mark.parametrize(
    ("shape", "engine", "dtype"), harness.paired(SHAPES, ENGINES, list(TOLERANCE), mark="exhaustive"), ids=str
)
def test_a_convolution_and_its_gradients_are_those_of_the_definition(monkeypatch, shape, engine, dtype):
    sizes, window, strides, channels, filters = shape
    monkeypatch.setattr(selection, "engine", lambda: engine)
    inputs = draw((3, *sizes, channels), dtype)
    kernel = draw((*[window] * len(sizes), channels, filters), dtype, seed=1)
    exact = [tf.cast(tensor, "float64") for tensor in (inputs, kernel)]
    expected = value_and_gradients(lambda x, w: plain(x, w, strides), *exact)
    found = value_and_gradients(lambda x, w: convolution.convolve(x, w, strides, training=True), inputs, kernel)
    for name, ours, theirs in zip(("outputs", "by inputs", "by kernel"), found, expected, strict=True):
        assert relative_error(ours, theirs) < TOLERANCE[dtype], name


def forms():
    shapes = {
        "matmul": [((5, 4), 1, 1), ((3, 2, 4), 1, 1)],
        "scatter": [((5, 4), 1, 2), ((7, 6), 1, 3), ((3, 2, 4), 1, 2)],
        "flip": [((5, 4), 3, 1), ((1, 2), 3, 1), ((6, 5), 7, 1), ((3, 2, 4), 3, 1)],
        "phases": [((5, 4), 3, 2), ((2, 3), 3, 2), ((9, 8), 5, 2), ((9, 8), 7, 2), ((9, 8), 3, 3), ((3, 2, 4), 3, 2)],
        "stock": [((5, 4), 3, 2), ((5, 4), 3, 1), ((5, 5), 3, 2), ((3, 2, 4), 3, 2)],
        "explicit": [((5, 4), 3, 2), ((5, 4), 3, 1), ((5, 5), 7, 2), ((3, 2, 4), 3, 2)],
        "taps": [((5, 4), 3, 2), ((5, 4), 3, 1), ((2, 2), 3, 2), ((3, 2, 4), 3, 2)],
        "forward": [((5, 4), 3, 1), ((1, 2), 3, 1), ((3, 2, 4), 3, 1)],
    }
    for which, table in (("input", gradients.INPUT_GRADIENTS), ("filter", gradients.FILTER_GRADIENTS)):
        for form in table:
            yield from ((which, form, *shape) for shape in shapes[form])
    yield "filter", "matmul", (5, 4), 1, 2


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize(("which", "form", "sizes", "window", "strides"), list(forms()))
def test_every_form_gives_the_gradient_that_tensorflow_derives(which, form, sizes, window, strides, dynamic):
    rank = len(sizes)
    inputs, kernel = draw((3, *sizes, 4), "float64"), draw((*[window] * rank, 4, 5), "float64", seed=1)
    with tf.GradientTape() as tape:
        tape.watch([inputs, kernel])
        outputs = plain(inputs, kernel, strides)
        upstream = draw(outputs.shape, "float64", seed=2)
    expected = tape.gradient(outputs, inputs if which == "input" else kernel, upstream)
    table = gradients.INPUT_GRADIENTS if which == "input" else gradients.FILTER_GRADIENTS

    def gradient(inputs, upstream):
        part, geometry = convolution.live_part(kernel, inputs.shape[1:-1].as_list(), (strides,) * rank)
        found = table[form](inputs, part, upstream, geometry)
        if which == "input" or part.shape == kernel.shape:
            return found
        with tf.GradientTape() as tape:  # taps that were cut off have no gradient
            tape.watch(kernel)
            part, _ = convolution.live_part(kernel, inputs.shape[1:-1].as_list(), (strides,) * rank)
        return tape.gradient(part, kernel, found)

    size = None if dynamic else 3
    space = (None,) * rank if dynamic else sizes
    signature = [
        tf.TensorSpec((size, *space, 4), tf.float64),
        tf.TensorSpec((size, *((None,) * rank if dynamic else upstream.shape[1:-1]), 5), tf.float64),
    ]
    found = tf.function(gradient, input_signature=signature)(inputs, upstream)
    assert relative_error(found, expected) < 1e-12


@pytest.mark.parametrize("engine", ["onednn", "eigen"])
@pytest.mark.parametrize("compiled", harness.tiers(["eager", "graph", "xla"], ["eager", "graph"], ["xla"]))
@pytest.mark.parametrize("block", [IdentityBlock, BottleneckBlock])
def test_a_block_trains_as_with_stock_layers(monkeypatch, engine, compiled, block):
    monkeypatch.setattr(selection, "engine", lambda: engine)
    images = tf.constant(harness.random_images(4, 9, 6, 4))
    layer = block(4, strides=2, version="v1", zero_init_residual=False)
    layer(images)
    harness.fill(layer)
    state = layer.get_weights()

    def run(on):
        kernels.use(on)
        layer.set_weights(state)

        def step(images):
            with tf.GradientTape() as tape:
                tape.watch(images)
                outputs = layer(images, training=True)
                loss = tf.reduce_sum(outputs * draw(outputs.shape, outputs.dtype, seed=3))
            return outputs, tape.gradient(loss, [images, *(weight.value for weight in layer.trainable_weights)])

        function = {"eager": step, "graph": tf.function(step), "xla": tf.function(step, jit_compile=True)}[compiled]
        outputs, derived = function(images)
        return [outputs, *derived, *layer.get_weights()]

    for ours, theirs in zip(run(True), run(False), strict=True):
        # A bias before a batch norm has the gradient zero, up to rounding: compare on the scale of the others.
        np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("engine", ["onednn", "eigen"])
@pytest.mark.parametrize(("window", "strides", "size"), [(1, 1, 4), (1, 2, 5), (3, 1, 4), (3, 2, 5), (3, 1, 1)])
def test_second_derivatives_of_a_convolution_are_right(monkeypatch, engine, window, strides, size):
    monkeypatch.setattr(selection, "engine", lambda: engine)
    inputs, kernel = draw((2, size, size, 3), "float64"), draw((window, window, 3, 2), "float64", seed=1)

    def second(function):
        with tf.GradientTape() as outer:
            outer.watch([inputs, kernel])
            with tf.GradientTape() as inner:
                inner.watch([inputs, kernel])
                loss = tf.reduce_sum(tf.math.sin(function(inputs, kernel)))
            first = inner.gradient(loss, [inputs, kernel])
            penalty = sum(tf.reduce_sum(tf.math.sin(gradient)) for gradient in first)
        return outer.gradient(penalty, [inputs, kernel])

    found = second(lambda x, w: convolution.convolve(x, w, strides, training=True))
    expected = second(lambda x, w: plain(x, w, strides))
    for ours, theirs in zip(found, expected, strict=True):
        assert relative_error(ours, theirs) < 1e-10


NORM_SHAPES = [(6, 5, 3), (4, 3, 5, 6), (3, 2, 3, 4, 5), (8, 4), (1, 1, 1, 3)]


def norms(dtype, **arguments):
    ours = BatchNorm(epsilon=1e-3, momentum=0.9, dtype=dtype, **arguments)
    theirs = keras.layers.BatchNormalization(epsilon=1e-3, momentum=0.9, dtype=dtype, **arguments)
    return ours, theirs


@pytest.mark.parametrize("shape", NORM_SHAPES)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("policy", harness.POLICIES)
@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_a_batch_norm_is_that_of_keras(shape, training, policy, graph):
    dtype = keras.dtype_policies.get(policy).compute_dtype
    images = draw(shape, dtype) * 3 + 2
    results = []
    for layer in norms(policy):
        layer.build(shape)
        harness.fill(layer)

        def step(images, layer=layer):
            variables = [layer.gamma.value, layer.beta.value]
            with tf.GradientTape() as tape:
                tape.watch(images)
                outputs = layer(images, training=training)
                loss = tf.reduce_sum(tf.cast(outputs, "float64") * draw(shape, "float64", seed=3))
            return [outputs, *tape.gradient(loss, [images, *variables])]

        results.append([*(tf.function(step) if graph else step)(images), *layer.get_weights()])
    for name, ours, theirs in zip(("outputs", "x", "gamma", "beta", *"gbmv"), *results, strict=True):
        if np.prod(shape[:-1]) == 1 and training:
            # One pixel is its own mean: what is left are differences of equal numbers of order ten.
            np.testing.assert_allclose(
                *(tf.cast(found, "float64") for found in (ours, theirs)),
                atol=0.05 if dtype in ("float16", "bfloat16") else 1e-5,
            )
            continue
        assert relative_error(ours, theirs) < TOLERANCE[dtype] * (1 if dtype != "float32" else 2), name


def test_a_batch_norm_keeps_its_digits_far_from_zero():
    images = draw((8, 6, 6, 3), "float32") + 1000.0
    layer = BatchNorm(epsilon=1e-3)
    outputs = tf.cast(layer(images, training=True), "float64")
    exact = tf.cast(images, "float64")
    mean, variance = tf.nn.moments(exact, [0, 1, 2])
    expected = (exact - mean) / tf.sqrt(variance + 1e-3)
    # float32 numbers near 1000 are 6e-5 apart.
    np.testing.assert_allclose(outputs, expected, atol=5e-4)


@pytest.mark.parametrize("arguments", [{"scale": False}, {"center": False}, {"axis": 1}])
def test_a_batch_norm_that_the_fused_operation_does_not_know_is_keras_s(arguments):
    images = draw((4, 3, 5, 6), "float32")
    ours, theirs = norms("float32", **arguments)
    np.testing.assert_allclose(ours(images, training=True), theirs(images, training=True), rtol=1e-6, atol=1e-6)


def test_a_frozen_batch_norm_uses_and_keeps_its_averages():
    layer = BatchNorm()
    images = draw((4, 3, 3, 2), "float32")
    layer.build(images.shape)
    harness.fill(layer)
    layer.trainable = False
    before = layer.get_weights()
    np.testing.assert_array_equal(layer(images, training=True), layer(images, training=False))
    for old, new in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_second_derivatives_of_a_batch_norm_are_right():
    images = draw((3, 2, 2, 2), "float32")
    layer = BatchNorm(epsilon=1e-3)
    layer.build(images.shape)
    harness.fill(layer)
    gamma, beta = (tf.cast(weight.value, "float64") for weight in (layer.gamma, layer.beta))

    # Keras's own layer is not a reference: tf.nn.moments stops a gradient that the second derivative needs.
    def spelt_out(images):
        mean = tf.reduce_mean(images, [0, 1, 2])
        variance = tf.reduce_mean((images - mean) ** 2, [0, 1, 2])
        return (images - mean) / tf.sqrt(variance + 1e-3) * gamma + beta

    def second(function, images):
        with tf.GradientTape() as outer:
            outer.watch(images)
            with tf.GradientTape() as inner:
                inner.watch(images)
                loss = tf.reduce_sum(tf.math.sin(function(images)))
            penalty = tf.reduce_sum(tf.math.sin(inner.gradient(loss, images)))
        return outer.gradient(penalty, images)

    ours = second(lambda images: layer(images, training=True), images)
    expected = second(spelt_out, tf.cast(images, "float64"))
    assert relative_error(ours, expected) < 1e-4  # two derivatives, each with float32 sums


SYNCHRONIZED = """
import numpy as np, tensorflow as tf, keras
cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from keras_resnet.blocks.convolution import BatchNorm
from keras_resnet.blocks import kernels
images = np.random.default_rng(0).normal(2, 3, (8, 3, 4, 5)).astype("float32")
weights = np.random.default_rng(1).normal(0, 1, images.shape).astype("float32")

def gradients(layer, x, w):
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x, training=True) * w)
    return tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])

one = BatchNorm(momentum=0.9)
one.build(images.shape)
alone = gradients(one, tf.constant(images), tf.constant(weights))
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    two = BatchNorm(momentum=0.9, synchronized=True)
    two.build(images.shape)
assert strategy.num_replicas_in_sync == 2
halves = lambda array: strategy.experimental_distribute_values_from_function(
    lambda context: tf.constant(np.split(array, 2)[context.replica_id_in_sync_group]))
step = tf.function(lambda x, w: strategy.run(lambda a, b: gradients(two, a, b), (x, w)))
found = step(halves(images), halves(weights))
x = np.concatenate(strategy.experimental_local_results(found[0]))
np.testing.assert_allclose(x, alone[0], rtol=1e-3, atol=1e-5)
for ours, theirs in zip(found[1:], alone[1:]):
    np.testing.assert_allclose(sum(strategy.experimental_local_results(ours)), theirs, rtol=1e-4, atol=1e-5)
for ours, theirs in zip(two.get_weights(), one.get_weights()):
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
print("synchronized")
"""


@pytest.mark.slow
@pytest.mark.parametrize("on", ["1", "0"])
def test_a_synchronized_batch_norm_over_two_replicas_is_that_of_the_whole_batch(on):
    environment = {**os.environ, kernels.VARIABLE: on}
    done = subprocess.run(
        [sys.executable, "-c", SYNCHRONIZED], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip().endswith("synchronized"), done.stderr


@pytest.mark.slow
def test_the_switch_is_the_variable_or_the_function():
    code = (
        "from keras_resnet.blocks import kernels; print(kernels.enabled()); kernels.use(True); print(kernels.enabled())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, kernels.VARIABLE: "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False", "True"]
    with pytest.raises(TypeError, match="on must be True or False, got 'no'"):
        kernels.use("no")


@pytest.mark.slow
def test_a_variable_that_is_no_switch_is_refused():
    code = "from keras_resnet.blocks import kernels; kernels.enabled()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, kernels.VARIABLE: "off"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "KERAS_RESNET_KERNELS='off' is not known" in done.stderr


def test_without_kernels_the_layers_compute_by_keras_s_operations():
    def operations(on):
        kernels.use(on)
        layer = IdentityBlock(4)
        layer.build((2, 8, 8, 4))
        graph = tf.function(lambda x: layer(x, training=True)).get_concrete_function(tf.TensorSpec((2, 8, 8, 4))).graph
        return {operation.type for operation in graph.get_operations()}

    assert "FusedBatchNormV3" in operations(True)
    assert "FusedBatchNormV3" not in operations(False)


def test_a_file_does_not_depend_on_the_kernels_that_wrote_it(tmp_path):
    images = harness.random_images(2, 8, 8, 3)
    outputs = {}
    for on, other in itertools.permutations([True, False]):
        kernels.use(on)
        inputs = keras.Input((8, 8, 3))
        model = keras.Model(inputs, BottleneckBlock(2, strides=2, version="v2", name="block")(inputs))
        harness.fill(model)
        model.save(tmp_path / "model.keras")
        expected = model.predict(images, verbose=0)
        kernels.use(other)
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(loaded.predict(images, verbose=0), expected, rtol=1e-5, atol=1e-5)
        outputs[on] = [variable.path for variable in model.variables], expected
    assert outputs[True][0] == outputs[False][0]
    np.testing.assert_allclose(outputs[True][1], outputs[False][1], rtol=1e-5, atol=1e-5)


def test_a_convolution_of_unknown_sizes_trains():
    layer = Convolution(4, 3, strides=2)
    layer.build((None, None, None, 3))

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3))])
    def gradient(images):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(images, training=True) ** 2)
        return tape.gradient(loss, layer.kernel.value)

    images = draw((2, 7, 6, 3), "float32")
    kernel = tf.convert_to_tensor(layer.kernel)
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        loss = tf.reduce_sum(plain(images, kernel, 2) ** 2)
    assert relative_error(gradient(images), tape.gradient(loss, kernel)) < 1e-5


NARROW = """
import numpy as np, keras, keras_resnet
model = keras_resnet.ResNet18(input_shape=(32, 32, 3), stem="small", width=4, classes=3)
model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
images = np.random.default_rng(0).random((12, 32, 32, 3), dtype="float32")
for size in (1, 3, 12):
    model.fit(images, np.arange(12) % 3, batch_size=size, epochs=8, verbose=0)
print("well")
"""
INFERENCE = """
import numpy as np, tensorflow as tf
from keras_resnet.blocks import Convolution
rng = np.random.default_rng(0)
for dtype, size, channels in (("float32", 1, 8), ("float32", 3, 4), ("bfloat16", 1, 8), ("float32", 17, 15)):
    layer = Convolution(16, 1, strides=2, dtype=dtype)
    images = tf.constant(rng.normal(size=(size, 24, 20, channels)), dtype)
    upstream = tf.constant(rng.normal(size=(size, 12, 10, 16)), dtype)
    layer.build(images.shape)
    for _ in range(20):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(images, training=False) * upstream)
        gradient = tape.gradient(loss, layer.kernel.value)
    picked, above = (np.asarray(tf.cast(part, "float64")) for part in (images[:, ::2, ::2], upstream))
    expected = np.einsum("bhwi,bhwo->io", picked, above)
    difference = np.abs(np.asarray(tf.cast(gradient, "float64"))[0, 0] - expected).max() / np.abs(expected).max()
    assert difference < (1e-5 if dtype == "float32" else 0.04), (dtype, size, channels, difference)
print("well")
"""


@pytest.mark.slow
@pytest.mark.parametrize("script", [NARROW, INFERENCE], ids=["training", "inference"])
def test_narrow_networks_and_odd_batches_do_not_corrupt_the_memory(script):
    # TensorFlow 2.21's gradient of strided 1x1 convolutions with oneDNN does; its own process, that may end.
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "1"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (0, "well\n"), done.stderr[-500:]


@pytest.mark.parametrize("engine", ["onednn", "onednn_avx2"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sixteen_bits_have_a_table_of_their_own_without_what_leaves_onednn(dtype, engine, monkeypatch):
    monkeypatch.setattr(selection, "engine", lambda: engine)
    for window, strides, side, channels in itertools.product((1, 3, 7), (1, 2), (1, 4, 7, 28, 112), (3, 64, 256, 1024)):
        sizes = (window, window), (strides, strides), side, channels
        assert selection.choose_form(selection.FILTER_FORMS, *sizes, dtype) != "explicit"
    sizes = (3, 3), (2, 2), 14, 256
    assert selection.choose_form(selection.FILTER_FORMS, *sizes, "float32") == "explicit"
    assert selection.choose_form(selection.FILTER_FORMS, *sizes, dtype) == "stock"
    monkeypatch.setattr(selection, "engine", lambda: "eigen")
    assert selection.choose_form(selection.FILTER_FORMS, *sizes, dtype) == "explicit"  # no its own rows


@pytest.mark.parametrize(
    ("flags", "engine"), [({"avx2"}, "onednn_avx2"), ({"avx2", "avx512f"}, "onednn"), (set(), "onednn")]
)
def test_the_engine_tells_processors_without_avx512_apart(flags, engine, monkeypatch):
    from tensorflow.python.util import _pywrap_util_port

    monkeypatch.setattr(_pywrap_util_port, "IsMklEnabled", lambda: True)
    monkeypatch.setattr(selection, "instructions", lambda: flags)
    assert selection.engine.__wrapped__() == engine


def test_no_table_takes_the_stock_gradient_by_the_kernel_of_a_strided_window_of_one_pixel():
    # It writes outside its memory (benchmarks/strided_pixels.py).
    for engine in ("onednn", "onednn_avx2", "onednn_16"):
        for side, channels in itertools.product((1, 4, 7, 14, 28, 112), (3, 16, 64, 256, 2048)):
            row = next(row for row in selection.FILTER_FORMS[engine] if row.fits(1, 2, side, channels))
            assert row.form == "matmul"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_block_of_stride_3_has_the_same_numbers_for_volumes_with_kernels_and_without(dtype):
    block = BottleneckBlock(2, strides=3, zero_init_residual=False, dtype=dtype)
    volumes = draw((2, 6, 9, 3, 4), dtype)
    found = block(volumes)
    kernels.use(False)
    assert relative_error(found, block(volumes)) < TOLERANCE[dtype]


def in_groups(inputs, kernel, strides):
    """The definition: each part of the channels with its own filters."""
    groups = inputs.shape[-1] // kernel.shape[-2]
    parts = zip(tf.split(inputs, groups, -1), tf.split(kernel, groups, -1), strict=True)
    return tf.concat([plain(*part, strides) for part in parts], -1)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("engine", ["own", "eigen"])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("sizes", [(9,), (1, 2), (9, 8), (7, 11), (5, 4, 3)])
def test_grouped_convolutions_are_those_of_each_group(monkeypatch, sizes, strides, dtype, engine, training):
    """Keras compiles them with XLA; TensorFlow's own gradients exist under oneDNN, in float32 and bfloat16, alone."""
    if engine == "eigen":  # the form for processors without it, whatever computes here
        monkeypatch.setattr(selection, "engine", lambda: "eigen")
    inputs, kernel = draw((2, *sizes, 12), dtype), draw((*[3] * len(sizes), 3, 8), dtype, seed=1)
    exact = [tf.cast(tensor, tf.float64) for tensor in (inputs, kernel)]
    expected = value_and_gradients(lambda x, k: in_groups(x, k, strides), *exact)
    if training:
        found = value_and_gradients(lambda x, k: kernels.convolve(x, k, strides, training=True), inputs, kernel)
    else:
        found, expected = [kernels.convolve(inputs, kernel, strides, training=False)], expected[:1]
    for tensor, truth in zip(found, expected, strict=True):
        assert relative_error(tensor, truth) < TOLERANCE[dtype]


def test_a_grouped_layer_computes_what_keras_does():
    layer = Convolution(8, 3, strides=2, groups=4, use_bias=True)
    images = harness.random_images(2, 9, 10, 12)
    ours = layer(images)
    theirs = keras.layers.Conv2D(8, 3, strides=2, groups=4, padding="valid")
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    theirs.build(padded.shape)
    theirs.set_weights(layer.get_weights())
    assert relative_error(ours, theirs(padded)) < 1e-5
