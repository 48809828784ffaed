"""Recipes, schedules, weight decay, precision, `fit`, resume and the run folder.

Example:
    >>> from keras_resnet import training
    >>> training.list_recipes()
    ['cifar', 'cifar-he2015', 'distill', 'distill-hinton', 'few-images', ..., 'signals', 'volumes']
"""

from keras_resnet import needs_tensorflow  # noqa: F401
from keras_resnet.training.callbacks import TrainingDiverged as TrainingDiverged
from keras_resnet.training.experiment import Experiment as Experiment
from keras_resnet.training.experiment import resolve as resolve
from keras_resnet.training.folds import Folds as Folds
from keras_resnet.training.folds import cross_validate as cross_validate
from keras_resnet.training.losses import AdjustedCrossEntropy as AdjustedCrossEntropy
from keras_resnet.training.losses import Asymmetric as Asymmetric
from keras_resnet.training.losses import CrossEntropy as CrossEntropy
from keras_resnet.training.losses import Focal as Focal
from keras_resnet.training.losses import MultilabelCrossEntropy as MultilabelCrossEntropy
from keras_resnet.training.losses import OrdinalCrossEntropy as OrdinalCrossEntropy
from keras_resnet.training.losses import SigmoidCrossEntropy as SigmoidCrossEntropy
from keras_resnet.training.losses import check_outputs as check_outputs
from keras_resnet.training.optimizer import WeightAverage as WeightAverage
from keras_resnet.training.range_test import RangeTest as RangeTest
from keras_resnet.training.range_test import lr_find as lr_find
from keras_resnet.training.range_test import preview as preview
from keras_resnet.training.recipe import Recipe as Recipe
from keras_resnet.training.recipe import compare_recipes as compare_recipes
from keras_resnet.training.recipe import list_recipes as list_recipes
from keras_resnet.training.recipe import recipe_fields as recipe_fields
from keras_resnet.training.resume import Resume as Resume
from keras_resnet.training.run import PlannedRun as PlannedRun
from keras_resnet.training.run import Run as Run
from keras_resnet.training.run import differences as differences
from keras_resnet.training.schedule import OneCycle as OneCycle
from keras_resnet.training.scoring import ClassAccuracy as ClassAccuracy
from keras_resnet.training.scoring import MeanRecall as MeanRecall
from keras_resnet.training.state import CheckpointError as CheckpointError
from keras_resnet.training.state import Interrupted as Interrupted
from keras_resnet.training.trainer import fit as fit
