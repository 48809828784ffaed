"""TensorFlow's MultiWorkerMirroredStrategy, with which Keras 3 cannot start `model.fit` by itself."""

import os
import warnings
from collections.abc import Sequence
from typing import Any

import keras

from keras_resnet.distribution.group import report_late_peers
from keras_resnet.distribution.peers import announce_open_server, find_peers
from keras_resnet.errors import BadValue

# On these two processes were seen to give the losses and weights of one; on others the way round may not fit.
TESTED = ("3.13", "3.14", "3.15")
_MENDED = "_keras_resnet_several_machines"


def multi_worker(addresses: Sequence[str] | None = None, index: int | None = None) -> Any:
    """Returns a strategy that trains one model in several processes, on one machine or on many.

    Call it first in the program, before anything is computed; every process runs the same program. Build and compile
    the model in `strategy.scope()`, and give `fit` batches of the global size: each process takes its part of every
    batch. Losses and weights are those of one process; batch norms see the part of their process alone unless they are
    synchronized. It is for TensorFlow; recipes do without it (`distribution.kind`, docs/distributed.md).

    Args:
        addresses: as for `find_peers`.
        index: as for `find_peers`.

    Returns:
        A `tf.distribute.MultiWorkerMirroredStrategy`; `TF_CONFIG` is set for it.

    Raises:
        TypeError, ValueError: as `find_peers`; or TensorFlow has computed already.

    Source:
        Keras issue 20585: `fit` cannot reduce the batches and the metrics of several machines. Both are mended for this
        process when it is called.
    """
    if keras.config.backend() != "tensorflow":
        raise BadValue(
            f"multi_worker is for TensorFlow, and Keras runs on {keras.config.backend()!r}. Allowed is the backend "
            "'tensorflow'. Use keras.distribution on JAX."
        )
    import tensorflow as tf

    peers = find_peers(addresses, index)
    mend_keras()
    print(f"distribution: {peers}", flush=True)
    if peers.count == 1:
        return tf.distribute.get_strategy()
    announce_open_server()
    os.environ["TF_CONFIG"] = peers.tf_config()
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=tf.distribute.experimental.CommunicationImplementation.AUTO
    )
    try:
        with report_late_peers(peers.addresses, peers.index):
            return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    except RuntimeError as error:  # collective operations must be set up before the first computation
        raise BadValue(
            f"TensorFlow has computed already ({error}). A strategy of several machines must be made first. Call "
            "multi_worker before data and models are made."
        ) from error


def share(batches: Any) -> Any:
    """Returns batches of the global size of which each process takes its part, whatever they are made of.

    Every process makes all of them, in the same order and with the same random changes, and keeps its part: draws
    belong to the place of an example in the global batch. By itself TensorFlow may divide files instead, where there
    are some.

    Args:
        batches: a `tf.data.Dataset`, the same in every process.

    Example:
        >>> import tensorflow as tf
        >>> from keras_resnet import distribution
        >>> batches = distribution.share(tf.data.Dataset.range(8).batch(4))
        >>> batches.options().experimental_distribute.auto_shard_policy.name
        'DATA'
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.with_options(options)


def mend_keras() -> None:
    """Mends Keras's trainer for strategies of several machines, once a process; others are left as they were."""
    from keras.src.backend.tensorflow import trainer

    if getattr(trainer, _MENDED, False):
        return
    if not keras.__version__.startswith(tuple(f"{version}." for version in TESTED)):
        warnings.warn(
            f"Training on several machines was tested with Keras {', '.join(TESTED)}, and this is {keras.__version__}.",
            stacklevel=3,
        )
    import tensorflow as tf

    reduce_all, build = trainer.reduce_per_replica, trainer.TensorFlowTrainer._maybe_symbolic_build

    def spans_machines(strategy: Any) -> bool:
        return bool(getattr(strategy.extended, "_in_multi_worker_mode", bool)())

    def reduce_per_replica(values: Any, strategy: Any, reduction: str) -> Any:
        if not spans_machines(strategy) or reduction == "concat":
            return reduce_all(values, strategy, reduction)
        # Losses and metrics are numbers: they have no axis over which Keras could take a mean.
        how = "SUM" if reduction == "sum" else "MEAN"
        return keras.tree.map_structure(lambda value: strategy.reduce(how, value, axis=None), values)

    def _maybe_symbolic_build(self: Any, iterator: Any = None, data_batch: Any = None) -> None:
        strategy = self._distribute_strategy
        if strategy is None or iterator is None or not spans_machines(strategy):
            build(self, iterator, data_batch)
            return
        for _, _, elements in iterator:
            # The shapes of the part of this process are enough; Keras would take the mean of parts that differ.
            batch = next(elements)
            data_batch = keras.tree.map_structure(
                lambda part: strategy.experimental_local_results(part)[0] if _is_distributed(tf, part) else part, batch
            )
            break
        with strategy.scope():
            self._symbolic_build(data_batch=data_batch)

    trainer.reduce_per_replica = reduce_per_replica
    trainer.TensorFlowTrainer._maybe_symbolic_build = _maybe_symbolic_build
    setattr(trainer, _MENDED, True)


def _is_distributed(tf: Any, value: Any) -> bool:
    return isinstance(value, tf.distribute.DistributedValues)
