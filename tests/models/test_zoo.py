"""Walks the table of variants: counts, stage shapes, names of weights, agreement between backends."""

import json
import pathlib

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
    assert layers == {name: int(name.removeprefix("resnet")) for name in keras_resnet.list_models()}


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


@pytest.mark.parametrize("name", TORCHVISION)
@pytest.mark.parametrize("version", ["v1", "v1.5", "v2"])
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


@pytest.mark.parametrize("name", TORCHVISION)
def test_weights_keep_their_names_and_shapes(name):
    model = models.build(name, width=8, kernel_initializer="zeros")
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
