"""Training of networks that round to 8 bits: a section of a recipe, and what a run of it is good for."""

import keras
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from keras_resnet import models, training  # noqa: E402

SHORT = {"train.epochs": 2, "train.batch_size": 64}


def fitted(out, parent, **options):
    overrides = {**SHORT, **options.pop("overrides", {})}
    options = {"model": "resnet10", "data": "digits", "weights": parent.path, "verbose": 0, **options}
    return training.fit("quantize", out=out, overrides=overrides, **options)


def weights_of(run):
    return keras.saving.load_model(run.path / "final.keras").get_weights()


@pytest.fixture(scope="module")
def run(digits_run, tmp_path_factory):
    return fitted(tmp_path_factory.mktemp("rounded") / "run", digits_run)


def test_a_run_rounds_and_keeps_its_score(run, digits_run):
    assert models.is_quantized(run.model)
    assert run.metrics["test"]["accuracy"] > digits_run.metrics["test"]["accuracy"] - 0.03
    ranges = {w.path: float(w) for w in run.model.weights if w.path.endswith(("/low", "/high"))}
    assert len(ranges) > 30 and np.isfinite(list(ranges.values())).all()
    # What enters the stem are normalized digits, which hold 0 and the brightest pixel.
    assert (ranges["stem/input_range/low"], ranges["stem/input_range/high"]) == pytest.approx((0, 1), abs=1e-6)


def test_kernels_learn(run, digits_run):
    start = models.quantize(digits_run.model).get_layer("stage2_block1").convolutions[0].kernel
    moved = np.abs(np.asarray(run.model.get_layer("stage2_block1").convolutions[0].kernel) - np.asarray(start))
    assert 0 < moved.max() < 0.1


@pytest.mark.slow
def test_a_run_goes_on_with_the_same_bits(run, digits_run, tmp_path):
    fitted(tmp_path / "run", digits_run, report=lambda epoch, figures: epoch == 1)
    again = fitted(tmp_path / "run", digits_run, resume=True)
    assert all(np.array_equal(*pair) for pair in zip(weights_of(run), weights_of(again), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        {"optimizer.accumulation": 2, "optimizer.ema_momentum": 0.9, "augment.mixup": 0.2},
        {"distill.teacher": "parent", "distill.alpha": 0.5, "train.recompute": True},
        pytest.param(
            {"distill.teacher": "parent", "distill.alpha": 0.5, "distill.kind": "features"},
            marks=pytest.mark.exhaustive,
        ),
        pytest.param(
            {"augment.augment_on": "device", "optimizer.name": "adamw", "model.drop_path_rate": 0.1},
            marks=pytest.mark.exhaustive,
        ),
    ],
)
def test_it_goes_with_the_other_parts_of_a_step(overrides, digits_run, tmp_path):
    overrides = {key: str(digits_run.path) if value == "parent" else value for key, value in overrides.items()}
    run = fitted(tmp_path / "run", digits_run, overrides=overrides)
    assert run.metrics["test"]["accuracy"] > digits_run.metrics["test"]["accuracy"] - 0.05


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"train.precision": "mixed_bfloat16"}, "train.precision='mixed_bfloat16'. Allowed is 'float32'"),
        ({"distribution.kind": "mirrored"}, "distribution.kind='mirrored'. Allowed is 'none'"),
    ],
)
def test_what_does_not_go_with_it_is_refused(overrides, message, digits_run, tmp_path):
    with pytest.raises(ValueError, match=message):
        fitted(tmp_path / "run", digits_run, overrides=overrides)
    assert not (tmp_path / "run").exists()


def test_random_weights_are_refused(tmp_path):
    with pytest.raises(ValueError, match="model.weights=''. Allowed is weights of a trained network"):
        training.fit("quantize", model="resnet10", data="digits", out=tmp_path / "run", overrides=SHORT, verbose=0)
    with pytest.raises(ValueError, match="quantize.int8 has no effect without model.weights"):
        training.Recipe().replace({"quantize.int8": True})


@pytest.mark.slow
def test_a_run_is_begun_from_the_folder_of_another(digits_run, tmp_path):
    run = training.fit(
        "finetune", model="resnet10", data="digits", weights=digits_run.path, out=tmp_path, overrides=SHORT, verbose=0
    )
    assert run.recipe.model.weights == str(digits_run.path)
    assert run.metrics["test"]["accuracy"] > digits_run.metrics["test"]["accuracy"] - 0.03


@pytest.mark.slow
def test_a_regression_keeps_its_head(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (120, 8, 8, 1)).astype("uint8")
    images[::2] //= 2
    brightness = images.mean(axis=(1, 2, 3))
    parts = {"x_train": images[:90], "y_train": brightness[:90], "x_test": images[90:], "y_test": brightness[90:]}
    np.savez(tmp_path / "data.npz", **parts)
    options = {"model": "resnet10", "data": f"npz:{tmp_path / 'data.npz'}", "verbose": 0}
    small = {"train.epochs": 12, "train.batch_size": 15, "model.width": 4, "optimizer.learning_rate": 0.02}
    parent = training.fit("regression", out=tmp_path / "parent", overrides=small, **options)
    first = training.fit(
        "quantize",
        out=tmp_path / "run",
        weights=parent.path,
        overrides={"loss.name": parent.recipe.loss.name, "train.epochs": 1, "optimizer.learning_rate": 1e-5},
        **options,
    )
    assert first.metrics["test"]["mae"] == pytest.approx(parent.metrics["test"]["mae"], rel=0.2)
    assert parent.metrics["test"]["mae"] < 0.7 * np.abs(brightness[90:] - np.median(brightness)).mean()


def test_nothing_begins_from_a_network_without_norms(run, tmp_path):
    with pytest.raises(ValueError, match="rounded to 8 bits.*Pass those that they were made of"):
        training.fit("finetune", model="resnet10", data="digits", weights=run.path, out=tmp_path / "new", verbose=0)
    assert not (tmp_path / "new").exists()
