import csv
import dataclasses
import json
import math
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet import data, preprocessing, training
from keras_resnet.training import state
from keras_resnet.training.run import locked

SMALL = {"model.width": 4, "train.epochs": 2, "train.batch_size": 128, "optimizer.ema_momentum": 0.9}
FILES = {
    *("run.json", "recipe.toml", "history.csv", "best.keras", "final.keras", "last", "logs", "curves.png"),
    *("confusion.png", ".lock"),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return training.fit(
        "quick", model="resnet10", out=tmp_path_factory.mktemp("fit") / "run", overrides=SMALL, verbose=0
    )


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_run_leaves_its_folder(run):
    assert {path.name for path in run.path.iterdir()} == FILES
    assert sorted(path.name for path in (run.path / "last").iterdir()) == [
        "epoch-000001.safetensors",
        "epoch-000002.safetensors",
    ]
    assert (run.path / "curves.png").read_bytes().startswith(b"\x89PNG")
    about = json.loads((run.path / "run.json").read_text("utf-8"))
    assert about["status"] == "complete" and about["class_names"] == list("0123456789")
    assert about["fingerprint"] == data.load("digits").fingerprint
    assert about["optimizer_steps"] == 2 * about["steps_per_epoch"] == 20 and about["skipped_steps"] == 0
    made_for = training.recipe.Defaults(model="resnet10", data="digits")
    assert training.Recipe.load(run.path / "recipe.toml") == dataclasses.replace(run.recipe, defaults=made_for)


def test_the_history_has_a_row_an_epoch(run):
    with open(run.path / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    names = {"epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"}
    names |= {"cross_entropy", "val_cross_entropy"}
    assert set(rows[0]) - names == {"images_per_second", "epoch_seconds"}
    assert run.history["loss"] == [float(row["loss"]) for row in rows]


def test_tensorboard_finds_losses_metrics_and_learning_rate(run):
    for folder, names in (("train", ["loss", "accuracy", "learning_rate"]), ("validation", ["loss", "accuracy"])):
        (events,) = (run.path / "logs" / folder).iterdir()
        values = [value for event in tf.compat.v1.train.summary_iterator(str(events)) for value in event.summary.value]
        for name in names:
            column = run.history[name if folder == "train" else f"val_{name}"]
            got = [float(tf.make_ndarray(value.tensor)) for value in values if value.tag == f"epoch_{name}"]
            assert got == pytest.approx(column, rel=1e-5)


def test_the_saved_model_takes_pixels_and_returns_logits(run):
    model = keras.saving.load_model(run.path / "best.keras")
    assert preprocessing.for_model(model).normalization.scheme == "unit"
    assert model.get_layer("stage3_block1") and not any("augment" in layer.name for layer in model.layers)
    images, labels = run.dataset.arrays("test")
    logits = model.predict(images, verbose=0)
    assert run.metrics["test"]["accuracy"] == pytest.approx((logits.argmax(axis=1) == labels).mean())
    assert run.metrics["test"]["examples"] == 360 and run.metrics["validation"]["examples"] == 144


def test_a_run_is_read_back(run):
    loaded = training.Run.load(run.path)
    assert (loaded.recipe, loaded.metrics, loaded.history) == (run.recipe, run.metrics, run.history)
    assert loaded.class_names == run.dataset.class_names and loaded.dataset.fingerprint == run.dataset.fingerprint
    assert "test       accuracy" in str(loaded)


def test_saved_models_hold_the_averaged_weights(run):
    description, values = state.read_newest(run.path / "last")
    rows = [tuple(row) for row in description["variables"]]
    final = keras.saving.load_model(run.path / "final.keras", compile=False)
    recipe = run.recipe
    model = keras.models.clone_model(final)
    model.compile(**recipe.compile_args(steps_per_epoch=10, from_logits=True))
    model.optimizer.build(model.trainable_variables)
    average = recipe.optimizer.weight_average()
    average.build(model)
    state.restore(model, description, values, average.variables)
    raw = [np.array(weight) for weight in model.trainable_variables]
    with average.in_place():
        for weight, kept in zip(model.trainable_variables, final.trainable_variables, strict=True):
            assert np.array_equal(weight, kept)
        inside = model.evaluate(run.dataset.batches("validation", 256), return_dict=True, verbose=0)
    assert not all(np.array_equal(old, kept) for old, kept in zip(raw, final.trainable_variables, strict=True))
    assert all(np.array_equal(old, new) for old, new in zip(raw, model.trainable_variables, strict=True))
    # What validation showed after the last epoch was the averaged model too.
    assert run.history["val_loss"][-1] == pytest.approx(inside["loss"], rel=1e-5)
    assert len(rows) == len(values)


def test_a_finished_run_is_complete_and_stays_as_it_is(run, capsys):
    before = contents(run.path)
    again = training.fit("quick", model="resnet10", out=run.path, overrides=SMALL, resume=True)
    assert "already complete" in capsys.readouterr().out
    assert again.metrics == run.metrics and contents(run.path) == before


def test_a_run_that_goes_on_remembers_recipe_model_and_data(run, capsys):
    again = training.fit(out=run.path, resume=True)
    assert "already complete" in capsys.readouterr().out
    assert (again.recipe, again.description["model"]) == (run.recipe, run.description["model"])


def test_saved_models_carry_no_optimizer(run):
    # Keras forgets which weights an optimizer spares from decay.
    for name in ("best", "final"):
        model = keras.saving.load_model(run.path / f"{name}.keras")
        assert not model.compiled
        assert model.dtype_policy == run.model.dtype_policy


def test_a_folder_with_a_run_is_refused_without_resume(run):
    before = contents(run.path)
    with pytest.raises(ValueError, match=r"holds a run already \(complete\).*--resume"):
        training.fit("quick", model="resnet10", out=run.path, overrides=SMALL)
    assert contents(run.path) == before


def test_a_resume_with_another_recipe_or_model_lists_what_differs(run):
    with pytest.raises(ValueError) as caught:
        training.fit(
            "quick", model="resnet34", out=run.path, overrides={**SMALL, "model.width": 5}, seed=1, resume=True
        )
    for part in ("recipe.model.width: 4 in the folder, 5 now", "recipe.train.seed: 0", "model: 'resnet10'"):
        assert part in str(caught.value)


def test_a_resume_with_other_data_is_refused(run, tmp_path):
    images, labels = run.dataset.arrays("train")
    np.savez(tmp_path / "other.npz", x_train=images, y_train=labels, x_test=images[:50], y_test=labels[:50])
    with pytest.raises(ValueError, match="fingerprint: .* in the folder"):
        training.fit(
            "quick", model="resnet10", data=f"npz:{tmp_path / 'other.npz'}", out=run.path, overrides=SMALL, resume=True
        )


def test_a_folder_in_use_is_refused(tmp_path):
    holder = (
        "import sys, time, pathlib; from keras_resnet.training.run import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=f"is in use by process {process.pid} on "), locked(tmp_path):
            pass
    finally:
        process.kill()
        process.communicate()
    with locked(tmp_path):  # the system freed it with the process
        pass


def test_a_dry_run_plans_and_writes_nothing(tmp_path):
    planned = training.fit("quick", model="resnet10", out=tmp_path / "run", overrides=SMALL, dry_run=True)
    assert planned.path is None and "planned only" in str(planned) and "1293 train" in str(planned)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"recipe": "quik"}, "Did you mean 'quick'"),
        ({"model": "resnet19"}, "model='resnet19' is not known"),
        ({"data": "digit"}, "Did you mean 'digits'"),
        ({"overrides": {"train.batch_size": 5000}}, "batch_size=5000 is more than the 1293"),
        ({"overrides": {"loss.name": "binary_cross_entropy"}}, "with 10 classes. It takes two"),
        ({"overrides": {"data.normalization": "imagenet"}}, "needs 3 channels"),
        ({"resume": True, "out": None}, "resume=True was given without out"),
        ({"seed": -1}, "train.seed must be an int"),
    ],
)
def test_a_mistake_is_told_before_anything_is_written(tmp_path, arguments, message):
    with pytest.raises(ValueError) as caught:
        training.fit(**{"out": tmp_path / "run", **arguments})
    assert message in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_run_finds_its_data_from_any_working_directory(tmp_path, monkeypatch):
    labels = np.arange(120) % 2
    images = np.random.default_rng(0).integers(0, 200, (120, 8, 8, 1), "uint8") + labels[:, None, None, None] * 50
    np.savez(tmp_path / "set.npz", x=images.astype("uint8"), y=labels)
    monkeypatch.chdir(tmp_path)
    overrides = {**SMALL, "train.epochs": 1, "train.batch_size": 32}
    training.fit("quick", model="resnet10", data="npz:set.npz", out="run", overrides=overrides, verbose=0)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert training.Run.load(tmp_path / "run").dataset.sizes["test"] > 0
    assert training.fit(data=f"npz:{tmp_path / 'set.npz'}", out=tmp_path / "run", resume=True).path == tmp_path / "run"


