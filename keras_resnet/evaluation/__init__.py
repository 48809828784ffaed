"""Scores of a trained model, the classes of image files, and what else there is to know of a model.

Example:
    >>> from keras_resnet import evaluation
    >>> evaluation.evaluate("nowhere", "digits")
    Traceback (most recent call last):
    ...
    keras_resnet.errors.BadValue: run_or_model='nowhere' is not there. ...
"""

from keras_resnet import needs_tensorflow  # noqa: F401
from keras_resnet.evaluation import scores as scores
from keras_resnet.evaluation.calibration import Bin as Bin
from keras_resnet.evaluation.calibration import Calibrated as Calibrated
from keras_resnet.evaluation.calibration import PredictionSets as PredictionSets
from keras_resnet.evaluation.calibration import calibrate as calibrate
from keras_resnet.evaluation.calibration import prediction_sets as prediction_sets
from keras_resnet.evaluation.calibration import reliability as reliability
from keras_resnet.evaluation.calibration import set_threshold as set_threshold
from keras_resnet.evaluation.calibration import temperature_of as temperature_of
from keras_resnet.evaluation.embeddings import Embeddings as Embeddings
from keras_resnet.evaluation.embeddings import embed as embed
from keras_resnet.evaluation.embeddings import similar as similar
from keras_resnet.evaluation.label_issues import LabelIssue as LabelIssue
from keras_resnet.evaluation.label_issues import agreement as agreement
from keras_resnet.evaluation.label_issues import label_issues as label_issues
from keras_resnet.evaluation.mistakes import Mistake as Mistake
from keras_resnet.evaluation.mistakes import mistakes as mistakes
from keras_resnet.evaluation.paired import paired_difference as paired_difference
from keras_resnet.evaluation.predictor import Predictor as Predictor
from keras_resnet.evaluation.predictor import average_models as average_models
from keras_resnet.evaluation.predictor import load_model as load_model
from keras_resnet.evaluation.predictor import open_predictor as open_predictor
from keras_resnet.evaluation.probes import probe as probe
from keras_resnet.evaluation.pruning import Pruned as Pruned
from keras_resnet.evaluation.pruning import prune as prune
from keras_resnet.evaluation.robustness import corrupt as corrupt
from keras_resnet.evaluation.robustness import robustness as robustness
from keras_resnet.evaluation.scores import detailed_scores as detailed_scores
from keras_resnet.evaluation.scoring import evaluate as evaluate
from keras_resnet.evaluation.scoring import predict as predict
from keras_resnet.evaluation.scoring import predict_each as predict_each
from keras_resnet.evaluation.scoring import throughput as throughput
from keras_resnet.evaluation.summary import linear_baseline as linear_baseline
from keras_resnet.evaluation.summary import summary as summary
from keras_resnet.training.scoring import predict_all as predict_all
