"""The recipes of the package: each builds, compiles, steps on data of its shape, and says where it comes from."""

import tomllib

import keras
import numpy as np
import pytest

from keras_resnet import training
from keras_resnet.training.recipe import SECTIONS, packaged

NAMES = training.list_recipes()
SHAPES = {"signals": (64, 2), "volumes": (16, 16, 16, 1), "regression": (16, 16, 3)}


def arrays(tmp_path, name):
    """Random examples of the shape that a recipe is for."""
    rng = np.random.default_rng(0)
    recipe = training.Recipe.load(name)
    size = recipe.data.image_size
    shape = SHAPES.get(name, (32, 32, 3) if size == "auto" else (size + 16, size + 16, 3))
    x = rng.integers(0, 256, (48, *shape), "uint8")
    if recipe.loss.choice.task == "regression":
        y = x.mean(axis=tuple(range(1, x.ndim))).astype("float32") / 255
    else:
        y = (np.arange(48) % 4).astype("int32")
    # Classes of CIFAR-10, which the teachers of the packaged recipes know.
    names = {} if y.dtype == "float32" else {"class_names": ["bird", "cat", "deer", "dog"]}
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y, **names)
    return f"npz:{tmp_path / 'd.npz'}"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:finetune. this recipe is for pretrained weights")
@pytest.mark.parametrize("name", sorted({*NAMES} - {"quantize"}))  # of trained weights; test_quantize.py
def test_a_recipe_builds_compiles_and_steps_on_data_of_its_shape(name, tmp_path):
    small = {"model.width": 4, "train.epochs": 2, "train.batch_size": 12}
    run = training.fit(
        name, model="resnet10", data=arrays(tmp_path, name), out=tmp_path / "run", overrides=small, verbose=0, score=()
    )
    assert len(run.history["loss"]) == 2 and np.isfinite(run.history["loss"]).all()
    assert run.recipe.name == name


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_where_it_comes_from_and_what_to_expect(name):
    tables = tomllib.loads(packaged()[name].read_text(encoding="utf-8"))
    about = tables["about"]
    assert set(about) - {"notice"} == {
        "source",
        "command",
        "hardware",
        "minutes",
        "expected_accuracy",
        "last_reproduced",
    }
    assert all(about.values()) and f"--recipe {name}" in about["command"]
    assert tables["name"] == name and set(tables) <= {"name", "extends", "about", "defaults", *SECTIONS}


# Of the papers, by hand: what makes a recipe that recipe.
PAPERS = {
    "cifar-he2015": ("train.batch_size", 128, "optimizer.learning_rate", 0.1, "augment.pad_and_crop", 4),
    "imagenet-he2015": ("train.batch_size", 256, "model.version", "v1", "optimizer.nesterov", False),
    "imagenet-goyal2017": ("train.epochs", 90, "optimizer.nesterov", True, "model.zero_init_residual", True),
    "imagenet-tv2": ("train.epochs", 600, "augment.repeats", 4, "augment.policy", "trivial_augment"),
    "imagenet-rsb-a1": ("train.epochs", 600, "optimizer.learning_rate", 0.005, "optimizer.weight_decay", 0.01),
    "imagenet-rsb-a2": ("train.epochs", 300, "augment.mixup", 0.1, "optimizer.weight_decay", 0.02),
    "imagenet-rsb-a3": ("train.epochs", 100, "optimizer.learning_rate", 0.008, "data.image_size", 160),
    "resnet-rs": ("train.epochs", 350, "model.attention", "se_quarter", "model.dropout_rate", 0.25),
}


@pytest.mark.parametrize("name", PAPERS)
def test_a_recipe_has_the_figures_of_its_paper(name):
    tables, facts = training.Recipe.load(name).to_dict(), PAPERS[name]
    for key, value in zip(facts[::2], facts[1::2], strict=True):
        section, _, field = key.partition(".")
        assert tables[section][field] == value


def test_goyals_schedule_warms_up_and_falls_at_30_60_and_80_of_90_epochs():
    recipe = training.Recipe.load("imagenet-goyal2017")
    rate = recipe.schedule.build(0.1, 9000)
    rate = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(rate))
    assert float(rate(0)) == pytest.approx(0.1 / 500, rel=0.01)
    assert float(rate(249)) == pytest.approx(0.05, rel=0.01)
    places = {600: 0.1, 2990: 0.1, 3010: 0.01, 5990: 0.01, 6010: 0.001, 7990: 0.001, 8010: 0.0001}
    for step, value in places.items():
        assert float(rate(step)) == pytest.approx(value, rel=1e-4)
