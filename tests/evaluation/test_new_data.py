"""Pictures that were labeled after the training: scored whole, matched by the names of their classes."""

import json
import logging
import shutil

import numpy as np
import pytest
from PIL import Image

from keras_resnet import data, evaluation, training
from keras_resnet.cli import main

pytestmark = pytest.mark.slow

NAMES = ("bright", "dark", "middle")
SMALL = {"model.width": 4, "train.epochs": 6, "train.batch_size": 16, "data.image_size": 16, "augment.flip": False}


def photographs(folder, names, count, seed):
    draw = np.random.default_rng(seed)
    for name in names:
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = draw.integers(0, 60, (20, 20, 3)) + (180, 0, 90)[NAMES.index(name)]
            Image.fromarray(pixels.astype("uint8")).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("new")
    photographs(folder / "photos", NAMES, 30, seed=0)
    return training.fit(
        "quick", model="resnet10", data=f"folder:{folder / 'photos'}", out=folder / "run", overrides=SMALL, verbose=0
    )


def by_hand(run, folder):
    """Whether each file of the folders is predicted as its folder says."""
    paths = sorted(folder.glob("*/*.png"))
    found = evaluation.predict(run, paths, top=1)
    return np.mean([row["classes"][0]["name"] == path.parent.name for row, path in zip(found, paths, strict=True)])


@pytest.mark.parametrize("source", ["run", "model"])
def test_new_pictures_are_all_scored(run, tmp_path, source):
    """Of 60 new pictures 6 were scored."""
    new = photographs(tmp_path / "new", NAMES, 20, seed=1)
    found = evaluation.evaluate(run if source == "run" else run.path / "best.keras", f"folder:{new}")
    assert (found["split"], found["examples"]) == ("all", 60)
    assert found["accuracy"] == pytest.approx(by_hand(run, new))


def test_its_own_data_are_scored_on_the_test_split_however_they_are_named(run):
    own = evaluation.evaluate(run)
    assert own["split"] == "test" and own["examples"] == run.dataset.sizes["test"]
    assert evaluation.evaluate(run, run.about.data) == own
    whole = evaluation.evaluate(run, split="all")
    assert whole["examples"] == sum(run.dataset.sizes.values()) == 90


@pytest.mark.parametrize("names", [("dark",), ("middle", "dark")])
def test_missing_classes_are_said_and_the_others_matched_by_name(run, tmp_path, names, caplog):
    new = photographs(tmp_path / "new", names, 10, seed=2)
    with caplog.at_level(logging.WARNING):
        found = evaluation.evaluate(run, f"folder:{new}")
    missing = [name for name in NAMES if name not in names]
    assert f"has no examples of the classes {missing}" in caplog.text
    assert found["examples"] == 10 * len(names) and found["accuracy"] == pytest.approx(by_hand(run, new))
    support = {row["name"]: row["support"] for row in found["per_class"]}
    assert support == {name: 10 if name in names else 0 for name in NAMES}


def test_classes_in_another_order_are_matched_by_name(run, tmp_path):
    own = run.dataset
    images, labels = zip(*(own.arrays(split) for split in ("train", "validation", "test")), strict=True)
    images, labels = np.concatenate(images), np.concatenate(labels)
    turned = tuple(reversed(NAMES))
    labels = np.array([turned.index(NAMES[label]) for label in labels])
    np.savez(tmp_path / "turned.npz", x=images, y=labels, class_names=np.array(turned))
    found = evaluation.evaluate(run, f"npz:{tmp_path / 'turned.npz'}")
    assert found["examples"] == 90
    assert found["accuracy"] == pytest.approx(evaluation.evaluate(run, split="all")["accuracy"])
    # Mistakes have the names of the model.
    for mistake in evaluation.mistakes(run, f"npz:{tmp_path / 'turned.npz'}"):
        assert mistake.guess != mistake.label and {mistake.guess, mistake.label} <= set(NAMES)


def test_another_class_is_refused(run, tmp_path):
    new = photographs(tmp_path / "new", NAMES[:2], 4, seed=3)
    shutil.copytree(new / "dark", new / "purple")
    with pytest.raises(ValueError, match=r"class folders \['purple'\], which the model does not know"):
        evaluation.evaluate(run, f"folder:{new}")


def test_a_folder_that_holds_a_test_split_alone_is_the_data(run, tmp_path):
    """It was "one class"."""
    photographs(tmp_path / "new" / "test", NAMES, 5, seed=4)
    assert evaluation.evaluate(run, f"folder:{tmp_path / 'new'}")["examples"] == 15
    assert any("alone, which is read as the data" in line for line in data.load(f"folder:{tmp_path / 'new'}").report)


def test_a_split_may_be_named_and_is_divided_as_the_runs_own(run, tmp_path):
    new = photographs(tmp_path / "new", NAMES, 20, seed=5)
    assert evaluation.evaluate(run, f"folder:{new}", split="test")["examples"] == 6
    # What brings its own test split is scored on that.
    assert evaluation.evaluate(run, f"folder:{new}", split="train")["examples"] > 40


def test_a_damaged_file_among_new_pictures_stops_or_is_left_out(run, tmp_path, capsys):
    new = photographs(tmp_path / "new", NAMES, 40, seed=4)
    whole = new / "dark" / "7.png"
    whole.write_bytes(whole.read_bytes()[:100])
    words = ["evaluate", str(run.path), "--data", f"folder:{new}", "--json"]
    assert main(words) == 2
    assert "7.png" in (told := capsys.readouterr().err) and "of evaluate --on-bad-image skip" in told
    assert main([*words, "--on-bad-image", "skip"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["examples"] == 119
    with pytest.raises(ValueError, match="without other data"):
        evaluation.evaluate(run, on_bad_image="skip")
