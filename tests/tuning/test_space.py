import keras_tuner
import pytest

from keras_resnet import training
from keras_resnet.tuning import Dimension, Space


def declared(space, recipe="quick"):
    hp = keras_tuner.HyperParameters()
    space.declare(hp, training.Recipe.load(recipe))
    return hp


def test_every_dimension_of_the_default_space_says_why_and_fits_the_recipes_of_the_package():
    space = Space.load("default")
    assert all(dimension.why for dimension in space)
    for name in training.list_recipes():
        recipe = training.Recipe.load(name)
        fitting = space.fitting(recipe)
        fitting.for_recipe(recipe)
        left_out = ["loss.label_smoothing"] if name == "regression" else []
        assert fitting.names == [dimension for dimension in space.names if dimension not in left_out]
    with pytest.raises(ValueError, match="loss.label_smoothing has no effect"):
        space.for_recipe(training.Recipe.load("regression"))


def test_the_default_space_holds_what_a_search_of_networks_wants():
    names = set(Space.load("default").names)
    wanted = {"learning_rate", "weight_decay", "l1", "l2", "dropout_rate", "drop_path_rate", "label_smoothing"}
    assert wanted <= {name.partition(".")[2] for name in names}
    assert {"optimizer.name", "schedule.name", "schedule.warmup", "train.batch_size"} <= names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "optimizer.learning_rat", "low": 0.1, "high": 1}, "Did you mean 'optimizer.learning_rate'"),
        ({"name": "learning_rate", "low": 0.1, "high": 1}, "which no recipe has"),
        ({"name": "optimizer.learning_rate"}, "either choices or low and high"),
        ({"name": "optimizer.learning_rate", "low": 1.0, "high": 0.1}, "low must be less than high"),
        ({"name": "optimizer.weight_decay", "low": 0.0, "high": 0.1, "scale": "log"}, "more than 0"),
        ({"name": "model.dropout_rate", "low": 0.0, "high": 1.0}, r"\[0, 1\)"),
        ({"name": "optimizer.name", "choices": ("sgd", "adma")}, "Did you mean 'adam'"),
        ({"name": "optimizer.name", "low": 0, "high": 1}, "Allowed are choices"),
        ({"name": "train.batch_size", "choices": (0, 32)}, "train.batch_size must be"),
        ({"name": "variant", "choices": ("resnet19",)}, "Did you mean 'resnet18'"),
        ({"name": "optimizer.learning_rate", "low": 0.1, "high": 1, "scale": "logarithmic"}, "scale"),
    ],
)
def test_a_dimension_that_no_recipe_allows_is_refused(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Dimension(**arguments)


def test_a_file_extends_narrows_and_takes_away(tmp_path):
    (tmp_path / "mine.toml").write_text(
        'extends = "default"\n[model.width]\nchoices = [8, 16]\n[optimizer.learning_rate]\nlow = 0.01\nhigh = 0.1\n'
        'scale = "log"\n[model.l1]\nsearch = false\n[variant]\nchoices = ["resnet18", "resnet34"]\n'
    )
    space = Space.load(tmp_path / "mine.toml")
    assert "model.l1" not in space.names and "model.width" in space.names
    (rate,) = [dimension for dimension in space if dimension.name == "optimizer.learning_rate"]
    assert (rate.low, rate.high) == (0.01, 0.1)
    assert set(Space.from_dict(space.to_dict())) == set(space)
    assert Space.from_rows(space.rows()).dimensions == space.dimensions


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[optimizer.learning_rate]\nlow = 0.1\nhihg = 1", "Did you mean 'high'"),
        ("optimizer = 3", "not a table"),
        ("[optimizer]\nlearning_rate = 3", "not a table"),
        ("[optimizer.learning_rate", "not valid TOML"),
        ('extends = "defualt"', "Did you mean 'default'"),
        ("[model.l1]\nsearch = false", "no such dimension"),
    ],
)
def test_a_file_with_a_mistake_is_refused(tmp_path, text, message):
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        Space.load(tmp_path / "bad.toml")


def test_a_field_that_some_choices_do_not_read_is_active_with_the_others_only():
    hp = declared(Space.load("default"))
    (warmup,) = [entry for entry in hp.space if entry.name == "schedule.warmup"]
    hp.values["schedule.name"] = "one_cycle"
    assert not hp.is_active(warmup)
    hp.values["schedule.name"] = "cosine"
    assert hp.is_active(warmup)


def test_a_field_without_effect_on_the_recipe_is_refused():
    space = Space([Dimension("optimizer.momentum", low=0.5, high=0.95)])
    with pytest.raises(ValueError, match="optimizer.momentum has no effect with optimizer.name='adamw'"):
        space.for_recipe(training.Recipe().replace({"optimizer.name": "adamw"}))


def test_every_point_of_the_space_is_a_recipe():
    space, recipe = Space.load("default"), training.Recipe.load("quick")
    hp = declared(space)
    for seed in range(50):
        values = {}
        for entry in hp.space:
            point = keras_tuner.HyperParameters()
            point.merge(hp.space)
            point.values = values
            if point.is_active(entry):
                values[entry.name] = entry.random_sample(seed)
        made = recipe.replace(space.overrides(values))
        assert 0.001 <= made.optimizer.learning_rate <= 0.3 and made.train.batch_size in (32, 64, 128)


def test_the_values_of_a_log_scale_are_evenly_apart_by_factors():
    assert Dimension("optimizer.weight_decay", low=1e-4, high=1e-2, scale="log").values(3) == [1e-4, 1e-3, 1e-2]
    assert Dimension("model.width", low=8, high=32).values(4) == [8, 16, 24, 32]


def test_the_objective_loss_is_the_plain_loss_of_the_task():
    from keras_resnet import training
    from keras_resnet.tuning import Settings

    recipe = training.Recipe().replace({"loss.label_smoothing": 0.2})
    assert Settings(objective="loss").metric(recipe) == "val_cross_entropy"
    assert Settings(objective="val_loss").metric(recipe.replace({"loss.name": "focal"})) == "val_cross_entropy"
    assert Settings(objective="loss").metric(training.Recipe.load("regression")) == "val_mse"
    with pytest.raises(ValueError, match="search.objective='balanced_accuracy' is not reported"):
        Settings(objective="balanced_accuracy").metric(recipe)
    monitored = recipe.replace({"train.monitor": "balanced_accuracy"})
    assert Settings(objective="balanced_accuracy").metric(monitored) == "val_balanced_accuracy"
