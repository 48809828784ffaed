"""Walks the table of variants: counts, stage shapes, names of weights, agreement between backends."""

import dataclasses
import inspect
import json
import pathlib
import re

import numpy as np
import pytest

import keras_resnet
from keras_resnet import models
from keras_resnet.models.variants import VARIANTS
from tests import harness

GOLDEN = pathlib.Path(__file__).parent / "golden"

# torchvision's counts of trainable parameters, 1000 classes and 3 channels.
TORCHVISION = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
}
# And of its other networks; those of timm 1.0.31 where torchvision has none.
WIDER = {
    "wide_resnet50_2": 68_883_240,
    "wide_resnet101_2": 126_886_696,
    "resnext50_32x4d": 25_028_904,
    "resnext101_32x8d": 88_791_336,
    "resnext101_64x4d": 83_455_272,
}
TIMM = {
    "resnet10": 5_418_792,  # timm.models.resnet.ResNet(BasicBlock, (1, 1, 1, 1))
    "resnet26": 15_995_176,
    "ecaresnet50d": 25_576_350,
    "ecaresnet101d": 44_568_563,
    "resnet_rs50": 35_691_912,
    "resnet_rs101": 63_618_696,
    "resnet_rs152": 86_621_576,
    "resnet_rs200": 93_209_992,
    "resnet_rs270": 129_861_448,
    "resnet_rs350": 163_956_168,
    "resnet_rs420": 191_891_656,
}
# He et al. 2015, table 6, in millions; ResNet-8 is counted by hand below.
CIFAR_MILLIONS = {"resnet20": 0.27, "resnet32": 0.46, "resnet44": 0.66, "resnet56": 0.85, "resnet110": 1.7}
CIFAR = ("resnet8", "resnet14", *CIFAR_MILLIONS)
# Whose graphs take longest to build.
DEEP = (
    *("resnet_rs101", "resnet_rs152", "resnet_rs200", "resnet_rs270", "resnet_rs350", "resnet_rs420"),
    *("wide_resnet101_2", "resnext101_32x8d", "resnext101_64x4d", "ecaresnet101d"),
)
# As torchvision publishes them, in units of 1e9, and as timm does for resnet26.
WIDER_MULTIPLY_ADDS = {
    **{"wide_resnet50_2": 11.40, "wide_resnet101_2": 22.75, "resnext50_32x4d": 4.23, "resnext101_32x8d": 16.41},
    **{"resnext101_64x4d": 15.46, "resnet26": 2.34},
}
GOLDEN_WIDTHS = {**dict.fromkeys(TORCHVISION, 8), "wide_resnet50_2": 8, "resnext50_32x4d": 16, "resnet_rs50": 8}
# keras.applications' counts of all parameters.
KERAS_V1 = {"resnet50": 25_636_712, "resnet101": 44_707_176, "resnet152": 60_419_944}
KERAS_V2 = {"resnet50": 25_613_800, "resnet101": 44_675_560, "resnet152": 60_380_648}
# Multiply-adds at 224 px in units of 1e9, as published to two digits behind the point.
MULTIPLY_ADDS = {"resnet18": 1.81, "resnet34": 3.66, "resnet50": 4.09, "resnet101": 7.80, "resnet152": 11.51}


def test_the_table_holds_the_depths_of_the_paper():
    layers = {
        name: sum(row.depths) * len(row.block.branch) + 2  # the stem's convolution and the classifier
        for name, row in VARIANTS.items()
    }
    # Two of ResNet-RS are called by round numbers.
    rounded = {"resnet_rs270": 272, "resnet_rs420": 419}
    assert layers == {name: int(re.search(r"[0-9]+", name)[0]) for name in keras_resnet.list_models()} | rounded


def test_every_row_has_an_outside_count():
    assert set(VARIANTS) == {*TORCHVISION, *WIDER, *TIMM, *CIFAR}


def counted_by_hand(blocks, projections):
    """Section 4.2: 3x3 convolutions of 16, 32 and 64 channels, two in a block, norms of two numbers per channel."""
    count, before = 9 * 3 * 16 + 2 * 16, 16
    for channels in (16, 32, 64):
        for _ in range(blocks):
            count += 9 * channels * (before + channels) + 4 * channels
            if projections and before != channels:
                count += before * channels + 2 * channels
            before = channels
    return count + 64 * 10 + 10


