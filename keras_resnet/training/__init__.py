"""Recipes, schedules, weight decay, precision, `fit`, resume and the run folder.

Example:
    >>> from keras_resnet import training
    >>> training.list_recipes()
    ['cifar', 'quick']
"""

from keras_resnet.training.callbacks import TrainingDiverged as TrainingDiverged
from keras_resnet.training.checkpoint import CheckpointError as CheckpointError
from keras_resnet.training.fitting import Interrupted as Interrupted
from keras_resnet.training.fitting import fit as fit
from keras_resnet.training.losses import CrossEntropy as CrossEntropy
from keras_resnet.training.losses import check_outputs as check_outputs
from keras_resnet.training.recipe import Recipe as Recipe
from keras_resnet.training.recipe import list_recipes as list_recipes
from keras_resnet.training.run import Run as Run
from keras_resnet.training.schedules import OneCycle as OneCycle
