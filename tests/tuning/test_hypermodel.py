"""Our hypermodel under KerasTuner's own tuners."""

import keras_tuner
import pytest

from keras_resnet import data, training
from keras_resnet.tuning import Dimension, HyperResNet, Space

SPACE = Space(
    [
        Dimension("optimizer.learning_rate", low=0.01, high=0.3, scale="log"),
        Dimension("variant", choices=("resnet18", "resnet34")),
        Dimension("train.batch_size", choices=(128, 256)),
    ]
)
RECIPE = training.Recipe.load("quick").replace({"model.width": 4, "train.epochs": 1})


def test_the_network_is_that_of_the_point():
    hypermodel = HyperResNet(SPACE, RECIPE, "digits")
    hp = keras_tuner.HyperParameters()
    shallow = hypermodel.build(hp)
    hp.values.update({"variant": "resnet34", "optimizer.learning_rate": 0.05})
    deep = hypermodel.build(hp)
    assert len(deep.layers) > len(shallow.layers)
    assert hypermodel.recipe_of(hp).optimizer.learning_rate == 0.05
    assert {entry.name for entry in hp.space} == set(SPACE.names)


@pytest.mark.exhaustive
def test_kerastuners_own_tuner_searches_it(tmp_path):
    hypermodel = HyperResNet(SPACE.without("variant"), RECIPE, data.load("digits"))
    tuner = keras_tuner.RandomSearch(hypermodel, objective="val_accuracy", max_trials=2, seed=1, directory=tmp_path)
    tuner.search(verbose=0)
    (best,) = tuner.get_best_hyperparameters(1)
    assert 0.01 <= best.get("optimizer.learning_rate") <= 0.3
    assert all(trial.score is not None for trial in tuner.oracle.trials.values())


def test_a_mistake_is_named():
    with pytest.raises(TypeError, match="space must be a Space"):
        HyperResNet("default", RECIPE, "digits")
    with pytest.raises(ValueError, match="Did you mean 'resnet18'"):
        HyperResNet(SPACE, RECIPE, "digits", model="resnet19")
