"""How fast a pipeline runs, said once: TensorFlow's autotuner is left out.

The thread that tunes a pipeline sleeps 10 ms, then twice as long each time, up to a minute, and an iterator that is let
go often waits for it to wake: `fit`, `evaluate` and `predict` then end up to twice as late as their work did
(TensorFlow 2.21; `benchmarks/loop_ends.py`).
"""

import os

import tensorflow as tf

# A pipeline decodes with every core, and has a few batches ready before they are asked for.
PARALLEL_CALLS = os.cpu_count() or 1
PREFETCHED_BATCHES = 4


def paced(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Returns batches that are made ahead of time, and whose iterators end at once."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(PREFETCHED_BATCHES).with_options(options)
