"""Grades: classes that have an order, where a guess may be wrong by more or less."""

from keras_resnet.tasks.classification import (
    Classification,
    mean_distance,
    quadratic_kappa,
)
from keras_resnet.tasks.metrics import Metric


class Ordinal(Classification):
    """Each example has one of several grades. The data are those of a classification."""

    name = "ordinal"
    data_task = "classification"
    labels = "grades"
    loss = "ordinal"
    metrics = (
        *Classification.metrics,
        Metric("quadratic_kappa", quadratic_kappa, "quadratic kappa", is_summary=True),
        Metric("mean_distance", mean_distance, "mean distance of grades", "min", is_summary=True),
    )


ORDINAL = Ordinal()
