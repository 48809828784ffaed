"""What a recipe says reaches whatever trains by it: `fit`, `lr_find`, `preview`, HyperModels and own scripts.

All of them read one `Experiment`, which is asserted once; then every field must change what the `Experiment` makes.
"""

import dataclasses
import hashlib
import json
import re

import keras
import keras_tuner
import numpy as np
import pytest
from PIL import Image

from keras_resnet import data, training
from keras_resnet.training import range_test
from keras_resnet.training.recipe import SECTIONS
from keras_resnet.training.schedule import RateOnPlateau
from keras_resnet.tuning import Dimension, HyperResNet, Space

# Short, and with everything on that other fields need to have an effect.
BASE = {"model.width": 2, "train.epochs": 2, "train.batch_size": 64, "data.image_size": 12, "model.stem": "small"}
# Another value of every field that may change a training; what it needs to be read stands beside it.
OTHERS = {
    "model.weights": ({"model.width": 16, "model.stem": "auto"}, "cifar10"),
    "model.stem": ({"data.image_size": 32}, "deep"),
    "model.width": 3,
    "model.version": "v2",
    "model.shortcut": "pool",
    "model.attention": "se",
    "model.drop_path_rate": 0.2,
    "model.dropout_rate": 0.2,
    "model.kernel_initializer": "he_uniform",
    "model.l1": 0.1,
    "model.l2": 0.1,
    "model.zero_init_residual": False,
    "data.image_size": 16,
    "data.crop": "random",
    "data.crop_fraction": ({"data.crop": "center"}, 0.5),
    "data.interpolation": ({"data.crop": "center"}, "bicubic"),
    "data.normalization": "tf",
    "data.validation_fraction": 0.3,
    "data.test_fraction": 0.3,
    "data.split_seed": 1,
    "data.apply_exif": False,
    "data.pixel_range": "0..1",
    "data.balance": "weights",
    "data.progressive_from": 0.5,
    "augment.flip": True,
    "augment.quarter_turns": True,
    "augment.pad_and_crop": 2,
    "augment.rotation": 20.0,
    "augment.zoom": 0.3,
    "augment.translation": 0.3,
    "augment.policy": "trivial_augment",
    "augment.policy_strength": ({"augment.policy": "rand_augment"}, 1.0),
    "augment.policy_ops": ({"augment.policy": "rand_augment"}, 5),
    "augment.policy_std": ({"augment.policy": "rand_augment"}, 0.5),
    "augment.color_jitter": 0.5,
    "augment.gain": 0.5,
    "augment.noise": 20.0,
    "augment.erasing": 1.0,
    "augment.mixup": 0.5,
    "augment.cutmix": 0.5,
    "augment.mix_probability": ({"augment.mixup": 0.5}, 0.2),
    "augment.repeats": 4,
    "augment.augment_on": ({"augment.flip": True}, "device"),
    "loss.name": "sigmoid_cross_entropy",
    "loss.label_smoothing": 0.3,
    "loss.gamma": ({"loss.name": "focal"}, 5.0),
    "loss.decay": ({"loss.name": "ordinal"}, 5.0),
    "loss.logit_adjustment": 1.0,
    "optimizer.name": "adam",
    "optimizer.momentum": 0.5,
    "optimizer.nesterov": False,
    "optimizer.weight_decay": 0.5,
    "optimizer.clip_norm": 0.1,
    "optimizer.accumulation": 2,
    "optimizer.ema_momentum": 0.9,
    "optimizer.sam_radius": 0.5,
    "optimizer.layer_decay": 0.5,
    "optimizer.body_factor": 0.5,
    "optimizer.head_epochs": 1,
    "optimizer.learning_rate": 0.01,
    "schedule.name": "constant",
    "schedule.patience": ({"schedule.name": "plateau"}, 9),
    "schedule.warmup": ({"schedule.name": "cosine"}, 0.5),
    "schedule.final_fraction": ({"schedule.name": "cosine"}, 0.5),
    "schedule.milestones": ({"schedule.name": "step"}, [0.1]),
    "schedule.step_factor": ({"schedule.name": "step"}, 0.5),
    "schedule.first_cycle": ({"schedule.name": "cosine_restarts"}, 0.5),
    "schedule.cycle_growth": ({"schedule.name": "cosine_restarts"}, 2.0),
    "schedule.peak_at": ({"schedule.name": "one_cycle"}, 0.6),
    "schedule.power": ({"schedule.name": "polynomial"}, 2.0),
    "train.epochs": 3,
    "train.batch_size": 32,
    "train.precision": "mixed_bfloat16",
    "train.seed": 7,
    "train.recompute": True,
}
# What no training of a few steps can show, and why.
UNSEEN = {
    "model.widths": "of pruned networks; tests of pruning",
    "model.adapt_weights": "of other channels than those of the weights; tests of adaptation",
    "data.on_bad_image": "which files are left out; tests of the folder source",
    "data.max_skipped_fraction": "how many of them; tests of the folder source",
    "data.max_pixels": "which files are refused",
    "data.decode": "of large JPEG files; tests of scaled decoding",
    "data.in_memory_limit": "how examples are held, not which",
    "data.uncertain": "what a blank in a table means; tests of that source",
    "data.class_order": "the numbers of the classes; tests of tables",
    "data.label_key": "which feature of a TFDS set is the label; tests of that source",
    "data.columns": "what the columns of a table are; tests of that source",
    "data.validation_fold": "which examples validate; tests of folds",
    "data.fold": "which examples are left out of it; tests of folds",
    "data.group_pattern": "which examples stay together; tests of tables",
    "data.progressive_until": "the sizes of later stages; tests of stages",
    "data.rank": "how an array is shaped; tests of arrays",
    "loss.delta": "of a regression",
    "loss.gamma_positive": "of several labels",
    "loss.gamma_negative": "of several labels",
    "loss.margin": "of several labels",
    "loss.scale_targets": "of a regression",
    **dict.fromkeys(
        ("distill.teacher", "distill.kind", "distill.temperature", "distill.alpha"), "tests of distillation"
    ),
    "quantize.int8": "of trained weights; tests of quantization",
    "train.steps_per_execution": "how many steps a call takes; tests of steps",
    "train.jit_compile": "how a step is compiled; tests of steps",
    "train.keep_states": "how many states stay, not what is trained; tests of states",
    "distribution.kind": "who trains together; tests of distribution",
    "distribution.synchronize_norms": "of several processes; tests of distribution",
    "train.on_divergence": "what follows a loss that is not finite; tests of divergence",
    "train.save_every": "when states are written, not what is trained; tests of step resume",
    "train.early_stopping_patience": "after the epochs that are tested here",
    "train.monitor": "which epoch is kept",
}


