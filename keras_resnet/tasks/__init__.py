"""What a model is for: one file per task, with its labels, outputs, figures and answers."""

from keras_resnet.tasks.classification import CLASSIFICATION
from keras_resnet.tasks.metrics import Metric
from keras_resnet.tasks.multilabel import MULTILABEL
from keras_resnet.tasks.ordinal import ORDINAL
from keras_resnet.tasks.predictions import Predictions
from keras_resnet.tasks.regression import REGRESSION
from keras_resnet.tasks.task import Task

TASKS = {task.name: task for task in (CLASSIFICATION, MULTILABEL, ORDINAL, REGRESSION)}

__all__ = ["CLASSIFICATION", "MULTILABEL", "ORDINAL", "REGRESSION", "TASKS", "Metric", "Predictions", "Task"]
