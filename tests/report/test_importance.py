import math
import random

from keras_resnet.report.search_page import encoded, importance_of, unexplored
from keras_resnet.tuning import Dimension, Trial

DIMENSIONS = [
    Dimension("optimizer.learning_rate", low=0.001, high=1.0, scale="log"),
    Dimension("model.dropout_rate", low=0.0, high=0.5),
    Dimension("optimizer.name", choices=("sgd", "adamw")),
    Dimension("loss.label_smoothing", low=0.0, high=0.2),
]


def trials(count, score, seed=0):
    generator = random.Random(seed)
    made = []
    for index in range(count):
        values = {
            "optimizer.learning_rate": 10 ** generator.uniform(-3, 0),
            "model.dropout_rate": generator.uniform(0, 0.5),
            "optimizer.name": generator.choice(["sgd", "adamw"]),
            "loss.label_smoothing": generator.uniform(0, 0.2),
        }
        made.append(Trial(str(index), values, status="complete", score=score(values, generator)))
    return made


def test_the_dimensions_that_matter_come_first_and_the_others_matter_nothing():
    def score(values, generator):
        shift = 0.6 if values["optimizer.name"] == "adamw" else 0.0
        return -((math.log10(values["optimizer.learning_rate"]) + 1.5) ** 2) + shift + generator.gauss(0, 0.02)

    found = importance_of(DIMENSIONS, trials(60, score))
    assert list(found.drops)[:2] == ["optimizer.learning_rate", "optimizer.name"]
    assert found.explained > 0.7
    assert found.drops["optimizer.learning_rate"] > 0.5
    assert abs(found.drops["loss.label_smoothing"]) < 0.05 and abs(found.drops["model.dropout_rate"]) < 0.05


def test_a_score_of_chance_alone_is_explained_by_nothing():
    found = importance_of(DIMENSIONS, trials(40, lambda values, generator: generator.random()))
    assert found.explained < 0.1


def test_few_or_equal_scores_have_no_importance():
    assert importance_of(DIMENSIONS, trials(9, lambda values, generator: generator.random())) is None
    assert importance_of(DIMENSIONS, trials(20, lambda values, generator: 0.5)) is None


def test_a_value_is_placed_on_the_scale_of_its_dimension():
    assert math.isclose(encoded(DIMENSIONS[0], {"optimizer.learning_rate": 0.01}), 1 / 3)
    assert encoded(DIMENSIONS[1], {"model.dropout_rate": 0.25}) == 0.5
    assert encoded(DIMENSIONS[2], {"optimizer.name": "adamw"}) == 1.0
    assert encoded(DIMENSIONS[2], {}) == -1.0


def test_what_no_trial_tried_is_named():
    made = [
        Trial("0", {"optimizer.learning_rate": 0.0011, "model.dropout_rate": place, "optimizer.name": "sgd"}, score=0.5)
        for place in (0.05, 0.15, 0.25, 0.45)
    ]
    left = unexplored(DIMENSIONS, made)
    assert left["optimizer.name"] == ["adamw"]
    assert left["model.dropout_rate"] == ["0.3 to 0.4"]
    assert left["optimizer.learning_rate"][0] == "0.00398 to 0.0158" and len(left["optimizer.learning_rate"]) == 4