class Captured(Exception):
    """Ends a training before its first step."""


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Class folders of unlike sizes, half of whose photographs lie on their side."""
    folder = tmp_path_factory.mktemp("setup")
    draw = np.random.default_rng(0)
    for name, count in (("many", 120), ("few", 80)):
        (folder / name).mkdir()
        for index in range(count):
            exif = Image.Exif()
            exif[0x0112] = 3
            pixels = draw.integers(0, 256, (14, 18, 3)).astype("uint8")
            Image.fromarray(pixels).save(folder / name / f"{index}.jpg", quality=95, exif=exif)
    return f"folder:{folder}"


def digest(*arrays):
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes() + repr(np.shape(array)).encode())
    return found.hexdigest()


def batches_of(network, arguments):
    """Two batches as the network is given them, by the pipeline or by its own step."""
    found = []
    for number, (images, labels) in enumerate(arguments["x"].take(2)):
        if getattr(network, "transforms", None) is not None:
            images, labels = network.transforms(number, images, labels)
        found += [np.asarray(images), np.asarray(labels)]
    return digest(*found)


def seen_by(network, arguments):
    """What a call of `fit` depends on, as plain values by part."""
    listed = arguments.get("callbacks", ())
    listed = getattr(listed, "callbacks", listed)
    callbacks = [vars(c).get("decay") for c in listed if isinstance(c, training.WeightAverage)]
    validation = arguments.get("validation_data")
    shown = () if validation is None else [np.asarray(part) for part in next(iter(validation))]
    config = re.sub(r"_[0-9]+|\"seed\": [0-9]+", "", json.dumps(network.get_config(), default=str))
    return {
        "network": config + str([weight.path for weight in network.trainable_weights]),
        "initializers": str({layer.name: layer.get_config() for layer in network.layers}),
        "recompute": str([getattr(layer, "recomputed", None) for layer in network.layers]),
        "optimizer": re.sub(r"_[0-9]+", "", json.dumps(keras.optimizers.serialize(network.optimizer), default=str)),
        "factors": str(
            [getattr(network.optimizer, name, None) for name in ("layer_decay", "body_factor", "head_steps")]
        ),
        "loss": json.dumps(network.loss.get_config(), default=str) + network.loss.name,
        "step": str([kind.__name__ for kind in type(network).__mro__]) + str(getattr(network, "radius", None)),
        "batches": batches_of(network, arguments),
        "validation": digest(*shown),
        "weights": str(arguments.get("class_weight")),
        "epochs": str((arguments["epochs"], arguments["initial_epoch"], arguments["steps_per_epoch"])),
        "average": str(callbacks),
        "rate": str([c.patience for c in listed if isinstance(c, RateOnPlateau)]),
    }


@pytest.fixture
def captured(monkeypatch):
    found = []

    def fit(network, **arguments):
        found.append(seen_by(network, arguments))
        raise Captured

    monkeypatch.setattr(keras.Model, "fit", fit)

    def call(train):
        with pytest.raises(Captured):
            train()
        return found.pop()

    return call


def by_setup(recipe, spec, out):
    # The weights in the box are those of a ResNet-18.
    model = "resnet18" if recipe.model.weights else "resnet10"
    experiment = training.resolve(recipe, model=model, data=spec)
    keras.utils.set_random_seed(experiment.recipe.train.seed)
    network = experiment.build_model()
    network.compile(**experiment.compile_args())
    average = experiment.recipe.optimizer.weight_average()
    experiment.fit(network, callbacks=[] if average is None else [average], average=average)


def by_fit(recipe, spec, out):
    training.fit(recipe, model="resnet10", data=spec, out=out / "run", verbose=0)


def by_lr_find(recipe, spec, out):
    training.lr_find(recipe, model="resnet10", data=spec, out=out / "lr", steps=10)


def by_hypermodel(recipe, spec, out):
    space = Space([Dimension("optimizer.learning_rate", low=0.001, high=1.0, scale="log")])
    hypermodel, hp = HyperResNet(space, recipe, spec, model="resnet10"), keras_tuner.HyperParameters()
    hypermodel.fit(hp, hypermodel.build(hp), verbose=0)


def test_every_field_of_a_recipe_is_in_one_of_the_tables():
    fields = {f"{title}.{field.name}" for title, section in SECTIONS.items() for field in dataclasses.fields(section)}
    assert fields == {*OTHERS, *UNSEEN} and not set(OTHERS) & set(UNSEEN)


# Many fields of every section at once, none at its default.
RICH = {
    **BASE,
    **{"model.version": "v2", "model.dropout_rate": 0.2, "model.drop_path_rate": 0.1, "model.l2": 0.1},
    **{"data.crop": "random", "data.validation_fraction": 0.3, "data.split_seed": 1, "data.progressive_from": 0.5},
    **{"augment.flip": True, "augment.policy": "rand_augment", "augment.erasing": 1.0, "augment.mixup": 0.5},
    **{"augment.repeats": 4, "loss.name": "focal", "loss.gamma": 5.0, "optimizer.clip_norm": 0.1},
    **{"optimizer.accumulation": 2, "optimizer.ema_momentum": 0.9, "optimizer.sam_radius": 0.5},
    **{"optimizer.layer_decay": 0.5, "schedule.name": "step", "schedule.milestones": [0.1], "train.seed": 7},
}
# A range test has its own rate, one epoch, and neither validation nor an average.
OWN = {by_fit: set(), by_hypermodel: {"initializers"}, by_lr_find: {"validation", "average", "epochs", "optimizer"}}


@pytest.mark.parametrize("augment_on", [pytest.param("host", marks=pytest.mark.slow), "device"])
def test_whoever_trains_takes_everything_from_one_setup(photographs, captured, tmp_path, augment_on):
    recipe = training.Recipe.load("quick").replace({**RICH, "augment.augment_on": augment_on})
    expected = captured(lambda: by_setup(recipe, photographs, tmp_path))
    for train, own in OWN.items():
        found = captured(lambda train=train: train(recipe, photographs, tmp_path))
        assert {part for part in expected if found[part] != expected[part]} <= own, train.__name__


def test_a_preview_shows_the_first_batch_of_the_setup(photographs, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(range_test, "draw_examples", lambda plain, images, *rest: shown.append(images))
    monkeypatch.setattr(range_test.files, "write_atomically", lambda path, write: write(path))
    recipe = training.Recipe.load("quick").replace(RICH)
    training.preview(recipe, data=photographs, out=tmp_path / "grid.png")
    experiment = training.resolve(recipe, data=photographs)
    images, *_ = next(iter(experiment.training_batches(size=experiment.stages[0][1])))
    np.testing.assert_array_equal(shown[0], images[: len(shown[0])])


# What the recipes of the table give without the field: many are compared with the same one.
SEEN = {}


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_a_field_changes_what_is_trained(name, photographs, captured, tmp_path):
    needed, value = OTHERS[name] if isinstance(OTHERS[name], tuple) else ({}, OTHERS[name])
    before = training.Recipe.load("quick").replace({**BASE, **needed})
    for recipe in (before, before.replace({name: value})):
        if recipe.to_toml() not in SEEN:
            SEEN[recipe.to_toml()] = captured(lambda recipe=recipe: by_setup(recipe, photographs, tmp_path))
    assert SEEN[before.to_toml()] != SEEN[before.replace({name: value}).to_toml()], "the value changes nothing"


@pytest.mark.slow
def test_a_script_of_ones_own_trains_as_fit_does(tmp_path):
    words = {"model.width": 4, "train.epochs": 2, "train.batch_size": 64, "data.progressive_from": 0.5}
    run = training.fit("quick", model="resnet10", out=tmp_path / "run", overrides=words, verbose=0)
    experiment = training.resolve("quick", model="resnet10", overrides=words)
    keras.utils.set_random_seed(experiment.recipe.train.seed)
    network = experiment.build_model()
    network.compile(**experiment.compile_args())
    history = experiment.fit(network, verbose=0)
    assert history["loss"] == pytest.approx(run.history["loss"], rel=1e-6)
    assert history["val_accuracy"] == pytest.approx(run.history["val_accuracy"], rel=1e-6)


def test_loaded_data_serve_several_setups():
    digits = data.load("digits", validation_fraction=0.3)
    experiment = training.Experiment.of(training.Recipe.load("quick"), digits)
    assert experiment.recipe.data.validation_fraction == 0.3 and experiment.dataset is digits
    deeper = experiment.for_recipe(experiment.recipe.replace({"train.batch_size": 32}), "resnet34")
    assert deeper.steps_per_epoch == digits.sizes["train"] // 32 and deeper.model == "resnet34"
    with pytest.raises(ValueError, match="more than the"):
        experiment.for_recipe(experiment.recipe.replace({"train.batch_size": 5000}))
