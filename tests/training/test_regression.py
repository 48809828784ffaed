"""A regression is trained in units of its targets' spread, and answers in those of the data, wherever it is read."""

import keras
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import keras_resnet  # noqa: E402
from keras_resnet import cli, evaluation, training  # noqa: E402
from keras_resnet.evaluation.predictor import convert  # noqa: E402

WORDS = {"model.width": 4, "train.epochs": 10, "train.batch_size": 16}


@pytest.fixture(scope="module")
def examples():
    """Pictures, and how bright each half of them is."""
    rng = np.random.default_rng(0)
    levels = rng.uniform(40, 215, (200, 2))
    images = levels[:, None, :, None, None] + rng.normal(0, 8, (200, 8, 2, 4, 1))
    return images.reshape(200, 8, 8, 1).clip(0, 255).astype("uint8"), (levels / 255).astype("float32")


def trained(folder, images, targets, **words):
    folder.mkdir(exist_ok=True)
    np.savez(folder / "d.npz", x=images, y=targets)
    overrides = {**WORDS, **words}
    return training.fit(
        "regression",
        model="resnet10",
        data=f"npz:{folder / 'd.npz'}",
        out=folder / "run",
        overrides=overrides,
        verbose=0,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("factor", "offset"), [(1000.0, 50_000.0), pytest.param(1e-4, 0.0, marks=pytest.mark.exhaustive)]
)
def test_prices_are_learned_as_fractions_are(examples, tmp_path, factor, offset):
    images, targets = examples
    plain, scaled = (
        trained(tmp_path / name, images, values)
        for name, values in (("plain", targets), ("scaled", targets.astype("float64") * factor + offset))
    )
    assert plain.metrics["test"]["r2"] > 0.5
    assert scaled.metrics["test"]["r2"] == pytest.approx(plain.metrics["test"]["r2"], abs=0.02)
    # Figures are in the units of the data, the loss is in those of the spread.
    assert scaled.metrics["test"]["mae"] == pytest.approx(factor * plain.metrics["test"]["mae"], rel=0.1)
    assert scaled.history["loss"][0] == pytest.approx(plain.history["loss"][0], rel=1e-3)
    assert scaled.history["mae"][0] == pytest.approx(factor * plain.history["mae"][0], rel=1e-3)


@pytest.mark.slow
def test_the_loss_is_hubers_of_standardized_targets(examples, tmp_path):
    images, targets = examples
    run = trained(tmp_path, images, targets * 70 + 20, **{"loss.delta": 0.5, "train.epochs": 1})
    model = keras.saving.load_model(run.path / "final.keras")
    labels = run.dataset.split("train").labels.astype("float64")
    mean, scale = labels.mean(axis=0), labels.std(axis=0)
    held, truth = run.dataset.arrays("validation")
    errors = np.abs((np.asarray(model(held, training=False), "float64") - truth) / scale)
    huber = np.where(errors <= 0.5, errors**2 / 2, 0.5 * (errors - 0.25)).mean()
    assert run.history["val_loss"][-1] == pytest.approx(huber, rel=1e-4)
    assert model.layers[-1].name == "targets"
    assert np.allclose(model.layers[-1].scale, scale) and np.allclose(model.layers[-1].offset, mean)


@pytest.mark.slow
def test_every_reader_answers_in_the_units_of_the_data(examples, tmp_path):
    images, targets = examples
    ages = targets[:, 0] * 70 + 20
    run = trained(tmp_path, images, ages)
    assert evaluation.evaluate(run.path)["mae"] == run.metrics["test"]["mae"] < 15
    held, truth = run.dataset.arrays("test")
    expected = np.asarray(run.model(held, training=False))
    assert np.abs(expected[:, 0] - truth).mean() == pytest.approx(run.metrics["test"]["mae"], rel=1e-5)
    exported = keras_resnet.export(run, format="savedmodel", out=tmp_path / "net")
    serve = tf.saved_model.load(str(exported.path / "1")).signatures["serving_default"]
    assert np.abs(serve(images=tf.constant(held, tf.float32))["values"].numpy() - expected).max() < 1e-3