def test_the_recipe_says_what_happens_to_bad_images(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(60):
            Image.new("L", (8, 8), index).save(tmp_path / "photos" / name / f"{index}.png")
    (tmp_path / "photos" / "cat" / "broken.png").write_bytes(b"")
    arguments = {"data": f"folder:{tmp_path / 'photos'}", "dry_run": True}
    with pytest.raises(data.BadImageError, match="broken.png.*--set data.on_bad_image=skip"):
        training.fit("quick", model="resnet10", overrides=SMALL, **arguments)
    planned = training.fit(
        "quick", model="resnet10", overrides={**SMALL, "train.batch_size": 8, "data.on_bad_image": "skip"}, **arguments
    )
    assert sum(planned.dataset.sizes.values()) == 120
    assert any("broken.png" in line for line in planned.dataset.report)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written"):
        training.fit("quick", model="resnet10", out=tmp_path / "file" / "run", overrides=SMALL)
    with pytest.raises(ValueError, match="is a file"):
        training.fit("quick", model="resnet10", out=tmp_path / "file", overrides=SMALL)


class At(keras.callbacks.Callback):
    """Does something at one batch of one epoch."""

    def __init__(self, epoch, batch, what):
        super().__init__()
        self.epoch, self.batch, self.what = epoch, batch, what

    def on_epoch_begin(self, epoch, logs=None):
        self.current = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.current, batch) == (self.epoch, self.batch):
            self.what(self.model)


