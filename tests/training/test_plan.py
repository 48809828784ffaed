"""The recipe that is taken where none was named."""

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import keras_resnet  # noqa: E402
from keras_resnet import data, training, weights  # noqa: E402
from keras_resnet.training import experiment  # noqa: E402
from keras_resnet.training.recipe import list_recipes  # noqa: E402
from keras_resnet.training.run import plan_lines  # noqa: E402
from keras_resnet.tuning.definition import define  # noqa: E402
from keras_resnet.weights import sources  # noqa: E402


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache of weights: those that a machine has would change the plan."""
    monkeypatch.setenv("KERAS_RESNET_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "weights"


def spec_of(folder, shape, count=120, task="classification"):
    labels = np.arange(count) % 3 if task == "classification" else np.linspace(0, 1, count).astype("float32")
    images = np.random.default_rng(0).integers(0, 256, (count, *shape)).astype("uint8")
    np.savez(folder / "a.npz", x=images, y=labels)
    return f"npz:{folder}/a.npz"


@pytest.mark.parametrize(
    ("shape", "count", "recipe"),
    [
        ((32, 32, 3), 120, "few-images"),
        ((8, 8, 3), 2700, "cifar"),
        ((16, 16, 1), 120, "quick"),  # as characters, which are not flipped
        ((96, 96, 3), 120, "few-photos"),
        ((64, 80, 3), 2700, "photos"),
        ((96, 96, 1), 120, "gray-photos"),
        ((96, 96, 5), 120, "quick"),
        ((64, 2), 120, "signals"),
        ((8, 8, 8, 1), 120, "volumes"),
    ],
)
def test_a_recipe_is_chosen_by_the_data(tmp_path, shape, count, recipe):
    words = {"model.width": 4, "train.epochs": 2, "train.batch_size": 8}
    spec = spec_of(tmp_path, shape, count)
    planned = training.resolve(data=spec, overrides=words)
    assert planned.recipe.name == recipe
    assert planned.recipe.model.width == 4 and planned.recipe.train.epochs == 2  # what was asked for stays
    told = [line for line in planned.dataset.report if "--recipe names another" in line]
    assert len(told) == (recipe != "quick") and all(line.startswith(f"recipe {recipe}, because") for line in told)
    named = {} if len(shape) == 3 else {"augment.rotation": 0, "augment.zoom": 0, "augment.translation": 0}
    asked = training.resolve("quick", data=spec, overrides={**words, **named})
    assert asked.recipe.name == "quick"


def gray_spec_of(folder, images, labels):
    np.savez(folder / "gray.npz", x=images.astype("uint16"), y=labels)
    return f"npz:{folder}/gray.npz"


def noisy_bars(axis, count=400):
    """Gray pictures of a bar whose place along an axis is the class, under noise."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, count)
    images = rng.normal(1000, 200, (count, 16, 16, 1))
    for image, label in zip(images, labels, strict=True):
        np.moveaxis(image, axis, 0)[3 * label : 3 * label + 3] += 300
    return images, labels


def test_small_gray_pictures_are_flipped_where_their_mirror_images_are_recognized_as_well(tmp_path):
    """Rows of a picture stay where they are when it is mirrored, columns and characters do not."""
    planned = training.resolve(data=gray_spec_of(tmp_path, *noisy_bars(axis=0)))
    recipe = planned.recipe
    assert (recipe.name, recipe.augment.flip) == ("cifar", True)
    assert (recipe.model.width, recipe.train.batch_size, recipe.train.epochs) == (32, 64, 60)
    (line,) = [line for line in planned.dataset.report if "--recipe names another" in line]
    assert "as well recognized when mirrored" in line
    asked = training.resolve(data=planned.dataset.spec, overrides={"model.width": 4}).recipe
    assert (asked.name, asked.model.width, asked.train.epochs) == ("cifar", 4, 60)
    assert training.resolve(data=gray_spec_of(tmp_path, *noisy_bars(axis=1))).recipe.name == "quick"
    digits = data.load("digits").arrays("train")
    assert training.resolve(data=gray_spec_of(tmp_path, *digits)).recipe.name == "quick"


@pytest.mark.slow
def test_few_minutes_make_a_planned_network_narrower(tmp_path):
    spec = spec_of(tmp_path, (8, 8, 3), 2700)
    words = {"model": "resnet10", "data": spec, "minutes": 0.01, "dry_run": True, "verbose": 0}
    with pytest.warns(UserWarning, match="less than one epoch takes"):
        planned = training.fit(**words)
    assert planned.recipe.name == "cifar" and planned.recipe.model.width == 16
    widths = [line.split(",")[0] for line in planned.dataset.report if line.startswith("model.width")]
    assert widths == ["model.width 32", "model.width 16"]
    with pytest.warns(UserWarning, match="less than one epoch takes"):
        assert training.fit(**words, overrides={"model.width": 24}).recipe.model.width == 24
    words["data"], settings = spec_of(tmp_path, (8, 8, 3)), {"model.width": 4}
    for policy in ("", "rand_augment"):
        named = {"augment.policy": policy} if policy else {}
        with pytest.warns(UserWarning, match="less than one epoch takes"):
            planned = training.fit(**words, overrides={**settings, **named})
        assert planned.recipe.name == "few-images" and planned.recipe.augment.policy == (policy or "none")


