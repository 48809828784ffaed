"""The trials of a search in TensorBoard's HPARAMS page."""

from keras_resnet.tuning.definition import Definition
from keras_resnet.tuning.ledger import Ledger
from keras_resnet.tuning.trial import SCORED, Trial


def write(ledger: Ledger, definition: Definition, trial: Trial) -> None:
    """Writes what a trial tried and what it scored, under `logs/` of the search.

    Args:
        ledger: of the search.
        definition: of the search.
        trial: that has ended; one without a score is left out.
    """
    if trial.status not in SCORED:
        return
    import tensorflow as tf
    from tensorboard.plugins.hparams import api

    folder = ledger.path / "logs"
    metric = definition.metric
    if not (folder / "experiment").exists():
        dimensions = [api.HParam(dimension.name, _domain(api, dimension)) for dimension in definition.space]
        with tf.summary.create_file_writer(str(folder / "experiment")).as_default():
            api.hparams_config(hparams=dimensions, metrics=[api.Metric(metric)])
    with tf.summary.create_file_writer(str(folder / trial.id)).as_default():
        tried = {name: value for name, value in trial.values.items() if not name.startswith("tuner/")}
        api.hparams(tried, trial_id=trial.id)
        for epoch, value in enumerate(trial.curve, start=1):
            tf.summary.scalar(metric, value, step=epoch)


def _domain(api, dimension):  # type: ignore[no-untyped-def]
    if dimension.choices:
        return api.Discrete(list(dimension.choices))
    if dimension.is_integer:
        return api.IntInterval(int(dimension.low), int(dimension.high))
    return api.RealInterval(float(dimension.low), float(dimension.high))
