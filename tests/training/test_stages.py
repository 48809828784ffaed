"""Images that grow while a run goes on, and changes of examples that the training step makes."""

import time

import keras
import numpy as np
import pytest

from keras_resnet import data, training
from keras_resnet.training.inputs import Data
from keras_resnet.training.network import any_size

WORDS = {"model.width": 4, "train.epochs": 4, "data.progressive_from": 0.5, "optimizer.ema_momentum": 0.9}
CHANGES = {"augment.pad_and_crop": 1, "augment.flip": True, "augment.mixup": 0.2}


def state_of(run):
    return [*keras.saving.load_model(run.path / "final.keras").get_weights(), run.history["val_loss"]]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(state_of(one), state_of(other), strict=True))


def test_sizes_grow_to_the_whole_and_stay_there():
    recipe = training.Recipe().replace({"data.progressive_from": 0.5, "data.progressive_until": 0.5})
    assert recipe.data.stages((32, 48, 3), 8) == [
        (1, (16, 24)),
        (2, (20, 30)),
        (3, (24, 36)),
        (4, (28, 42)),
        (8, None),
    ]
    assert training.Recipe().data.stages((32, 32, 3), 8) == [(8, None)]
    with pytest.raises(ValueError, match="Only images can be resized"):
        recipe.data.stages((32, 3), 8)


def test_training_batches_have_the_size_of_their_stage():
    digits = data.load("digits")
    for extra in ({}, {"augment.augment_on": "device", **CHANGES}):
        experiment = training.Experiment.of(training.Recipe.load("quick").replace(extra), digits)
        images, labels = next(iter(experiment.training_batches(size=(5, 6))))
        transforms = experiment.transforms_in_step(size=(5, 6))
        if transforms is not None:
            images, labels = transforms(0, images, labels)
        assert images.shape[1:] == (5, 6, 1)
    # Examples of many sizes are cut to the size as they are read.
    several = training.Recipe().replace({"data.image_size": 6})
    assert next(iter(training.Experiment.of(several, digits).training_batches(size=(5, 5))))[0].shape[1:] == (5, 5, 1)


@pytest.mark.slow
def test_a_run_whose_images_grow_resumes_bit_for_bit_and_saves_its_own_size(tmp_path):
    whole = training.fit("quick", model="resnet10", out=tmp_path / "whole", overrides=WORDS, verbose=0, score=("test",))
    assert whole.model.input_shape == (None, 8, 8, 1) and whole.description["optimizer_steps"] == 4 * 40

    def stop(epoch, figures):
        return epoch == 2

    halted = training.fit("quick", model="resnet10", out=tmp_path / "cut", overrides=WORDS, verbose=0, report=stop)
    assert halted.description["status"] == "stopped" and len(halted.history["loss"]) == 2
    assert same(whole, training.fit(out=tmp_path / "cut", resume=True, verbose=0))
    # Other sizes are other training.
    still = training.fit(
        "quick",
        model="resnet10",
        out=tmp_path / "still",
        overrides=WORDS | {"data.progressive_from": 1.0},
        verbose=0,
        score=(),
    )
    assert not same(whole, still)


def test_a_network_takes_other_sizes_only_where_it_is_told_to():
    from keras_resnet import ResNet18

    network = ResNet18(input_shape=(32, 32, 3), stem="small", width=4, classes=10)
    small = np.zeros((1, 24, 24, 3), "float32")
    with any_size(network):
        assert network(small).shape == (1, 10)
    with pytest.raises(ValueError, match="incompatible"):
        network(small)


@pytest.mark.slow
def test_changes_in_the_step_are_those_of_the_pipeline_and_resume_bit_for_bit(tmp_path):
    words = {"model.width": 4, "train.epochs": 3, **CHANGES}
    host = training.fit("quick", model="resnet10", out=tmp_path / "host", overrides=words, verbose=0, score=())
    words["augment.augment_on"] = "device"
    device = training.fit("quick", model="resnet10", out=tmp_path / "device", overrides=words, verbose=0, score=())
    assert np.allclose(host.history["loss"][0], device.history["loss"][0], atol=1e-3)
    plain = training.fit(
        "quick",
        model="resnet10",
        out=tmp_path / "plain",
        overrides={"model.width": 4, "train.epochs": 1},
        verbose=0,
        score=(),
    )
    assert abs(host.history["loss"][0] - plain.history["loss"][0]) > 1e-2

    def stop(epoch, figures):
        return epoch == 1

    training.fit("quick", model="resnet10", out=tmp_path / "cut", overrides=words, verbose=0, report=stop, score=())
    assert same(device, training.fit(out=tmp_path / "cut", resume=True, verbose=0, score=()))


@pytest.mark.slow
def test_the_step_also_makes_changes_before_a_sharpness_aware_step(tmp_path):
    words = {"model.width": 4, "train.epochs": 1, "optimizer.sam_radius": 0.05, **CHANGES}
    losses = [
        training.fit(
            "quick",
            model="resnet10",
            out=tmp_path / place,
            overrides=words | {"augment.augment_on": place},
            verbose=0,
            score=(),
        ).history["loss"][0]
        for place in ("host", "device")
    ]
    assert np.allclose(*losses, atol=1e-3)


def test_the_deviation_of_the_strength_reaches_the_policy():
    augment = training.Recipe().replace({"augment.policy": "rand_augment", "augment.policy_std": 0.05}).augment
    assert augment.build().layers[0].magnitude_std == 0.05


def test_the_stages_of_a_training_without_end_are_known_at_once():
    begun = time.process_time()
    stages = Data(progressive_from=0.5).stages((32, 48, 3), 300_000_000)
    assert time.process_time() - begun < 1
    ends, sizes = zip(*stages, strict=True)
    assert ends[-1] == 300_000_000 and list(ends) == sorted(set(ends)) and sizes[0] == (16, 24) and sizes[-1] is None


@pytest.mark.slow
def test_the_epochs_of_the_run_are_counted_across_its_stages(tmp_path, capsys):
    """Keras is called once per stage, and would count 1/1, 2/2."""
    words = {"model.width": 4, "train.epochs": 3, "train.batch_size": 128, "data.progressive_from": 0.5}
    training.fit("quick", model="resnet10", out=tmp_path / "run", overrides=words, verbose=2)
    told = capsys.readouterr().out
    assert [line.split()[0] for line in told.splitlines() if line[:8].strip().endswith("/3")] == ["1/3", "2/3", "3/3"]
