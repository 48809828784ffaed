import keras
import numpy as np
import pytest
from PIL import Image

from keras_resnet import ResNet18, evaluation


@pytest.fixture(scope="module")
def color():
    keras.utils.set_random_seed(7)
    return ResNet18(input_shape=(16, 16, 3), stem="small", width=4, classes=7)


@pytest.fixture
def picture(tmp_path):
    """Writes an image file and returns its path."""

    def write(name, size, mode="RGB", seed=0):
        channels = {"L": (), "RGB": (3,)}[mode]
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], *channels), "uint8")
        Image.fromarray(pixels).save(tmp_path / name)
        return tmp_path / name

    return write


def test_the_classes_are_those_of_the_model_the_most_probable_first(color, picture):
    path = picture("a.png", (16, 16))
    (prediction,) = evaluation.predict(color, [path], top=7)
    outputs = color.predict(np.asarray(Image.open(path), "float32")[None], verbose=0)[0]
    assert prediction["image"] == str(path)
    assert [best["index"] for best in prediction["classes"]] == list(np.argsort(-outputs))
    # Float32 arithmetic in batches of other sizes differs in the last digits.
    found = [best["probability"] for best in prediction["classes"]]
    assert found == pytest.approx(sorted(outputs, reverse=True), rel=1e-4)
    assert sum(found) == pytest.approx(1.0)


def test_top_is_how_many_classes_come_back_and_at_most_all(color, picture):
    path = picture("a.png", (16, 16))
    assert len(evaluation.predict(color, path, top=2)[0]["classes"]) == 2
    assert len(evaluation.predict(color, path, top=99)[0]["classes"]) == 7


def test_a_model_without_a_run_names_classes_by_their_index(color, picture):
    best = evaluation.predict(color, picture("a.png", (16, 16)))[0]["classes"][0]
    assert best["name"] == str(best["index"])


def test_images_of_any_size_are_predicted_each_for_itself(color, picture):
    paths = [picture("wide.png", (60, 20)), picture("tall.jpg", (17, 40), seed=1), picture("small.png", (8, 8), seed=2)]
    together = evaluation.predict(color, paths)
    assert [prediction["image"] for prediction in together] == [str(path) for path in paths]
    assert together == [evaluation.predict(color, path)[0] for path in paths]


def test_a_grey_model_reads_a_color_image_as_its_luminance(picture):
    keras.utils.set_random_seed(7)
    model = ResNet18(input_shape=(16, 16, 1), stem="small", width=4, classes=7)
    path = picture("a.png", (16, 16))
    luminance = np.asarray(Image.open(path).convert("L"), "float32")[None, :, :, None]
    (prediction,) = evaluation.predict(model, path, top=1)
    outputs = model.predict(luminance, verbose=0)[0]
    # Pillow rounds the luminance in fixed point, which moves some pixels by one of 255.
    assert prediction["classes"][0]["index"] == outputs.argmax()
    assert prediction["classes"][0]["probability"] == pytest.approx(outputs.max(), rel=0.02)


def test_a_grey_image_keeps_its_values_for_a_grey_model(picture):
    keras.utils.set_random_seed(7)
    model = ResNet18(input_shape=(16, 16, 1), stem="small", width=4, classes=7)
    path = picture("grey.png", (16, 16), mode="L")
    outputs = model.predict(np.asarray(Image.open(path), "float32")[None, :, :, None], verbose=0)[0]
    (prediction,) = evaluation.predict(model, path, top=1)
    assert prediction["classes"][0]["probability"] == pytest.approx(outputs.max(), rel=1e-4)


def test_a_file_that_is_no_image_is_named(color, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match="text.png"):
        evaluation.predict(color, [tmp_path / "text.png"])
    with pytest.raises(ValueError, match="none.png"):
        evaluation.predict(color, [tmp_path / "none.png"])


def test_a_model_of_five_channels_cannot_read_image_files(picture):
    model = ResNet18(input_shape=(16, 16, 5), stem="small", width=4, classes=7)
    with pytest.raises(ValueError, match="that of a network which takes no pictures.*Pass an array"):
        evaluation.predict(model, picture("a.png", (16, 16)))


def test_a_top_of_nothing_is_refused(color, picture):
    with pytest.raises(ValueError, match="top must be an int >= 1, got 0"):
        evaluation.predict(color, picture("a.png", (16, 16)), top=0)


def test_a_folder_is_read_whole_and_a_bad_file_may_be_skipped(color, picture, tmp_path):
    """One damaged file threw all answers away, and a folder was refused."""
    (tmp_path / "more").mkdir()
    paths = [picture("a.png", (16, 16)), picture("more/b.png", (16, 16), seed=1)]
    (tmp_path / "c.jpg").write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("not read")
    whole = evaluation.predict(color, tmp_path, on_bad_image="skip")
    assert [row["image"] for row in whole] == [str(paths[0]), str(tmp_path / "c.jpg"), str(paths[1])]
    assert "not a JPEG" in whole[1]["error"]
    assert [whole[0], whole[2]] == evaluation.predict(color, paths)
    with pytest.raises(ValueError, match="c.jpg"):
        evaluation.predict(color, tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no image file"):
        evaluation.predict(color, tmp_path / "empty")


def test_answers_come_one_after_the_other(color, picture):
    """What is asked for is checked at once; each file is read when its turn comes."""
    first, second = picture("a.png", (16, 16)), picture("b.png", (16, 16))
    answers = evaluation.predict_each(color, [first, second])
    assert next(answers)["image"] == str(first)
    second.unlink()
    with pytest.raises(ValueError, match="no such file"):
        next(answers)
    with pytest.raises(ValueError, match="on_bad_image='ignore' is not known"):
        evaluation.predict_each(color, [first], on_bad_image="ignore")
