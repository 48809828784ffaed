"""Pictures that are brought to a height and a width of their own."""

import numpy as np
import pytest
from PIL import Image

from keras_resnet import data, evaluation, training
from keras_resnet.data.images.decoding import read_for_network


@pytest.mark.parametrize(
    ("written", "value"),
    [("auto", "auto"), ("32", 32), ("24x32", (24, 32)), ("24,32", (24, 32)), ([24, 32], (24, 32)), ("16x16", 16)],
)
def test_a_size_is_a_side_or_height_and_width(written, value):
    recipe = training.Recipe().replace({"data.image_size": written})
    assert recipe.data.image_size == value
    assert training.Recipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize("written", ["24x", "0", "-5", "a", "1x2x3", [24], [24, 0], 2.5, "²"])
def test_other_sizes_are_refused(written):
    with pytest.raises((TypeError, ValueError), match="data.image_size"):
        training.Recipe().replace({"data.image_size": written})


@pytest.mark.slow
def test_rectangles_are_trained_evaluated_and_predicted(tmp_path):
    rng = np.random.default_rng(0)
    for name, level in (("dark", 60), ("light", 190)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(30):
            size = (int(rng.integers(20, 60)), int(rng.integers(20, 60)), 3)
            pixels = np.clip(rng.normal(level, 20, size), 0, 255).astype("uint8")
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{index}.png")
    words = {"data.image_size": "12x20", "model.width": 4, "train.epochs": 3, "train.batch_size": 8}
    spec = f"folder:{tmp_path / 'photos'}"
    run = training.fit("quick", model="resnet10", data=spec, out=tmp_path / "run", overrides=words, verbose=0)
    assert run.model.input_shape == (None, 12, 20, 3)
    assert run.record.image_size == (12, 20) and run.recipe.data.image_size == (12, 20)
    scores = evaluation.evaluate(run.path)
    assert scores == run.metrics["test"] or scores["accuracy"] == run.metrics["test"]["accuracy"]
    # The pixels of a file are those that the pipeline gives, by one way and by the other.
    path = sorted((tmp_path / "photos" / "dark").iterdir())[0]
    assert read_for_network(path, run.record).shape == (12, 20, 3)
    batch = next(iter(run.dataset.batches("test", 4, **data.sizing(run.record, run.dataset.image_shape))))[0]
    assert batch.shape == (4, 12, 20, 3)
    prediction = evaluation.predict(run.path, [path])[0]
    assert prediction["classes"][0]["name"] == "dark"
    again = training.fit(out=run.path, resume=True, verbose=0)  # its recipe is read from JSON
    assert again.recipe == run.recipe
