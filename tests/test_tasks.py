"""Every row of the table of tasks names what exists, and each part of it fits the others."""

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from keras_resnet.report.run_page import SECTIONS  # noqa: E402
from keras_resnet.tasks import TASKS, Predictions  # noqa: E402
from keras_resnet.training.losses import LOSSES, LabelFacts, Loss  # noqa: E402

NAMES = ("cat", "dog", "eel", "fox", "gnu", "hen")


def labels_for(task, generator):
    if task.name == "multilabel":
        return (generator.random((12, len(NAMES))) < 0.5).astype("int64")
    if task.has_classes:
        return np.tile(np.arange(len(NAMES)), 2)
    return generator.normal(size=(12, len(NAMES)))


@pytest.mark.parametrize("task", TASKS.values(), ids=str)
def test_a_row_names_what_there_is(task):
    assert LOSSES[task.loss].task is task
    _, metrics = Loss(name=task.loss).build(from_logits=True, facts=LabelFacts(num_classes=3))
    columns = {"loss", *(metric.name for metric in metrics)}
    assert task.plain_loss in columns and set(task.curves) <= columns
    assert set(task.sections) <= set(SECTIONS)


@pytest.mark.parametrize("task", TASKS.values(), ids=str)
def test_what_is_read_is_scored_and_answered(task):
    generator = np.random.default_rng(0)
    labels = task.check_labels(labels_for(task, generator))
    names = NAMES if task.has_classes else ()
    predictions = Predictions(task, generator.normal(size=(12, len(NAMES))), labels, names)
    figures = predictions.score()
    assert {metric.name for metric in task.metrics if metric.is_summary} <= set(figures) and figures["examples"] == 12
    assert set(task.paired) <= {metric.name for metric in task.metrics}
    assert len(task.answers(predictions.replace(labels=None), 2, ())) == 12


def test_two_scores_of_one_name_mean_the_same_and_improve_the_same_way():
    directions = {}
    for task in TASKS.values():
        for metric in (*task.metrics, *task.class_metrics):
            assert directions.setdefault(metric.name, metric.best) == metric.best


def test_every_section_and_every_loss_belongs_to_a_task():
    assert set(SECTIONS) == {title for task in TASKS.values() for title in task.sections}
    assert {row.task.name for row in LOSSES.values()} == set(TASKS)