@pytest.mark.parametrize("name", harness.tiers(CIFAR, ["resnet8", "resnet20"], CIFAR))
def test_the_networks_of_the_paper_for_cifar_have_its_parameters(name):
    row = VARIANTS[name]
    info = keras_resnet.model_info(name)
    assert info.trainable_parameters == row.parameters == counted_by_hand(row.depths[0], name == "resnet8")
    assert info.multiply_adds == row.multiply_adds
    if name in CIFAR_MILLIONS:
        assert f"{row.parameters / 1e6:.2g}" == f"{CIFAR_MILLIONS[name]:.2g}"
    model = getattr(keras_resnet, row.constructor)(input_shape=(32, 32, 3))
    assert model.output_shape == (None, 10) and model.get_layer("stage4_block1").output.shape[1:] == (8, 8, 64)


def test_a_padded_shortcut_has_the_input_at_every_second_pixel_and_zeros():
    images = harness.random_images(2, 5, 6, 4)
    layer = keras_resnet.blocks.Shortcut(7, strides=2, kind="pad")
    outputs = harness.to_numpy(layer(images))
    assert not layer.weights
    np.testing.assert_array_equal(outputs[..., :4], images[:, ::2, ::2])
    assert outputs.shape == (2, 3, 3, 7) and not outputs[..., 4:].any()
    with pytest.raises(ValueError, match="'pad' can only add some"):
        keras_resnet.blocks.Shortcut(3, kind="pad")(images)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in DEEP else []) for name in (*WIDER, *TIMM)]
)
def test_other_rows_have_the_parameters_of_torchvision_and_timm(name):
    info = keras_resnet.model_info(name)
    assert info.trainable_parameters == {**WIDER, **TIMM}[name] == VARIANTS[name].parameters
    assert info.multiply_adds == VARIANTS[name].multiply_adds
    if name in WIDER_MULTIPLY_ADDS:
        assert round(info.multiply_adds / 1e9, 2) == WIDER_MULTIPLY_ADDS[name]


def test_an_argument_comes_before_the_default_of_the_row():
    plain = keras_resnet.ResNetRS50(
        stem="conv7", shortcut="conv", attention=None, input_shape=(32, 32, 3), kernel_initializer="zeros"
    )
    assert plain.count_params() == keras_resnet.model_info("resnet50", input_shape=(32, 32, 3)).parameters
    assert inspect.signature(keras_resnet.ResNetRS50).parameters["attention"].default == "se_quarter"
    assert inspect.signature(keras_resnet.ResNeXt50_32x4d).parameters["groups"].default == 32


def test_an_unknown_kind_of_block_is_refused():
    with pytest.raises(ValueError, match="kind='botleneck' is not known. Did you mean 'bottleneck'"):
        dataclasses.replace(VARIANTS["resnet50"], kind="botleneck").block  # noqa: B018


def test_groups_are_for_bottlenecks_and_have_a_channel_each():
    with pytest.raises(ValueError, match="groups=2 and width_per_group=64 were given for resnet18"):
        keras_resnet.ResNet18(groups=2)
    narrow = keras_resnet.ResNeXt50_32x4d(width=4, input_shape=(32, 32, 3)).get_layer("stage2_block1")
    assert (narrow.inner_filters, narrow.groups) == (32, 32)


@pytest.mark.parametrize("name", TORCHVISION)
def test_v15_has_the_parameters_of_torchvision_and_the_published_multiply_adds(name):
    info = keras_resnet.model_info(name)
    assert info.trainable_parameters == TORCHVISION[name] == VARIANTS[name].parameters
    assert info.multiply_adds == VARIANTS[name].multiply_adds
    assert round(info.multiply_adds / 1e9, 2) == MULTIPLY_ADDS[name]


@pytest.mark.parametrize("name", KERAS_V1)
def test_v1_and_v2_have_the_parameters_of_keras_applications(name):
    small = {"input_shape": (32, 32, 3)}
    assert keras_resnet.model_info(name, version="v1", **small).parameters == KERAS_V1[name]
    assert keras_resnet.model_info(name, version="v2", **small).parameters == KERAS_V2[name]


