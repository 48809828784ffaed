import keras
import numpy as np
import pytest

from keras_resnet.blocks import Convolution
from keras_resnet.blocks.convolution import reseed
from tests import harness

CONVOLUTIONS = {1: keras.layers.Conv1D, 2: keras.layers.Conv2D, 3: keras.layers.Conv3D}


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("kernel_size", [1, 3, 7])
@pytest.mark.parametrize("strides", [1, 2, 3])
@pytest.mark.parametrize("size", [8, 9])
def test_it_is_a_valid_convolution_of_the_symmetrically_padded_input(rank, kernel_size, strides, size):
    inputs = harness.random_images(2, *(size + axis for axis in range(rank)), 3)
    ours = Convolution(5, kernel_size, strides=strides, use_bias=True)
    theirs = CONVOLUTIONS[rank](5, kernel_size, strides=strides, padding="valid")
    pad = kernel_size // 2
    padded = np.pad(inputs, [(0, 0), *[(pad, pad)] * rank, (0, 0)])
    outputs, _ = ours(inputs), theirs(padded)
    harness.fill(ours)
    theirs.set_weights(ours.get_weights())
    outputs, expected = harness.to_numpy(ours(inputs)), harness.to_numpy(theirs(padded))
    assert outputs.shape == expected.shape
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("strides", [1, 2])
def test_it_gives_the_numbers_of_pytorch(size, strides):
    torch = pytest.importorskip("torch")
    inputs = harness.random_images(2, size, size, 3)
    ours = Convolution(5, 3, strides=strides)
    ours(inputs)
    kernel = harness.to_numpy(ours.kernel)
    expected = torch.nn.functional.conv2d(
        torch.tensor(inputs.transpose(0, 3, 1, 2).copy()),
        torch.tensor(kernel.transpose(3, 2, 0, 1).copy()),
        stride=strides,
        padding=1,
    )
    outputs = harness.to_numpy(ours(inputs)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(outputs, expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("filters", 0, "filters must be an int >= 1, got 0"),
        ("filters", 2.5, "filters must be an int >= 1, got 2.5 of type float"),
        ("kernel_size", 4, "kernel_size must be odd, got 4.*Use 3 or 5"),
        ("strides", -1, "strides must be an int >= 1, got -1"),
        ("use_bias", "yes", "use_bias must be True or False, got 'yes'"),
        ("data_format", "NCHW", "data_format='NCHW' is not known.*channels_last"),
    ],
)
def test_a_bad_argument_is_named(argument, value, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Convolution(**{"filters": 4, "kernel_size": 3, argument: value})


def test_kernels_of_equal_shape_get_values_of_their_own():
    initializer = keras.initializers.HeNormal()
    first, second = (reseed(initializer, index)((3, 3)) for index in ("conv1", "conv2"))
    assert np.abs(harness.to_numpy(first) - harness.to_numpy(second)).max() > 0.01


def test_a_seeded_initialiser_gives_kernels_that_differ_and_repeat():
    draws = [
        harness.to_numpy(reseed(keras.initializers.HeNormal(seed=7), index)((3, 3)))
        for index in ("conv1", "conv2", "conv1")
    ]
    np.testing.assert_array_equal(draws[0], draws[2])
    assert np.abs(draws[0] - draws[1]).max() > 0.01
