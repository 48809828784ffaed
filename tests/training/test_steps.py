"""Training steps that are not Keras's plain one: accumulation, sharpness-aware minimization, weights, mixed labels."""

import keras
import numpy as np
import pytest

from keras_resnet import data, training
from keras_resnet.training.optimizer import sharpness_aware

SMALL = {"model.width": 4, "train.epochs": 2, "train.batch_size": 64}


def fitted(tmp_path, name="run", **overrides):
    return training.fit(
        "quick",
        model="resnet10",
        out=tmp_path / name,
        overrides={**SMALL, **overrides},
        verbose=0,
        score=(),
        resume=(tmp_path / name).exists(),
    )


def weights_of(run):
    return keras.saving.load_model(run.path / "final.keras").get_weights()


def test_accumulated_gradients_make_the_step_of_the_larger_batch():
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(8, 3)).astype("float32"), rng.integers(0, 2, 8)
    found = []
    for size, accumulation in ((8, 1), (4, 2)):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        recipe = training.Recipe().replace(
            {"optimizer.accumulation": accumulation, "schedule.name": "constant", "optimizer.weight_decay": 0.0}
        )
        model.compile(**recipe.compile_args(steps_per_epoch=8 // size, from_logits=True))
        model.fit(images, labels, batch_size=size, shuffle=False, verbose=0, epochs=3)
        found.append(model.get_weights())
    assert all(np.allclose(one, two, atol=1e-6) for one, two in zip(*found, strict=True))


@pytest.mark.slow
def test_a_run_with_accumulation_counts_its_steps_and_resumes_bit_for_bit(tmp_path):
    whole = fitted(tmp_path, **{"optimizer.accumulation": 3})
    assert whole.description["optimizer_steps"] == 2 * 20 // 3

    def stop(epoch, figures):
        return epoch == 1

    words = {**SMALL, "optimizer.accumulation": 3}
    training.fit("quick", model="resnet10", out=tmp_path / "two", overrides=words, verbose=0, score=(), report=stop)
    again = training.fit(
        "quick", model="resnet10", out=tmp_path / "two", overrides=words, verbose=0, score=(), resume=True
    )
    assert all(np.array_equal(*pair) for pair in zip(weights_of(whole), weights_of(again), strict=True))


def test_a_sharpness_aware_step_is_the_one_of_the_paper():
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
    labels = np.arange(16) % 3
    inputs = keras.Input((4,))
    outputs = keras.layers.Dense(3)(keras.layers.BatchNormalization()(inputs))
    model = sharpness_aware(keras.Model)(inputs, outputs)
    model.radius = 0.3
    plain = keras.Model(inputs, outputs)
    before = [np.array(value) for value in plain.get_weights()]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def gradients():
        with tf.GradientTape() as tape:
            value = loss(labels, plain(images, training=True))
        return [np.array(slope) for slope in tape.gradient(value, [v.value for v in plain.trainable_variables])]

    first = gradients()
    moved = [np.array(variable) for variable in plain.non_trainable_variables]
    length = 0.3 / np.sqrt(sum((slope**2).sum() for slope in first))
    for variable, slope in zip(plain.trainable_variables, first, strict=True):
        variable.assign_add(slope * length)
    second = gradients()
    plain.set_weights(before)
    expected = [np.array(v) - 0.1 * slope for v, slope in zip(plain.trainable_variables, second, strict=True)]
    model.compile(keras.optimizers.SGD(0.1), loss, jit_compile=False)
    model.train_on_batch(images, labels)
    assert all(np.allclose(*pair, atol=1e-6) for pair in zip(model.trainable_variables, expected, strict=True))
    # Moving averages are those of one pass.
    assert all(np.allclose(*pair, atol=1e-6) for pair in zip(model.non_trainable_variables, moved, strict=True))
    assert not np.allclose(first[0], second[0])


@pytest.mark.slow
def test_a_sharpness_aware_run_trains_saves_a_plain_model_and_resumes_bit_for_bit(tmp_path):
    whole = fitted(tmp_path, **{"optimizer.sam_radius": 0.05})
    assert whole.history["loss"][1] < whole.history["loss"][0]
    assert type(keras.saving.load_model(whole.path / "best.keras")).__name__ == "Functional"
    words = {**SMALL, "optimizer.sam_radius": 0.05}
    stop = lambda epoch, figures: True  # noqa: E731
    training.fit("quick", model="resnet10", out=tmp_path / "two", overrides=words, verbose=0, score=(), report=stop)
    again = training.fit(
        "quick", model="resnet10", out=tmp_path / "two", overrides=words, verbose=0, score=(), resume=True
    )
    assert all(np.array_equal(*pair) for pair in zip(weights_of(whole), weights_of(again), strict=True))


def test_two_steps_of_their_own_are_refused(tmp_path):
    class Own(keras.Model):
        def train_step(self, data):
            return super().train_step(data)

    with pytest.raises(ValueError, match="Leave one of them out"):
        training.fit(
            "quick", model="resnet10", overrides={**SMALL, "optimizer.sam_radius": 0.1}, model_class=Own, dry_run=True
        )


def unbalanced(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [180, 20]).astype("int32")
    images = rng.integers(0, 256, (200, 8, 8, 1), "uint8")
    np.savez(tmp_path / "u.npz", x_train=images, y_train=labels)
    return f"npz:{tmp_path / 'u.npz'}"


@pytest.mark.slow
def test_weights_make_rare_classes_count_alike(tmp_path):
    spec = unbalanced(tmp_path)
    chances = {}
    for balance in ("none", "weights"):
        words = {"model.width": 4, "train.epochs": 6, "train.batch_size": 32, "optimizer.learning_rate": 0.02}
        run = training.fit(
            "quick",
            model="resnet10",
            data=spec,
            out=tmp_path / balance,
            overrides={**words, "data.balance": balance, "loss.label_smoothing": 0.0},
            verbose=0,
            score=(),
        )
        images, _ = run.dataset.arrays("train")
        logits = keras.saving.load_model(run.path / "final.keras").predict(images, verbose=0)
        chances[balance] = float((1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))).mean())
    # Noise tells nothing, so that the chance of the rare class is its share, or a half where it counts alike.
    assert chances["none"] < 0.3 < chances["weights"]