@pytest.mark.slow
def test_weights_of_a_regression_keep_its_units(examples, tmp_path):
    images, targets = examples
    run = trained(tmp_path, images, targets[:, 0] * 500 + 755, **{"train.epochs": 1})
    expected = run.model.predict(images, verbose=0)
    assert np.abs(expected).min() > 100
    convert(run.path, tmp_path / "net.safetensors")
    for weights in (run.path / "best.keras", tmp_path / "net.safetensors"):
        plain = keras_resnet.ResNet10(
            weights=weights, classes=1, classifier_activation=None, input_shape=images.shape[1:]
        )
        found = evaluation.open_predictor(plain, task="regression").model.predict(images, verbose=0)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.slow
def test_a_target_that_never_changes_and_targets_as_they_are(examples, tmp_path):
    images, targets = examples
    constant = np.stack([targets[:, 0], np.full(200, 7.0)], axis=1)
    run = trained(tmp_path / "constant", images, constant, **{"train.epochs": 1})
    assert np.isfinite(run.history["loss"]).all() and float(np.asarray(run.model.layers[-1].scale)[1]) == 1.0
    plain = trained(tmp_path / "plain", images, targets, **{"loss.scale_targets": False, "train.epochs": 1})
    assert plain.model.layers[-1].name == "predictions"
    with pytest.raises(ValueError, match="loss.scale_targets has no effect with loss.name='cross_entropy'"):
        training.Recipe().replace({"loss.scale_targets": False})


@pytest.mark.exhaustive
def test_the_range_test_and_hyperresnet_train_in_the_same_units(examples, tmp_path):
    keras_tuner = pytest.importorskip("keras_tuner")
    from keras_resnet import tuning

    images, targets = examples
    losses, first = [], []
    for factor in (1.0, 1e5):
        np.savez(tmp_path / f"{factor}.npz", x=images, y=targets * factor)
        spec = f"npz:{tmp_path / f'{factor}.npz'}"
        words = {"model.width": 4, "train.batch_size": 16}
        found = training.lr_find("regression", data=spec, out=tmp_path / str(factor), steps=12, overrides=words)
        losses.append(found.losses)
        space = tuning.Space.load("default").fitting(training.Recipe.load("regression"))
        recipe = training.Recipe.load("regression").replace({**words, "train.epochs": 1})
        hypermodel, hp = tuning.HyperResNet(space, recipe, spec), keras_tuner.HyperParameters()
        keras.utils.set_random_seed(0)
        network = hypermodel.build(hp)
        first.append(hypermodel.fit(hp, network, epochs=1, verbose=0).history["loss"][0])
    assert np.allclose(losses[0], losses[1], rtol=1e-3)
    assert first[0] == pytest.approx(first[1], rel=1e-2)


def test_units_of_the_data_are_those_of_the_model(examples, tmp_path, capsys):
    images, targets = examples
    path = tmp_path / "held.npz"
    np.savez(path, x=images, y=targets[:, 0], units=np.array(["years"]))
    overrides = {**WORDS, "train.epochs": 1}
    run = training.fit(
        "regression", model="resnet10", data=f"npz:{path}", out=tmp_path / "run", overrides=overrides, verbose=0
    )
    assert keras_resnet.preprocessing.for_model(run.model).units == ("years",)
    np.save(tmp_path / "one.npy", images[0])
    answer = evaluation.predict(run, tmp_path / "one.npy")[0]
    assert answer["units"] == ["years"]
    assert cli.main(["predict", str(run.path), str(tmp_path / "one.npy")]) == 0
    assert capsys.readouterr().out.splitlines()[-1].strip() == f"{answer['values'][0]:g} years"
    np.savez(path, x=images, y=targets, units=np.array(["years"]))
    with pytest.raises(ValueError, match="Allowed are 2 printable strings"):
        keras_resnet.data.load(f"npz:{path}", task="regression")
