"""A recipe that a run or a search made trains what it was made for; one for pretrained weights says what it lacks."""

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tensorflow")

from keras_resnet import training, tuning  # noqa: E402
from keras_resnet.cli import main  # noqa: E402

SMALL = {"model.width": 2, "train.epochs": 1, "train.batch_size": 16}


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    path = tmp_path_factory.mktemp("made") / "d.npz"
    rng = np.random.default_rng(0)
    np.savez(path, x=rng.integers(0, 256, (80, 8, 8, 3), "uint8"), y=np.arange(80) % 4)
    return f"npz:{path}"


@pytest.mark.exhaustive
def test_the_recipe_of_a_run_trains_its_model_on_its_data(spec, tmp_path, capsys):
    run = training.fit("quick", model="resnet34", data=spec, out=tmp_path / "run", overrides=SMALL, verbose=0)
    recipe = tmp_path / "run" / "recipe.toml"
    assert main(["train", "--recipe", str(recipe), "--out", str(tmp_path / "again")]) == 0
    again = training.Run.load(tmp_path / "again")
    assert (again.about.model, again.about.data) == ("resnet34", spec)
    assert again.metrics == run.metrics and again.about.fingerprint == run.about.fingerprint
    # What the command names comes first, and a run that goes on is what it was.
    other = training.fit(recipe, model="resnet18", data="digits", dry_run=True)
    assert (other.about.model, other.about.data) == ("resnet18", "digits")
    assert training.fit(out=tmp_path / "again", resume=True).about.model == "resnet34"
    found = training.lr_find(recipe, out=tmp_path / "lr", steps=10)
    assert len(found.losses) <= 10
    capsys.readouterr()
    training.preview(recipe, out=tmp_path / "grid.png")


@pytest.mark.exhaustive
def test_the_winner_of_a_search_trains_what_was_searched(spec, tmp_path):
    space = tuning.Space([tuning.Dimension("optimizer.learning_rate", low=0.01, high=0.1, scale="log")])
    words = {"recipe": training.Recipe.load("quick").replace(SMALL), "space": space, "verbose": False}
    search = tuning.search(model="resnet34", data=spec, trials=1, out=tmp_path / "search", **words)
    best = training.Recipe.load(tmp_path / "search" / "best.toml")
    assert (best.defaults.model, best.defaults.data) == ("resnet34", spec)
    run = training.fit(tmp_path / "search" / "best.toml", out=tmp_path / "tuned", verbose=0)
    assert (run.about.model, run.about.data) == ("resnet34", spec)
    assert run.metrics["test"]["accuracy"] == search.metrics["accuracy"]
    # A search that starts from it searches the same.
    planned = tuning.definition.define(None, best, space, {}, None, None, {})
    assert (planned.model, planned.data) == ("resnet34", spec)


@pytest.mark.slow
def test_a_recipe_for_pretrained_weights_says_that_it_begins_without_them(tmp_path):
    with pytest.warns(UserWarning, match="finetune: this recipe is for pretrained weights, and none are at hand"):
        training.fit(
            "finetune",
            model="resnet34",
            out=tmp_path / "run",
            overrides={**SMALL, "data.normalization": "unit"},
            verbose=0,
        )


def test_a_softmax_over_one_class_is_refused_by_the_constructor_and_before_training():
    import keras

    from keras_resnet import ResNet18
    from keras_resnet.training import CrossEntropy, check_outputs

    for activation in ("softmax", keras.activations.softmax, "log_softmax"):
        with pytest.raises(ValueError, match=r"classes=1 was given.*None for a regression or a logit, and 'sigmoid'"):
            ResNet18(input_shape=(32, 32, 3), classes=1, classifier_activation=activation)
    for activation in (None, "sigmoid"):
        ResNet18(input_shape=(32, 32, 3), width=2, classes=1, classifier_activation=activation)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", CrossEntropy(from_logits=True))
    with pytest.raises(ValueError, match="The model has 1 output.*binary_cross_entropy"):
        check_outputs(model)


def test_weights_without_a_recipe_are_fine_tuned(tmp_path):
    """The rate of the default recipe, 0.1, destroyed the weights within an epoch or two."""
    plan = training.fit(data="digits", weights="cifar10", overrides={"model.adapt_weights": True}, dry_run=True)
    assert plan.recipe.name == "finetune" and plan.recipe.optimizer.learning_rate == 0.01
    named = training.fit(
        "quick", data="digits", weights="cifar10", overrides={"model.adapt_weights": True}, dry_run=True
    )
    assert named.recipe.name == "quick"
    assert training.fit(dry_run=True).recipe.name == "quick"


@pytest.mark.parametrize(("side", "expected"), [(128, 32), (40, "auto")])
def test_large_images_are_resized_for_weights_of_small_ones(tmp_path, side, expected):
    rng = np.random.default_rng(0)
    for index in range(80):
        place = tmp_path / ("a" if index % 2 else "b")
        place.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (side, side, 3), "uint8")).save(place / f"{index}.png")
    plan = training.fit(data=f"folder:{tmp_path}", weights="cifar10", dry_run=True)
    assert plan.recipe.data.image_size == expected
    assert any("resized to 32 px" in line for line in plan.dataset.report) == (expected == 32)
    asked = training.fit(
        data=f"folder:{tmp_path}", weights="cifar10", overrides={"data.image_size": side + 8}, dry_run=True
    )
    assert asked.recipe.data.image_size == side + 8
