"""Steps that a device does not wait for: how often the host reads, what callbacks get, and what is checked late."""

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

from keras_resnet import training  # noqa: E402
from keras_resnet.training import state  # noqa: E402
from keras_resnet.training.callbacks import FiniteLoss  # noqa: E402
from tests.training.test_divergence import Poison  # noqa: E402

pytestmark = pytest.mark.slow

SMALL = {"model.width": 4, "train.epochs": 1, "train.batch_size": 8}


def trained(folder, steps, overrides=(), callbacks=()):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (8 * steps, 8, 8, 1), "uint8"), np.arange(8 * steps) % 4
    folder.mkdir()
    np.savez(folder / "data.npz", x_train=x, y_train=y, x_val=x[:8], y_val=y[:8])
    words = {"model": "resnet10", "data": f"npz:{folder / 'data.npz'}", "verbose": 0, "score": ()}
    overrides = {**SMALL, **dict(overrides)}
    return training.fit("quick", out=folder / "run", overrides=overrides, callbacks=callbacks, **words)


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        pytest.param({"optimizer.ema_momentum": 0.9, "optimizer.accumulation": 2}, marks=pytest.mark.slow),
        pytest.param({"optimizer.ema_momentum": 0.9, "train.precision": "mixed_float16"}, marks=pytest.mark.slow),
    ],
)
def test_the_host_reads_no_device_value_in_a_step(tmp_path, monkeypatch, overrides):
    (base,) = [each for each in type(tf.constant(0)).__mro__ if "_numpy" in vars(each)]
    read, reads = base._numpy, []
    monkeypatch.setattr(base, "_numpy", lambda tensor: reads.append(tensor) or read(tensor))
    count, kinds = FiniteLoss.on_train_batch_end, set()

    def watched(callback, batch, logs):
        kinds.update(map(tf.is_tensor, logs.values()))
        count(callback, batch, logs)

    monkeypatch.setattr(FiniteLoss, "on_train_batch_end", watched)
    counts = {}
    for steps in (16, 80):
        reads.clear()
        trained(tmp_path / str(steps), steps, overrides)
        counts[steps] = len(reads)
    # Keras asks once per step whether the data have ended, of a value that its own function leaves on the host. The
    # loss and the loss scale are read after every 16 steps.
    assert counts[80] - counts[16] <= 64 + 4 * 64 // 16
    assert kinds == {True}  # numbers would have been read


def test_callbacks_of_a_user_get_numbers(tmp_path):
    kinds = set()
    look = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: kinds.update(map(type, logs.values())))
    trained(tmp_path / "run", 2, callbacks=[look])
    assert kinds == {float}


@pytest.mark.parametrize("batch", [5, 20])
def test_no_state_is_saved_after_a_loss_that_is_not_finite(tmp_path, batch):
    with pytest.raises(training.TrainingDiverged, match=f"at optimizer step {batch + 1}, "):
        trained(tmp_path / "run", 40, {"train.save_every": "4"}, [Poison(0, batch)])
    description, values = state.read_newest(tmp_path / "run" / "run" / "last")
    assert description["batches"] == batch // 4 * 4
    assert all(np.isfinite(value).all() for value in values if value.dtype.kind == "f")


@pytest.mark.slow
def test_the_rate_in_the_message_is_that_of_the_step(tmp_path):
    with pytest.raises(training.TrainingDiverged) as caught:
        trained(tmp_path / "run", 40, {"train.save_every": "epoch"}, [Poison(0, 17)])
    rates = []
    note = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: rates.append(rate_of(note)))
    trained(tmp_path / "other", 40, callbacks=[note])
    assert caught.value.step == 18 and caught.value.learning_rate == pytest.approx(rates[17])


def rate_of(callback):
    return float(callback.model.optimizer.learning_rate)
