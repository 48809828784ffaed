"""Comparing two models example by example."""

from typing import Any

import numpy as np

from keras_resnet.arguments import check_int
from keras_resnet.errors import BadValue
from keras_resnet.evaluation.predictor import dataset_of, open_predictor
from keras_resnet.tasks.metrics import interval_of, resample


def paired_difference(
    one: Any,
    other: Any,
    data: Any = None,
    *,
    data_dir: Any = None,
    split: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Compares two models example by example, which sees smaller differences than two intervals do.

    Examples are drawn again with replacement, the same for both models; whole groups where the data have them.

    Args:
        one: a run folder, a `.keras` file, a `Run` or a `keras.Model`.
        other: another one, for the same task and classes.
        data: a spec or a loaded dataset; None for the data of the first run, which must be those of the second too.
        data_dir: where TFDS finds its prepared data sets.
        split: as for `evaluate`; it must be of examples that neither model was trained on.
        resamples: how many, >= 1.
        seed: of the draws, >= 0.

    Returns:
        `split`; `examples`; for each figure `NAME` (of a classifier `accuracy` and `loss`, of multi-label targets
        the share of right answers and the loss, of a regression `mae` and `mse`) `NAME`, a pair, `NAME_difference`, the
        second minus the first, and `NAME_difference_interval`, of 95 %; `differs`, whether 0 lies outside of the
        interval of the first figure; for a classifier `only_first_right`, `only_second_right` and `mcnemar_p`, the
        exact probability of so uneven a division if both were as good (for independent examples).

    Raises:
        TypeError, ValueError: the models are for different tasks, classes or data.

    Source:
        McNemar 1947, with the exact binomial test; Efron and Tibshirani 1993, section 16, for the paired bootstrap.
    """
    check_int("resamples", resamples)
    first, second = open_predictor(one), open_predictor(other)
    if first.task is not second.task or set(first.record.class_names) != set(second.record.class_names):
        raise BadValue(
            f"One model is for a {first.task} of the classes {list(first.record.class_names)}, the other for a "
            f"{second.task} of {list(second.record.class_names)}. A difference is of models for the same. Choose "
            "others."
        )
    dataset, split = dataset_of(first, data, data_dir, split)
    if data is None and second.run is not None and second.run.about.fingerprint != dataset.fingerprint:
        raise BadValue(
            f"The second run was trained on data={second.run.about.data!r}, which are other data than the first one's, "
            "or divided otherwise. A difference is of the same examples. Name data that neither was trained on."
        )
    mine = first.predict(dataset, split)
    theirs = second.predict(dataset_of(second, dataset, None, split)[0], split)
    metrics = {metric.name: metric for metric in mine.task.metrics if metric.name in mine.task.paired}
    result: dict[str, Any] = {"split": split, "examples": len(mine)}
    draws = [mine.counts * times for times in resample(len(mine), mine.groups, resamples, seed)]
    for name in mine.task.paired:
        metric = metrics[name]
        result[name] = [float(metric(each)[0]) for each in (mine, theirs)]
        result[f"{name}_difference"] = result[name][1] - result[name][0]
        # A resample of examples that all weigh 0 says nothing: NaN, which does not count.
        samples = np.concatenate([metric(theirs, weights) - metric(mine, weights) for weights in draws])
        result[f"{name}_difference_interval"] = interval_of(samples)
    low, high = result[f"{mine.task.paired[0]}_difference_interval"]
    result["differs"] = bool(low > 0 or high < 0)
    if mine.task.is_exclusive:
        first_right, second_right = (each.right[mine.counts > 0] for each in (mine, theirs))
        only_first, only_second = int((first_right & ~second_right).sum()), int((second_right & ~first_right).sum())
        result |= {"only_first_right": only_first, "only_second_right": only_second}
        result["mcnemar_p"] = mcnemar(only_first, only_second)
    return result


def mcnemar(only_first: int, only_second: int) -> float:
    """Returns the two-sided probability of so uneven a division of the examples that one model alone gets right."""
    from scipy.stats import binomtest

    total = only_first + only_second
    return float(binomtest(only_first, total, 0.5).pvalue) if total else 1.0
