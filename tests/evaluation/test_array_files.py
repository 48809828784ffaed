"""Signals, volumes and pictures in .npy and .npz files, for predict, explain and the demo."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

import keras_resnet
from keras_resnet import data, evaluation, preprocessing, training
from keras_resnet.cli import main
from keras_resnet.demo import Answers
from keras_resnet.explain import explain_files

pytestmark = pytest.mark.slow

SHAPES = {"signal": (64, 2), "picture": (16, 16, 1), "volume": (12, 12, 12, 1)}


def network(shape, names=("left", "right", "up"), pixel_range=None):
    order = preprocessing.order_of(shape[-1], len(shape) - 1)
    size = shape[:-1] if order != "any" else None
    given = {"image_size": size, "channel_order": order, "class_names": names, "pixel_range": pixel_range}
    record = preprocessing.InputRecord(**given, task="classification", activation="softmax")
    example = keras.Input(shape)
    x = preprocessing.InputNormalization("unit", record=record)(example)
    return keras_resnet.ResNet18(input_tensor=x, stem="small", width=4, classes=3, classifier_activation=None)


def probabilities(model, examples):
    logits = np.asarray(model.predict_on_batch(examples), "float64")
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.fixture(params=SHAPES)
def case(request, tmp_path):
    keras.utils.set_random_seed(0)
    shape = SHAPES[request.param]
    examples = np.random.default_rng(1).uniform(0, 255, (3, *shape)).astype("float32")
    np.save(tmp_path / "one.npy", examples[0])
    np.save(tmp_path / "many.npy", examples)
    np.savez(tmp_path / "named.npz", x_test=examples[1:], y_test=[0, 1])
    np.savez(tmp_path / "single.npz", anything=examples[2])
    if shape[-1] == 1:
        np.save(tmp_path / "bare.npy", examples[0, ..., 0])
    return network(shape), examples, tmp_path


def test_arrays_are_predicted_as_the_model_sees_them(case):
    model, examples, folder = case
    files = [folder / name for name in ("one.npy", "many.npy", "named.npz", "single.npz")]
    told = evaluation.predict(model, files, top=3)
    names = ["one.npy", *(f"many.npy[{index}]" for index in range(3)), "named.npz[0]", "named.npz[1]", "single.npz"]
    assert [row["image"] for row in told] == [str(folder / name) for name in names]
    expected = probabilities(model, examples)
    for row, index in zip(told, (0, 0, 1, 2, 1, 2, 2), strict=True):
        found = {best["index"]: best["probability"] for best in row["classes"]}
        assert [found[place] for place in range(3)] == pytest.approx(expected[index].tolist(), abs=1e-5)
    if (folder / "bare.npy").exists():
        (bare,) = evaluation.predict(model, folder / "bare.npy", top=3)
        assert bare["classes"] == told[0]["classes"]


def test_maps_of_arrays_are_drawn(case):
    model, _, folder = case
    written = explain_files(model, [folder / "one.npy", folder / "many.npy"], folder / "maps")
    assert [path.name for path in written] == ["one.png", "many-0.png", "many-1.png", "many-2.png"]
    for path in written:
        with Image.open(path) as picture:
            assert np.asarray(picture.convert("L")).std() > 5  # something is drawn


def test_the_demo_takes_an_array(case):
    model, examples, folder = case
    answers = Answers(evaluation.open_predictor(model))
    answer = answers("one.npy", (folder / "one.npy").read_bytes())
    best = answer["classes"][0]
    assert best["probability"] == pytest.approx(probabilities(model, examples[:1]).max(), abs=1e-5)
    assert answer["overlay"].startswith("data:image/png;base64,")
    assert answers("a.npz", (folder / "single.npz").read_bytes())["classes"]
    with pytest.raises(ValueError, match="many.npy holds several examples"):
        answers("many.npy", (folder / "many.npy").read_bytes())


def test_a_folder_of_arrays_on_the_command_line(tmp_path, capsys):
    model = network(SHAPES["signal"])
    model.save(tmp_path / "model.keras")
    (tmp_path / "signals").mkdir()
    for index in range(3):
        np.save(tmp_path / "signals" / f"{index}.npy", np.zeros(SHAPES["signal"], "float32"))
    (tmp_path / "signals" / "notes.txt").write_text("no example")
    assert main(["predict", str(tmp_path / "model.keras"), str(tmp_path / "signals"), "--json-lines"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["image"] for row in rows] == [str(tmp_path / "signals" / f"{index}.npy") for index in range(3)]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: np.save(path, np.zeros((2, 64))), r"has the shape \(2, 64\), and the model takes \(64, 2\)"),
        (lambda path: np.save(path, np.array(["a"])), "Allowed are numbers"),
        (lambda path: np.save(path, np.array([{}]), allow_pickle=True), "without pickled objects"),
        (lambda path: path.write_bytes(b"\x93NUMPY"), "cannot be read"),
        (lambda path: np.save(path, np.full((64, 2), np.nan)), "NaN or infinity"),
    ],
)
def test_files_that_the_model_cannot_take_are_named_and_may_be_skipped(tmp_path, write, message):
    model, good, bad = network(SHAPES["signal"]), tmp_path / "good.npy", tmp_path / "bad.npy"
    write(bad)
    np.save(good, np.zeros(SHAPES["signal"]))
    with pytest.raises(ValueError, match=message):
        evaluation.predict(model, [good, bad])
    told = evaluation.predict(model, [bad, good], on_bad_image="skip")
    assert "bad.npy" in told[0]["error"] and told[1]["classes"]


def test_an_archive_that_is_named_npy_is_read_as_one(tmp_path):
    examples = np.random.default_rng(0).uniform(0, 1, (2, *SHAPES["signal"]))
    np.savez(tmp_path / "a.npz", examples)
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", examples)
    model = network(SHAPES["signal"])
    a, b = ([row["classes"] for row in evaluation.predict(model, tmp_path / f"{name}.npy")] for name in "ab")
    assert a == b and len(a) == 2


def test_an_archive_of_several_arrays_needs_a_name_that_is_known(tmp_path):
    np.savez(tmp_path / "a.npz", first=np.zeros((64, 2)), second=np.zeros((64, 2)))
    with pytest.raises(ValueError, match=r"holds the arrays \['first', 'second'\].*'x'"):
        evaluation.predict(network(SHAPES["signal"]), tmp_path / "a.npz")


def test_pictures_in_arrays_are_resized_as_training_resized_them(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for index in range(24):
        pixels = rng.uniform(0, 100, (20, 24, 1)) + 100 * (index % 2)
        np.save(tmp_path / f"{index}.npy", pixels.astype("float32"))
        rows.append(f"{index}.npy,{'ab'[index % 2]},{'test' if index > 17 else 'train'}")
    (tmp_path / "t.csv").write_text("\n".join(["path,label,split", *rows]))
    words = {"data.image_size": 16, "model.width": 4, "train.epochs": 1, "train.batch_size": 8}
    words |= {"data.validation_fraction": 0.0}
    spec = f"csv:{tmp_path}/t.csv"
    run = training.fit("quick", model="resnet10", data=spec, out=tmp_path / "run", overrides=words, verbose=0)
    sizing = data.sizing(run.record, run.dataset.image_shape)
    images = np.concatenate([np.asarray(batch[0]) for batch in run.dataset.batches("test", 64, **sizing)])
    expected = probabilities(run.model, images)
    answers = evaluation.predict(run.path, [tmp_path / f"{index}.npy" for index in range(18, 24)], top=2)
    found = [
        [{row["name"]: row["probability"] for row in answer["classes"]}[name] for name in "ab"] for answer in answers
    ]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert [mistake.name for mistake in evaluation.mistakes(run)] == [
        str(tmp_path / f"{18 + index}.npy")
        for index in np.argsort(-expected.max(axis=1))
        if expected[index].argmax() != index % 2
    ]