@pytest.mark.slow
def test_labels_that_are_mixed_train_and_validate(tmp_path):
    run = fitted(tmp_path, **{"augment.mixup": 0.2, "augment.cutmix": 1.0, "augment.repeats": 2})
    assert 0 < run.history["val_accuracy"][-1] <= 1 and np.isfinite(run.history["loss"]).all()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"augment.mixup": 0.2, "data.balance": "weights"}, "more than one class"),
        ({"augment.mixup": 0.2, "loss.name": "huber"}, "regression targets"),
    ],
)
def test_what_does_not_go_together_is_refused_before_a_folder_is_made(overrides, message, tmp_path):
    recipe = training.Recipe().replace({**SMALL, **overrides})
    spec = "digits"
    if "loss.name" in overrides:
        np.savez(tmp_path / "r.npz", x_train=np.zeros((99, 8, 8, 1), "uint8"), y_train=np.linspace(0, 1, 99))
        spec = f"npz:{tmp_path / 'r.npz'}"
    with pytest.raises(ValueError, match=message):
        training.fit(recipe, model="resnet10", data=spec, out=tmp_path / "run", verbose=0)
    assert not (tmp_path / "run").exists()


def test_an_example_repeats_itself_in_a_batch_and_an_epoch_sees_fewer(tmp_path):
    images = np.arange(40, dtype="uint8").reshape(40, 1, 1, 1) * np.ones((1, 4, 4, 1), "uint8")
    np.savez(tmp_path / "d.npz", x_train=images, y_train=np.arange(40) % 2)
    dataset = data.load(f"npz:{tmp_path / 'd.npz'}", validation_fraction=0.0, test_fraction=0.0)
    batches = dataset.training_batches(8, seed=0, repeats=4).take(5)
    seen = [batch[:, 0, 0, 0] for batch, _ in batches.as_numpy_iterator()]
    assert all(len(set(batch)) == 2 and np.array_equal(batch[:4], np.repeat(batch[:1], 4)) for batch in seen)
    assert len(set(np.concatenate(seen))) == 10
    once = [batch for batch, _ in dataset.training_batches(8, seed=0).take(5).as_numpy_iterator()]
    assert len(set(np.concatenate(once)[:, 0, 0, 0])) == 40


