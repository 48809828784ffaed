"""What a recipe says reaches whatever trains by it: `fit`, `lr_find`, `preview`, HyperModels and own scripts."""

import dataclasses
import hashlib
import json
import os
import re

import keras
import keras_tuner
import numpy as np
import pytest
from PIL import Image

from keras_resnet import data, training
from keras_resnet.training import contact_sheet
from keras_resnet.training.schedule import RateOnPlateau
from keras_resnet.training.sections import SECTIONS
from keras_resnet.tuning import Dimension, HyperResNet, Space

# Short, and with everything on that other fields need to have an effect.
BASE = {"model.width": 2, "train.epochs": 2, "train.batch_size": 64, "data.image_size": 12, "model.stem": "small"}
# Another value of every field that may change a training; what it needs to be read stands beside it.
OTHERS = {
    "model.weights": ({"model.width": 64, "model.stem": "auto"}, "cifar10"),
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
    "data.progressive_until": ({"data.progressive_from": 0.5}, 1.0),
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
# Fields of a section go the same way: some of each are tried, all of them with KERAS_RESNET_TEST_PART=all.
WAYS = {
    **{"model": ("weights", "stem", "dropout_rate", "l2"), "loss": ("name", "gamma")},
    "augment": ("flip", "pad_and_crop", "policy_strength", "color_jitter", "erasing", "mixup", "repeats", "augment_on"),
    "optimizer": ("name", "accumulation", "ema_momentum", "sam_radius", "head_epochs"),
    "schedule": ("name", "patience", "milestones"),
}
TRIED = [
    name
    for name in OTHERS
    for title, _, field in [name.partition(".")]
    if os.environ.get("KERAS_RESNET_TEST_PART") == "all" or title not in WAYS or field in WAYS[title]
]
# What no training of a few steps can show, and why.
UNSEEN = {
    "model.adapt_weights": "of other channels than those of the weights; tests of adaptation",
    "data.on_bad_image": "which files are left out; tests of the folder source",
    "data.max_skipped_fraction": "how many of them; tests of the folder source",
    "data.max_pixels": "which files are refused",
    "data.in_memory_limit": "how examples are held, not which",
    "data.label_key": "which feature of a TFDS set is the label; tests of that source",
    "data.columns": "what the columns of a table are; tests of that source",
    "data.validation_fold": "which examples validate; tests of folds",
    "data.fold": "which examples are left out of it; tests of folds",
    "data.group_pattern": "which examples stay together; tests of tables",
    "data.rank": "how an array is shaped; tests of arrays",
    "loss.delta": "of a regression",
    "loss.gamma_positive": "of several labels",
    "loss.gamma_negative": "of several labels",
    "loss.margin": "of several labels",
    "loss.scale_targets": "of a regression",
    "train.keep_states": "how many states stay, not what is trained; tests of states",
    "distribution.kind": "who trains together; tests of distribution",
    "distribution.synchronize_norms": "of several processes; tests of distribution",
    "train.on_divergence": "what follows a loss that is not finite; tests of divergence",
    "train.save_every": "when states are written, not what is trained; tests of step resume",
    "train.early_stopping_patience": "after the epochs that are tested here",
    "train.monitor": "which epoch is kept",
}
# A range test has a rate of its own, one epoch and no validation.
NOT_OF_A_RANGE_TEST = {
    *(name for name in OTHERS if name.startswith("schedule.")),
    *("optimizer.learning_rate", "optimizer.ema_momentum", "train.epochs", "data.progressive_until"),
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
    callbacks = [vars(c).get("decay") for c in arguments.get("callbacks", ()) if isinstance(c, training.WeightAverage)]
    validation = arguments.get("validation_data")
    shown = () if validation is None else [np.asarray(part) for part in next(iter(validation))]
    config = re.sub(r"_[0-9]+", "", json.dumps(network.get_config(), default=str))
    return {
        "network": config + str([weight.path for weight in network.trainable_weights]),
        "initializers": str({layer.name: layer.get_config() for layer in network.layers}),
        "recompute": str([getattr(layer, "recompute", None) for layer in network.layers]),
        "optimizer": json.dumps(keras.optimizers.serialize(network.optimizer), default=str),
        "loss": json.dumps(network.loss.get_config(), default=str) + network.loss.name,
        "step": str([kind.__name__ for kind in type(network).__mro__]) + str(getattr(network, "radius", None)),
        "batches": batches_of(network, arguments),
        "validation": digest(*shown),
        "weights": str(arguments.get("class_weight")),
        "epochs": str((arguments["epochs"], arguments["initial_epoch"], arguments["steps_per_epoch"])),
        "average": str(callbacks),
        "rate": str([c.patience for c in arguments.get("callbacks", ()) if isinstance(c, RateOnPlateau)]),
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


def by_fit(recipe, spec, out):
    training.fit(recipe, data=spec, out=out / "run", verbose=0)


def by_lr_find(recipe, spec, out):
    training.lr_find(recipe, data=spec, out=out / "lr", steps=10)


def by_hypermodel(recipe, spec, out):
    space = Space([Dimension("optimizer.learning_rate", low=0.001, high=1.0, scale="log")])
    hypermodel, hp = HyperResNet(space, recipe, spec), keras_tuner.HyperParameters()
    hypermodel.fit(hp, hypermodel.build(hp), verbose=0)


def recipes(name):
    """The recipe with a field at its default or as another one needs it, and with another value."""
    needed, value = OTHERS[name] if isinstance(OTHERS[name], tuple) else ({}, OTHERS[name])
    before = training.Recipe.load("quick").replace({**BASE, **needed})
    return before, before.replace({name: value})


# What a recipe gives: most tests compare with the same one.
SEEN = {}


def once(key, see):
    if key not in SEEN:
        SEEN[key] = see()
    return SEEN[key]


def test_every_field_of_a_recipe_is_in_one_of_the_tables():
    fields = {f"{title}.{field.name}" for title, section in SECTIONS.items() for field in dataclasses.fields(section)}
    assert fields == {*OTHERS, *UNSEEN} and not set(OTHERS) & set(UNSEEN)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRIED)
def test_a_field_that_changes_a_training_changes_it_for_all_who_train(
    name, photographs, captured, tmp_path, monkeypatch
):
    found = {}
    for train in (by_fit, by_lr_find, by_hypermodel):
        before, after = (
            once(
                (train.__name__, recipe.to_toml()),
                lambda recipe=recipe, part=part, train=train: captured(
                    lambda: train(recipe, photographs, tmp_path / part)
                ),
            )
            for part, recipe in zip(("before", "after"), recipes(name), strict=True)
        )
        found[train] = {part for part in before if before[part] != after[part]}
    assert found[by_fit], "the value in the table changes nothing"
    assert found[by_hypermodel] - {"initializers"} == found[by_fit] - {"initializers"}
    if name not in NOT_OF_A_RANGE_TEST:
        assert found[by_fit] - found[by_lr_find] <= {"validation", "average", "epochs", "optimizer"}
    shown = []
    monkeypatch.setattr(contact_sheet, "draw_examples", lambda plain, images, *rest: shown.append(digest(images)))
    monkeypatch.setattr(contact_sheet.files, "write_atomically", lambda path, write: write(path))

    def previewed(recipe):
        training.preview(recipe, data=photographs, out=tmp_path / "grid.png")
        return shown.pop()

    grids = [once(("preview", recipe.to_toml()), lambda recipe=recipe: previewed(recipe)) for recipe in recipes(name)]
    assert ("batches" in found[by_fit]) <= (grids[0] != grids[1])


def test_a_script_of_ones_own_trains_as_fit_does(tmp_path):
    words = {"model.width": 4, "train.epochs": 2, "train.batch_size": 64, "data.progressive_from": 0.5}
    run = training.fit("quick", out=tmp_path / "run", overrides=words, verbose=0)
    setup = training.resolve("quick", overrides=words)
    keras.utils.set_random_seed(setup.recipe.train.seed)
    network = setup.build_model()
    network.compile(**setup.compile_args())
    history = setup.fit(network, verbose=0)
    assert history["loss"] == pytest.approx(run.history["loss"], rel=1e-6)
    assert history["val_accuracy"] == pytest.approx(run.history["val_accuracy"], rel=1e-6)


def test_loaded_data_serve_several_setups():
    digits = data.load("digits", validation_fraction=0.3)
    setup = training.Setup.of(training.Recipe.load("quick"), digits)
    assert setup.recipe.data.validation_fraction == 0.3 and setup.dataset is digits
    deeper = setup.for_recipe(setup.recipe.replace({"train.batch_size": 32}), "resnet34")
    assert deeper.steps_per_epoch == digits.sizes["train"] // 32 and deeper.model == "resnet34"
    with pytest.raises(ValueError, match="more than the"):
        setup.for_recipe(setup.recipe.replace({"train.batch_size": 5000}))
