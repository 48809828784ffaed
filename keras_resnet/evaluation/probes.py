"""How good frozen features are: neighbors, and a linear classifier."""

from typing import Any

import keras
import numpy as np

from keras_resnet import data as datasets
from keras_resnet.arguments import check_int
from keras_resnet.errors import BadValue
from keras_resnet.evaluation.predictor import Predictor, check_channels, dataset_of, open_features
from keras_resnet.tasks import TASKS
from keras_resnet.tasks.multilabel import is_known
from keras_resnet.training.scoring import predict_all

BATCH_SIZE = 256


def probe(
    run_or_model: Any, data: Any = None, *, data_dir: Any = None, neighbors: int = 20, seed: int = 0
) -> dict[str, Any]:
    """Judges the pooled features of a network: can other classes be told apart with them, without training it?

    Features are taken once, for the training and the test split. Two classifiers of scikit-learn are fitted on those of
    the training split: neighbors by cosine similarity, weighted by it, and logistic regression on standardised
    features.

    Args:
        run_or_model: a run folder, a `.keras` file, a `Run` or a `keras.Model`; the head is not used, so that
            its classes need not be those of the data.
        data: a spec or a loaded dataset; None for the data of the run.
        data_dir: where TFDS finds its prepared data sets.
        neighbors: how many vote; at most the number of training examples.
        seed: of the solver.

    Returns:
        `features`, their number; `train_examples` and `test_examples`; `knn_accuracy` and `linear_accuracy`
        on the test split, in [0, 1], beside `guess_accuracy`, that of the commonest training class. Of several labels
        an example `knn_roc_auc` and `linear_roc_auc`, the mean area under ROC of the classes that have one.

    Raises:
        TypeError, ValueError: an argument is not what is allowed, or the data has no classes or no test split, or of
            multi-label targets none that some examples have and others lack.

    Source:
        Neighbors: Wu et al. 2018, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", 3.4.
        Logistic regression: Kornblith et al. 2019, "Do Better ImageNet Models Transfer Better?", section 3.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    check_int("neighbors", neighbors)
    predictor = open_features(run_or_model)
    dataset = dataset_for_features(predictor, data, data_dir)
    task = TASKS[dataset.task]
    if not task.has_classes or not dataset.sizes.get("test"):
        what = "no test split" if task.has_classes else task.labels
        raise BadValue(f"data={dataset.spec!r} has {what}. A probe needs classes, and a test split. Pass other data.")
    network = feature_model(predictor.model)
    (train, labels), (test, truth) = (features_of(network, predictor, dataset, split) for split in ("train", "test"))
    near = KNeighborsClassifier(
        min(neighbors, len(train)), metric="cosine", weights=lambda distances: np.exp((1 - distances) / 0.07)
    )
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, random_state=seed))
    facts = {"features": train.shape[1], "train_examples": len(train), "test_examples": len(test)}
    classifiers = {"knn": near, "linear": linear}
    if labels.ndim == 2:
        return facts | {
            f"{name}_roc_auc": _mean_area(dataset.spec, found, train, labels, test, truth)
            for name, found in classifiers.items()
        }
    facts["guess_accuracy"] = float(np.mean(truth == np.bincount(labels).argmax()))
    return facts | {
        f"{name}_accuracy": float(found.fit(train, labels).score(test, truth)) for name, found in classifiers.items()
    }


def _mean_area(spec: str, classifier: Any, train: Any, labels: Any, test: Any, truth: Any) -> float:
    """Returns the mean area under ROC of the classes that some examples of both splits have, and others lack."""
    from sklearn.metrics import roc_auc_score

    areas = []
    for place in range(labels.shape[1]):
        own, judged = (is_known(part[:, place]) for part in (labels, truth))
        answers, asked = labels[own, place], truth[judged, place]
        if all(0 < part.sum() < len(part) for part in (answers, asked)):
            chances = classifier.fit(train[own], answers).predict_proba(test[judged])[:, 1]
            areas.append(roc_auc_score(asked, chances))
    if not areas:
        raise BadValue(
            f"data={spec!r} has no class that some examples of the training and the test split have and others lack. A "
            "probe needs one. Add examples."
        )
    return float(np.mean(areas))


def dataset_for_features(predictor: Predictor, data: Any, data_dir: Any) -> datasets.Dataset:
    """Returns the data, whose classes may be others than those of the head."""
    if data is None:
        dataset, _ = dataset_of(predictor)
    else:
        dataset = data if isinstance(data, datasets.Dataset) else datasets.load(data, data_dir=data_dir)
    if not _is_gray(predictor, dataset):
        check_channels(predictor, dataset)
    return dataset


def _is_gray(predictor: Predictor, dataset: datasets.Dataset) -> bool:
    """Returns True if pictures are gray and the network takes colors: each of the three is then the gray value."""
    return predictor.record.channel_order == "rgb" and len(dataset.image_shape) == 3 and dataset.image_shape[-1] == 1


def feature_model(model: keras.Model) -> keras.Model:
    """Returns the network up to its pooled features."""
    names = [layer.name for layer in model.layers]
    if "head_pool" not in names:
        raise BadValue(
            f"The model {model.name!r} has no layer 'head_pool'. Features are taken there. Build the model with "
            "include_top=True or pooling='avg'."
        )
    return keras.Model(model.input, model.get_layer("head_pool").output)


def features_of(
    network: keras.Model, predictor: Predictor, dataset: datasets.Dataset, split: str, most: int | None = None
) -> Any:
    """Returns features and labels of the examples of a split; of `most` at most, evenly from the whole."""
    sizing = datasets.sizing(predictor.record, dataset.image_shape)
    if most is None:
        batches: Any = dataset.batches(split, BATCH_SIZE, **sizing)
    else:
        step = -(-dataset.sizes[split] // most)
        batches = dataset.batches(split, 1, **sizing).shard(step, 0).unbatch().batch(BATCH_SIZE)
    if _is_gray(predictor, dataset):
        batches = ((np.repeat(images, 3, axis=-1), *rest) for images, *rest in batches)
    features, labels = predict_all(network, batches)
    return features, labels if not TASKS[dataset.task].is_exclusive else labels.astype("int64").reshape(-1)