class NanAtStep(keras.Model):
    """Its loss is NaN in the thirteenth step, and from then on."""

    def compute_loss(self, *args, **options):
        loss = super().compute_loss(*args, **options)
        return keras.ops.where(self.optimizer.iterations == 12, np.nan, 1.0) * loss


EXECUTIONS = {"train.steps_per_execution": 8, "optimizer.ema_momentum": 0.9}


@pytest.fixture(scope="module")
def in_executions(tmp_path_factory):
    return fitted(tmp_path_factory.mktemp("executions"), **EXECUTIONS)


def test_several_steps_in_one_call_are_the_steps_one_by_one(in_executions, tmp_path):
    """20 steps are calls of 8, 8 and 4: Keras's own third call would take 8, four of them of the next epoch."""
    one_by_one = fitted(tmp_path, **{"optimizer.ema_momentum": 0.9})
    assert in_executions.description["optimizer_steps"] == 40
    for name, values in one_by_one.history.items():
        if name not in ("epoch_seconds", "images_per_second"):
            assert in_executions.history[name] == pytest.approx(values, rel=1e-5), name
    assert all(np.array_equal(*pair) for pair in zip(weights_of(one_by_one), weights_of(in_executions), strict=True))


def test_the_step_whose_loss_is_not_finite_is_named_inside_a_call(tmp_path):
    words = {**SMALL, "train.steps_per_execution": 8}
    with pytest.raises(training.TrainingDiverged, match="at optimizer step 13,"):
        training.fit("quick", model="resnet10", out=tmp_path / "run", overrides=words, model_class=NanAtStep, verbose=0)


@pytest.mark.slow
def test_a_run_stopped_between_two_calls_goes_on_with_the_same_bits(in_executions, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 15 and self.model.optimizer.iterations > 20:
                raise KeyboardInterrupt

    words = {**SMALL, **EXECUTIONS, "train.save_every": "5"}
    options = {"model": "resnet10", "out": tmp_path / "run", "overrides": words, "verbose": 0, "score": ()}
    with pytest.raises(KeyboardInterrupt):
        training.fit("quick", callbacks=[Stop()], **options)
    assert list((tmp_path / "run" / "last").glob("epoch-000001-*"))  # every fifth step is passed inside a call
    again = training.fit("quick", resume=True, **options)
    assert all(np.array_equal(*pair) for pair in zip(weights_of(in_executions), weights_of(again), strict=True))


def test_what_cannot_take_several_steps_is_refused():
    for words, message in (
        ({"train.steps_per_execution": 2}, "Allowed is one device of TensorFlow"),
        ({"train.jit_compile": "on"}, "XLA has no collective operations"),
    ):
        with pytest.raises(ValueError, match=message):
            training.fit("quick", model="resnet10", overrides={**words, "distribution.kind": "mirrored"}, dry_run=True)
    with pytest.raises(ValueError, match="train.steps_per_execution"):
        training.Recipe().replace({"train.steps_per_execution": 0})


@pytest.mark.exhaustive
def test_a_step_compiled_with_xla_resumes_bit_for_bit(tmp_path):
    whole = fitted(tmp_path, **{"train.jit_compile": "on"})
    assert whole.history["loss"][1] < whole.history["loss"][0]
    words = {**SMALL, "train.jit_compile": "on"}
    options = {"model": "resnet10", "out": tmp_path / "two", "overrides": words, "verbose": 0, "score": ()}
    training.fit("quick", report=lambda epoch, figures: True, **options)
    again = training.fit("quick", resume=True, **options)
    assert all(np.array_equal(*pair) for pair in zip(weights_of(whole), weights_of(again), strict=True))