def poison(model):
    weight = model.get_layer("predictions").bias
    weight.assign(np.full(weight.shape, np.nan, "float32"))


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_good_files(tmp_path):
    with pytest.raises(training.TrainingDiverged) as caught:
        training.fit(
            "quick", model="resnet10", out=tmp_path / "run", overrides=SMALL, callbacks=[At(1, 3, poison)], verbose=0
        )
    message = str(caught.value)
    assert "The loss is nan at optimizer step 14, learning rate" in message
    last = float(message.split("last finite mean loss of an epoch was ")[1].split(".  ")[0].split(". ")[0])
    assert 0 < last < 10
    description, values = state.read_newest(tmp_path / "run" / "last")
    assert description["epochs"] == 1 and all(np.isfinite(value).all() for value in values)
    best = keras.saving.load_model(tmp_path / "run" / "best.keras", compile=False)
    assert all(np.isfinite(weight).all() for weight in map(np.array, best.weights))
    assert not (tmp_path / "run" / "final.keras").exists()


def interrupt(model):
    raise KeyboardInterrupt


def values_of(folder):
    description, values = state.read_newest(folder / "last")
    return [(tuple(row), value.tobytes()) for row, value in zip(description["variables"], values, strict=True)]


@pytest.mark.slow
def test_an_interrupted_run_goes_on_where_it_stood_and_ends_with_the_same_bits(run, tmp_path):
    with pytest.raises(training.Interrupted, match="after 1 of 2 epochs.* --resume"):
        training.fit(
            "quick", model="resnet10", out=tmp_path / "run", overrides=SMALL, callbacks=[At(1, 3, interrupt)], verbose=0
        )
    assert training.Run.load(tmp_path / "run").description["status"] == "running"
    resumed = training.fit("quick", model="resnet10", out=tmp_path / "run", overrides=SMALL, resume=True, verbose=0)
    assert values_of(resumed.path) == values_of(run.path)
    assert resumed.metrics == run.metrics


@pytest.mark.slow
def test_early_stopping_keeps_the_best(tmp_path):
    words = {**SMALL, "train.epochs": 9, "train.early_stopping_patience": 1, "optimizer.learning_rate": 1e-12}
    stopped = training.fit("quick", model="resnet10", out=tmp_path / "run", overrides=words, verbose=0)
    assert stopped.description["epochs_trained"] < 9
    best = stopped.description["best_epoch"]
    assert stopped.history["val_loss"][best - 1] == min(stopped.history["val_loss"])


@pytest.mark.slow
def test_a_regression_is_trained_and_scored(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (96, 8, 8, 1), "uint8")
    values = images.mean(axis=(1, 2, 3)).astype("float32") / 255
    np.savez(tmp_path / "values.npz", x_train=images, y_train=values, x_test=images, y_test=values)
    words = {
        **SMALL,
        "train.batch_size": 32,
        "loss.name": "mean_squared_error",
        "data.normalization": "dataset",
        "optimizer.learning_rate": 0.001,
    }
    recipe = training.Recipe().replace(words)
    got = training.fit(recipe, model="resnet10", data=f"npz:{tmp_path / 'values.npz'}", out=tmp_path / "run", verbose=0)
    assert set(got.metrics["test"]) == {"examples", "mse", "mae", "mae_interval", "r2"}
    assert got.class_names == () and not (tmp_path / "run" / "confusion.png").exists()
    assert math.isfinite(got.history["val_mae"][-1])
    assert training.Run.load(got.path).dataset.fingerprint == got.dataset.fingerprint


@pytest.mark.slow
def test_two_classes_train_under_binary_cross_entropy(tmp_path):
    images, labels = data.load("digits").arrays("train")
    two = labels < 2
    np.savez(tmp_path / "two.npz", x_train=images[two], y_train=labels[two], x_test=images[two], y_test=labels[two])
    words = {**SMALL, "train.batch_size": 32, "train.epochs": 12, "loss.name": "binary_cross_entropy"}
    got = training.fit(
        "quick", model="resnet10", data=f"npz:{tmp_path / 'two.npz'}", out=tmp_path / "run", overrides=words, verbose=0
    )
    assert got.model.output_shape == (None, 1)
    assert got.metrics["test"]["accuracy"] > 0.9  # zeros and ones are easy to tell apart


def test_a_strategy_of_tensorflow_is_refused_before_the_first_step(tmp_path):
    import tensorflow as tf

    with (
        tf.distribute.MirroredStrategy(["CPU:0"]).scope(),
        pytest.raises(ValueError, match="scope of a MirroredStrategy.*makes its own"),
    ):
        training.fit("quick", model="resnet10", out=tmp_path / "run", verbose=0)
    assert not (tmp_path / "run").exists()