def test_the_plan_of_photographs_names_crops_and_flips(tmp_path):
    planned = training.fit(data=spec_of(tmp_path, (96, 96, 3)), overrides={"train.batch_size": 8}, dry_run=True)
    images, *_ = plan_lines(planned.about)
    assert images == "images     128x128x3, stem conv7; augmented by random resized crops, flip, policy trivial_augment"


def test_published_weights_in_the_cache_are_taken_for_photographs(tmp_path, cache, caplog):
    row = sources.default_of("resnet18")
    place = cache / "resnet18" / row.tag / row.file
    place.parent.mkdir(parents=True)
    weights.save_weights(keras_resnet.ResNet18(), place, names="timm")
    spec = spec_of(tmp_path, (96, 96, 3))
    planned = training.resolve(data=spec)
    assert (planned.recipe.name, planned.recipe.model.weights) == ("finetune", "imagenet")
    (line,) = [line for line in planned.dataset.report if "--recipe names another" in line]
    assert line.startswith("recipe finetune, because weights='imagenet' of resnet18 are in the cache")
    assert training.resolve(data=spec, model="resnet34").recipe.name == "few-photos"
    assert training.resolve(data=spec, overrides={"model.width": 16}).recipe.name == "few-photos"
    assert training.resolve("photos", data=spec).recipe.model.weights == ""
    (tmp_path / "small").mkdir()
    assert training.resolve(data=spec_of(tmp_path / "small", (32, 32, 3))).recipe.name == "few-images"


@pytest.mark.parametrize(("shape", "recipe"), [((16, 2), "signals"), ((8, 8, 8, 1), "volumes")])
def test_weights_of_signals_and_volumes_are_tuned_with_their_augmentation(shape, recipe, tmp_path):
    spec, named = spec_of(tmp_path, shape), training.Recipe.load(recipe)
    network = keras_resnet.models.build("resnet10", input_shape=shape, width=4, stem="small", classes=2)
    path = weights.save_weights(network, tmp_path / "w.safetensors")
    planned = training.resolve(model="resnet10", data=spec, overrides={"model.weights": str(path)}).recipe
    assert (planned.name, planned.optimizer) == ("finetune", training.Recipe.load("finetune").optimizer)
    assert (planned.augment, planned.loss) == (named.augment, named.loss)
    asked = {"model.weights": str(path), "augment.gain": 0.3}
    assert training.resolve(model="resnet10", data=spec, overrides=asked).recipe.augment.gain == 0.3


def test_the_size_that_the_network_takes_counts(tmp_path):
    words = {"model.width": 4, "train.batch_size": 8, "data.image_size": 32}
    planned = training.fit(data=spec_of(tmp_path, (96, 96, 3)), overrides=words, dry_run=True)
    assert planned.recipe.name == "few-images" and planned.recipe.data.image_size == 32


@pytest.mark.slow
def test_numbers_are_a_regression_and_a_run_goes_on_with_its_recipe(tmp_path):
    words = {"model.width": 4, "train.epochs": 1, "train.batch_size": 8}
    loss = {**words, "loss.name": "mean_squared_error"}
    spec = spec_of(tmp_path, (8, 8, 1), task="regression")
    planned = training.fit(data=spec, overrides=loss, dry_run=True)
    assert (planned.recipe.name, planned.recipe.loss.name) == ("regression", "mean_squared_error")
    spec = spec_of(tmp_path, (8, 8, 3))
    first = training.fit(data=spec, out=tmp_path / "run", overrides=words, verbose=0)
    again = training.fit(data=spec, out=tmp_path / "run", resume=True, verbose=0)
    assert first.recipe.name == again.recipe.name == "few-images"


def test_every_rule_names_a_recipe_and_the_digits_keep_theirs():
    assert {rule.recipe for rule in experiment.RULES} <= set(list_recipes())
    assert training.fit(dry_run=True).recipe.name == "quick"


def test_a_loaded_dataset_and_every_command_take_the_recipe_that_fits(tmp_path):
    spec = spec_of(tmp_path, (32, 32, 3))
    dataset = data.load(spec)
    assert training.resolve(data=dataset).recipe.name == "few-images"
    assert sum("few-images" in line for line in dataset.report) == 1
    training.resolve(data=dataset)
    assert sum("few-images" in line for line in dataset.report) == 1  # said once
    definition = define(None, None, None, {"data": spec}, None, None, {})
    assert definition.recipe.name == "few-images"
    assert define(None, None, None, {"data": spec}, None, None, {"search.recipe": "quick"}).recipe.name == "quick"


@pytest.mark.slow
def test_minutes_plan_epochs_by_the_measured_time_of_a_step():
    words = {"model.width": 4}
    few, many = (training.fit("quick", overrides=words, minutes=time, dry_run=True, verbose=0) for time in (1.0, 30.0))
    assert 1 <= few.recipe.train.epochs < many.recipe.train.epochs
    with pytest.warns(UserWarning, match="less than one epoch takes"):
        assert training.fit("quick", overrides=words, minutes=0.001, dry_run=True, verbose=0).recipe.train.epochs == 1
    with pytest.raises(ValueError, match="minutes=-1 is not a time"):
        training.fit("quick", minutes=-1)
    with pytest.raises(ValueError, match="Leave one out"):
        training.fit("quick", minutes=1, overrides={"train.epochs": 3})
