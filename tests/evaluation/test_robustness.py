import colorsys
import io

import keras
import numpy as np
import pytest
from PIL import Image

from keras_resnet import data, evaluation
from keras_resnet.evaluation import corrupt
from keras_resnet.evaluation.robustness import CORRUPTIONS


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    smooth = np.stack(
        [np.asarray(Image.fromarray(a).resize((32, 32))) for a in rng.integers(0, 256, (6, 5, 5, 3), "u1")]
    )
    return smooth.astype("float32")


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_corruption_is_stronger_with_severity_and_the_same_with_the_same_seed(name, channels, pictures):
    given = pictures[..., :channels].copy()
    made = [corrupt(given, name, severity) for severity in (1, 5)]
    assert np.array_equal(given, pictures[..., :channels])
    assert all(one.shape == given.shape and one.dtype == "float32" for one in made)
    assert all(one.min() >= 0 and one.max() <= 255 for one in made)
    assert np.array_equal(made[1], corrupt(given, name, 5))
    if channels == 1 and name == "saturate":
        assert np.allclose(made[1], given, atol=1e-3)  # gray has no saturation
        return
    distance = [np.abs(one - given).mean() for one in made]
    assert distance[0] > 0
    # Saturation goes down first and up then.
    assert name == "saturate" or distance[0] < distance[1]
    if "noise" in name:
        assert not np.array_equal(made[1], corrupt(given, name, 5, seed=1))


@pytest.mark.parametrize("severity, scale", [(1, 0.04), (5, 0.10)])
def test_gaussian_noise_has_the_deviation_of_the_paper(severity, scale):
    gray = np.full((4, 64, 64, 3), 127.5)
    noise = (corrupt(gray, "gaussian_noise", severity) - 127.5) / 255
    # 49,152 draws: a standard error of a third of a percent. At 0.1 nothing is clipped that would show.
    assert noise.std() == pytest.approx(scale, rel=0.02)
    larger = np.full((1, 128, 128, 3), 127.5)
    assert ((corrupt(larger, "gaussian_noise", 1) - 127.5) / 255).std() == pytest.approx(0.08, rel=0.02)


def test_shot_speckle_and_impulse_noise_have_their_sizes():
    gray = np.full((4, 64, 64, 3), 102.0)  # 0.4
    shot = corrupt(gray, "shot_noise", 5) / 255
    assert shot.std() == pytest.approx((0.4 / 50) ** 0.5, rel=0.02)
    speckle = corrupt(gray, "speckle_noise", 1) / 255
    assert speckle.std() == pytest.approx(0.4 * 0.06, rel=0.02)
    impulse = corrupt(gray, "impulse_noise", 5)
    assert np.isin(impulse, (0, 255)).mean() == pytest.approx(0.07, rel=0.05)


@pytest.mark.parametrize("name, change", [("brightness", (1, 0, 0, 0.3)), ("saturate", (2.5, 0.2, 1, 0))])
def test_brightness_and_saturation_are_those_of_hue_saturation_and_value(name, change, pictures):
    factor, plus, _, brighter = change
    expected = np.empty_like(pictures[0])
    for y, x in np.ndindex(32, 32):
        hue, saturation, value = colorsys.rgb_to_hsv(*(pictures[0, y, x] / 255))
        if name == "brightness":
            value = min(value + brighter, 1)
        else:
            saturation = min(saturation * factor + plus, 1)
        expected[y, x] = np.array(colorsys.hsv_to_rgb(hue, saturation, value)) * 255
    assert np.abs(corrupt(pictures[:1], name, 5)[0] - expected).max() < 1e-2


def test_contrast_keeps_the_means_and_compression_is_pillows(pictures):
    flat = corrupt(pictures, "contrast", 2)
    assert np.allclose(flat.mean(axis=(1, 2)), pictures.mean(axis=(1, 2)), atol=0.01)
    assert np.allclose(flat.std(axis=(1, 2)), 0.5 * pictures.std(axis=(1, 2)), rtol=1e-3)
    buffer = io.BytesIO()
    Image.fromarray(pictures[0].astype("uint8")).save(buffer, "JPEG", quality=40)
    assert np.array_equal(corrupt(pictures[:1], "jpeg_compression", 5)[0], np.asarray(Image.open(buffer)))


@pytest.mark.slow
def test_the_accuracy_falls_with_noise_and_the_clean_one_is_that_of_evaluate(digits_run):
    found = evaluation.robustness(digits_run)
    assert found["examples"] == 360
    assert found["clean"] == pytest.approx(digits_run.metrics["test"]["accuracy"])
    assert set(found["corruptions"]) == set(CORRUPTIONS) and all(len(row) == 5 for row in found["corruptions"].values())
    assert found["corruptions"]["contrast"][4] < found["clean"]
    assert found["mean"] == pytest.approx(np.mean(list(found["corruptions"].values())))
    assert 80 <= evaluation.robustness(digits_run, limit=100)["examples"] <= 100


@pytest.mark.slow
def test_views_are_those_of_evaluate_and_the_run_keeps_the_figures_without(digits_run, digits_copy):
    run = digits_copy
    (run.path / "robustness.json").unlink(missing_ok=True)
    flipped = evaluation.robustness(run, views="flip")
    assert flipped["clean"] == pytest.approx(evaluation.evaluate(run, views="flip")["accuracy"])
    assert flipped["clean"] != pytest.approx(digits_run.metrics["test"]["accuracy"])
    assert not (run.path / "robustness.json").exists()


def test_a_bare_network_is_asked_what_the_labels_are_for(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (30, 3))
    images = np.where(labels[:, None, None, :], 230, 20).astype("uint8").repeat(8, 1).repeat(8, 2)
    image = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 10, -12.5)(image))
    logits = keras.layers.Dense(3, kernel_initializer="identity")(pooled)
    np.savez(tmp_path / "a.npz", x=images, y=labels)
    dataset = data.load(f"npz:{tmp_path / 'a.npz'}", task="multilabel")
    found = evaluation.robustness(keras.Model(image, logits), dataset, split="train")
    assert found["clean"] == 1.0 == evaluation.evaluate(keras.Model(image, logits), dataset, split="train")["accuracy"]


def test_what_is_no_picture_is_refused(pictures):
    with pytest.raises(ValueError, match="Did you mean 'contrast'"):
        corrupt(pictures, "contrasts", 1)
    with pytest.raises(ValueError, match="from 1 to 5"):
        corrupt(pictures, "contrast", 6)
    with pytest.raises(ValueError, match="1 or 3 channels"):
        corrupt(np.zeros((2, 100, 6)), "contrast", 1)