def test_v1_of_resnet50_has_the_multiply_adds_of_the_paper():
    assert round(keras_resnet.model_info("resnet50", version="v1").multiply_adds / 1e9, 2) == 3.86


@pytest.mark.parametrize(("name", "version"), harness.paired(list(TORCHVISION), ["v1", "v1.5", "v2"]))
def test_stages_have_the_shapes_of_the_paper(name, version):
    info = keras_resnet.model_info(name, version=version, width=16, input_shape=(64, 64, 3))
    expansion = VARIANTS[name].block.branch[-1][1]
    shapes = {stage.name: stage.output_shape for stage in info.stages}
    assert shapes == {
        "stem": (16, 16, 16),
        "stage2": (16, 16, 16 * expansion),
        "stage3": (8, 8, 32 * expansion),
        "stage4": (4, 4, 64 * expansion),
        "stage5": (2, 2, 128 * expansion),
        "head": (1000,),
    }


@pytest.mark.parametrize("name", GOLDEN_WIDTHS)
def test_weights_keep_their_names_and_shapes(name):
    model = models.build(name, width=GOLDEN_WIDTHS[name], kernel_initializer="zeros")
    lines = [f"{weight.path} {'x'.join(map(str, weight.shape))}" for weight in model.weights]
    assert lines == (GOLDEN / f"{name}.txt").read_text().splitlines()


SMALL_NETS = {
    "resnet18-v1.5": ("resnet18", {}),
    "resnet18-v2-se": ("resnet18", {"version": "v2", "attention": "se"}),
    "resnet34-v1": ("resnet34", {"version": "v1"}),
    "resnet50-v1": ("resnet50", {"version": "v1", "input_shape": (45, 33, 2)}),
    "resnet50-v1.5-d": ("resnet50", {"stem": "deep", "shortcut": "pool", "input_shape": (40, 52, 3)}),
    "resnet50-v2": ("resnet50", {"version": "v2"}),
    "resnet18-signal": ("resnet18", {"input_shape": (75, 2)}),
    "resnext50": ("resnext50_32x4d", {"width": 16}),
    "wide_resnet50_2": ("wide_resnet50_2", {}),
    "resnext50-signal": ("resnext50_32x4d", {"width": 16, "input_shape": (75, 2)}),
    "resnet50-volume": ("resnet50", {"input_shape": (17, 16, 10, 1), "stem": "small"}),
}


def logits_of(net: str) -> np.ndarray:
    name, arguments = SMALL_NETS[net]
    arguments = {"input_shape": (48, 48, 3), "width": 8, "classes": 5, "classifier_activation": None, **arguments}
    model = models.build(name, **arguments)
    harness.fill(model)
    return harness.to_numpy(model(harness.random_images(2, *arguments["input_shape"]), training=False))


@pytest.mark.parametrize("net", SMALL_NETS)
def test_every_backend_computes_the_recorded_logits(net):
    expected = np.array(json.loads((GOLDEN / "logits.json").read_text())[net])
    logits = logits_of(net)
    assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()


def test_the_parts_of_resnet_rs_make_timms_resnetrs50():
    """timm 1.0.31's resnetrs50 has 35,691,912 parameters; its squeeze in the first stage is 64 wide."""
    model = models.build(
        "resnet50", stem="deep_strided", shortcut="pool", attention="se_quarter", kernel_initializer="zeros"
    )
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == 35_691_912
    assert model.get_layer("stage2_block1").attention.reduce.units == 64
    assert model.get_layer("stem").pool is None and model.get_layer("stem").output.shape[1:] == (56, 56, 64)


def test_names_are_listed_by_pattern_and_by_published_weights():
    assert keras_resnet.list_models("*rs5?") == ["resnet_rs50"]
    assert keras_resnet.list_models("resnet1*") == [
        "resnet14",
        "resnet110",
        "resnet10",
        "resnet18",
        "resnet101",
        "resnet152",
    ]
    published = keras_resnet.list_models(weights=True)
    assert "resnet18" in published and "resnet110" not in published
    assert set(published) == {row.model for row in keras_resnet.list_weights()}
