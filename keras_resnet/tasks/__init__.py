"""What a model is for: labels, losses, scores, answers and pages of each task, one row a task."""

from keras_resnet.tasks.task import CLASSIFICATION, MULTILABEL, REGRESSION, TASKS, Task

__all__ = ["CLASSIFICATION", "MULTILABEL", "REGRESSION", "TASKS", "Task"]
