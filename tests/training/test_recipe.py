import dataclasses
import tomllib

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import ResNet18, training
from keras_resnet.models import validation
from keras_resnet.preprocessing import InputNormalization
from keras_resnet.training.network import Model


def test_a_recipe_survives_toml(tmp_path):
    recipe = training.Recipe.load("cifar").replace({"schedule.name": "step", "schedule.milestones": "0.3,0.6"})
    recipe.save(tmp_path / "mine.toml")
    assert training.Recipe.load(tmp_path / "mine.toml") == recipe
    assert tomllib.loads(recipe.to_toml())["schedule"]["milestones"] == [0.3, 0.6]


def test_a_recipe_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        training.Recipe().train.epochs = 3


@pytest.mark.parametrize("name", training.list_recipes())
def test_a_recipe_of_the_package_says_where_it_comes_from(name):
    recipe = training.Recipe.load(name)
    assert recipe.name == name
    for field in dataclasses.fields(recipe.about):
        assert getattr(recipe.about, field.name) or field.name == "notice", field.name
    assert f"--recipe {name}" in recipe.about.command


def test_words_of_the_command_line_become_the_type_of_the_field():
    words = {
        "model.width": "16",
        "optimizer.learning_rate": "1e-2",
        "optimizer.nesterov": "False",
        "data.image_size": "48",
        "model.attention": "se",
    }
    recipe = training.Recipe().replace(words)
    assert (recipe.model.width, recipe.optimizer.learning_rate, recipe.optimizer.nesterov) == (16, 0.01, False)
    assert (recipe.data.image_size, recipe.model.attention) == (48, "se")
    assert recipe.replace({"data.image_size": "auto"}).data.image_size == "auto"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.widht", "16", "Did you mean 'model.width'"),
        ("modle.width", "16", "Did you mean 'model.width'"),
        ("epochs", "3", "Did you mean 'train.epochs'"),
        ("model.width", "wide", "model.width='wide' is not known. Use 'auto' or an int >= 1"),
        ("model.width", "0", "model.width must be an int >= 1"),
        ("model.stem", "smal", "Did you mean 'small'"),
        ("model.drop_path_rate", "1.0", "model.drop_path_rate"),
        ("optimizer.name", "sdg", "Did you mean 'sgd'"),
        ("optimizer.learning_rate", "0", "optimizer.learning_rate must be a number in (0, inf]"),
        ("optimizer.learning_rate", "nan", "optimizer.learning_rate must be a number"),
        ("optimizer.nesterov", "maybe", "Use one of: 'true', 'false'"),
        ("schedule.name", "cosin", "Did you mean 'cosine'"),
        ("schedule.milestones", "0.7,0.3", "does not rise"),
        ("train.precision", "float16", "Use one of: 'float32', 'mixed_float16', 'mixed_bfloat16'"),
        ("train.seed", "-1", "train.seed must be an int from 0 to 2147483647"),
        ("data.image_size", "big", "Use 'auto', a side in pixels"),
        ("loss.label_smoothing", "1", "loss.label_smoothing must be a number in [0, 1)"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(key, value, message):
    with pytest.raises(ValueError) as caught:
        training.Recipe().replace({key: value})
    assert message in str(caught.value)


def test_a_value_of_the_wrong_type_is_refused():
    with pytest.raises(TypeError, match=r"model\.width must be an int >= 1, got 1\.5 of type float"):
        training.Recipe().replace({"model.width": 1.5})
    with pytest.raises(TypeError, match="model must be a Model"):
        training.Recipe(model={"width": 16})


def test_an_override_without_effect_is_refused():
    with pytest.raises(ValueError, match=r"optimizer\.nesterov has no effect with optimizer\.name='adam'"):
        training.Recipe().replace({"optimizer.name": "adam", "optimizer.nesterov": "true"})
    with pytest.raises(ValueError, match=r"schedule\.warmup has no effect with schedule\.name='one_cycle'"):
        training.Recipe.load("quick").replace({"schedule.warmup": 0.1})
    # What a recipe says for one choice does not stand in the way of another choice.
    assert training.Recipe.load("quick").replace({"optimizer.name": "adam"}).optimizer.name == "adam"


def test_a_file_with_an_unknown_key_is_refused(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[optimizer]\nmomentun = 0.9\n")
    with pytest.raises(ValueError, match=r"'optimizer\.momentun' is not known. Did you mean 'optimizer\.momentum'"):
        training.Recipe.load(path)
    path.write_text("[optimiser]\nmomentum = 0.9\n")
    with pytest.raises(ValueError, match="Did you mean 'optimizer'"):
        training.Recipe.load(path)
    path.write_text("[optimizer\n")
    with pytest.raises(ValueError, match="is not valid TOML"):
        training.Recipe.load(path)
    with pytest.raises(ValueError, match="is not a file"):
        training.Recipe.load(tmp_path / "none.toml")
    with pytest.raises(ValueError, match="Did you mean 'quick'"):
        training.Recipe.load("quik")


def test_the_defaults_of_the_model_are_those_of_the_constructor():
    import inspect

    defaults = {name: parameter.default for name, parameter in inspect.signature(ResNet18).parameters.items()}
    arguments = Model().arguments((224, 224, 3))
    assert arguments == {name: defaults[name] for name in arguments}


@pytest.mark.parametrize(("shape", "stem"), [((63, 200, 3), "small"), ((64, 64, 3), "conv7"), ((8, 1), "small")])
def test_the_stem_follows_the_size_of_the_image(shape, stem):
    # Without the argument the stem is that of the variant.
    assert Model().arguments(shape).get("stem", "conv7") == stem


@pytest.mark.slow
def test_a_recipe_leaves_a_variant_its_own_defaults():
    rs = keras_resnet.ResNetRS50(input_shape=(64, 64, 3), classes=2)
    built = Model().build("resnet_rs50", (64, 64, 3), 2, InputNormalization(), "float32")
    assert built.count_params() == rs.count_params()
    plain = Model(attention="none").build("resnet_rs50", (64, 64, 3), 2, InputNormalization(), "float32")
    assert plain.count_params() < rs.count_params()


TABLES = {
    "stem": validation.STEMS,
    "version": validation.VERSIONS,
    "shortcut": validation.MODEL_SHORTCUTS,
    "attention": validation.ATTENTION,
}


@pytest.mark.parametrize("field", TABLES)
def test_the_choices_of_the_model_are_those_of_the_builder(field):
    (choices,) = [row.metadata["choices"] for row in dataclasses.fields(Model) if row.name == field]
    table = TABLES[field]
    assert {value for value in choices.values() if value} - {"none"} == {name for name in table if name}


def test_a_recipe_extends_another(tmp_path):
    (tmp_path / "own.toml").write_text('extends = "cifar"\n[train]\nepochs = 3\n[about]\nnotice = "mine"\n')
    (tmp_path / "further.toml").write_text('extends = "own.toml"\nname = "further"\n[model]\nwidth = 8\n')
    cifar, further = training.Recipe.load("cifar"), training.Recipe.load(tmp_path / "further.toml")
    assert training.compare_recipes(cifar, further) == [("model.width", "auto", 8), ("train.epochs", 30, 3)]
    assert further.name == "further" and further.about == type(further.about)()
    assert training.Recipe.load(tmp_path / "own.toml").about.notice == "mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('extends = "itself.toml"', "extends itself"),
        ('extends = "cifr"', "Did you mean 'cifar'"),
        ('extends = "none.toml"', "is not a file"),
        ("extends = 3", "is not a string"),
        ('extends = "cifar"\ntrain = 3', "train=3 is not a table"),
    ],
)
def test_a_recipe_that_cannot_be_extended_is_named(tmp_path, text, message):
    (tmp_path / "itself.toml").write_text(text)
    with pytest.raises((TypeError, ValueError), match=message):
        training.Recipe.load(tmp_path / "itself.toml")


@pytest.mark.parametrize("names", [(), ("a", "b", "c")])
def test_a_recipe_of_several_labels_compiles_a_users_own_model(names):
    recipe = training.Recipe.load("quick").replace({"loss.name": "multilabel_cross_entropy"})
    image = keras.Input((4, 4, 1))
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(image)))
    model.compile(**recipe.compile_args(steps_per_epoch=2, from_logits=True, class_names=names))
    labels = np.tile([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]], (4, 1))
    history = model.fit(np.random.default_rng(0).normal(size=(8, 4, 4, 1)), labels, verbose=0).history
    assert ("roc_auc" in history) == bool(names) and {"accuracy", "cross_entropy"} <= set(history)


def test_a_recipe_trains_a_narrow_network_at_its_own_width():
    planned = training.fit("cifar-he2015", data="digits", overrides={"train.epochs": 1}, dry_run=True)
    assert planned.about.model == "resnet20" and planned.recipe.model.width == "auto"
    assert planned.model.get_layer("stage4_block1").output.shape[-1] == 64
