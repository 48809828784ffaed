"""Every row of the table of tasks names what exists, and each part of it fits the others."""

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from keras_resnet.report.run_page import SECTIONS  # noqa: E402
from keras_resnet.tasks import TASKS  # noqa: E402
from keras_resnet.training.loss import LOSSES, LabelFacts, Loss  # noqa: E402

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
    read = generator.normal(size=(12, len(NAMES)))
    figures = task.score(read, labels, NAMES, ())
    assert set(task.figures) <= set(figures) and figures["examples"] == 12
    answers = task.answers(read, NAMES, (), 2, ())
    assert len(answers) == 12


def test_every_section_and_every_loss_belongs_to_a_task():
    assert set(SECTIONS) == {title for task in TASKS.values() for title in task.sections}
    assert {row.task.name for row in LOSSES.values()} == set(TASKS)
