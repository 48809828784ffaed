"""`predict` by an export in the run folder: the answers of the Keras model, without TensorFlow, or none at all."""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tensorflow")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")

import keras_resnet  # noqa: E402
from keras_resnet import evaluation  # noqa: E402
from keras_resnet.cli import answers, main  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
import keras_resnet_command
status = keras_resnet_command.main()
assert not {"tensorflow", "keras"} & set(sys.modules), "slow"
sys.exit(status)
"""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(digits_run, tmp_path_factory):
    """A run with an export that answers for it."""
    folder = shutil.copytree(digits_run.path, tmp_path_factory.mktemp("answers") / "run")
    keras_resnet.export(folder, format="onnx", out=folder / "best.onnx")
    return folder


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "run")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder, rng, paths = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0), []
    for height, width, mode, suffix in (
        *((8, 8, "L", "png"), (40, 60, "RGB", "jpg"), (31, 19, "RGB", "png"), (200, 160, "L", "jpg")),
    ):
        coarse = Image.fromarray(rng.uniform(0, 255, (5, 4, 3)).astype("uint8"))
        image = coarse.resize((width, height), Image.Resampling.BICUBIC).convert(mode)
        exif = Image.Exif()
        exif[0x112] = 6
        paths.append(str(folder / f"{height}.{suffix}"))
        image.save(paths[-1], **({"exif": exif} if (height, suffix) == (40, "jpg") else {}))
    return paths


def options_of(folder, images, **changes):
    words = {"csv": None, "page": None, "index": None, "task": None, "tta": "none", "top": 5, "trained": str(folder)}
    return argparse.Namespace(**{**words, "images": list(images), **changes})


def answer(folder, images, **changes):
    return answers.answer_by_export(options_of(folder, images, **changes))


def in_a_process(*words):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, env=environment)


def test_an_export_in_the_run_answers_as_the_model_without_tensorflow(run, pictures):
    expected = evaluation.predict(run, pictures, top=10)
    process = in_a_process("predict", str(run), *pictures, "--top", "10", "--json")
    assert process.returncode == 0, process.stderr
    for got, wanted in zip(json.loads(process.stdout), expected, strict=True):
        assert (got["image"], got["engine"]) == (wanted["image"], "onnxruntime")
        assert [each["index"] for each in got["classes"]] == [each["index"] for each in wanted["classes"]]
        assert [each["name"] for each in got["classes"]] == [each["name"] for each in wanted["classes"]]
        given = [each["probability"] for each in got["classes"]]
        np.testing.assert_allclose(given, [each["probability"] for each in wanted["classes"]], atol=1e-5)


def test_what_it_prints_is_the_same_text(run, digits_run, pictures, capsys):
    assert main(["predict", str(digits_run.path), *pictures, "--top", "3"]) == 0
    assert in_a_process("predict", str(run), *pictures, "--top", "3").stdout == capsys.readouterr().out


def test_openvino_answers_alike(digits_run, pictures, tmp_path):
    pytest.importorskip("openvino")
    folder = shutil.copytree(digits_run.path, tmp_path / "run")
    keras_resnet.export(folder, format="openvino", out=folder / "best.xml")
    expected = evaluation.predict(folder, pictures, top=10)
    for got, wanted in zip(answer(folder, pictures, top=10), expected, strict=True):
        given = {each["name"]: each["probability"] for each in got["classes"]}
        assert got["engine"] == "openvino"
        assert given == pytest.approx({each["name"]: each["probability"] for each in wanted["classes"]}, abs=1e-5)
    os.truncate(folder / "best.bin", 100)
    assert answer(folder, pictures) is None


def test_json_says_that_keras_answered(digits_run, pictures, capsys):
    assert main(["predict", str(digits_run.path), pictures[0], "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["engine"] == "tensorflow"


@pytest.mark.parametrize(
    "changes",
    [
        {"csv": "a.csv"},
        {"page": "a.html"},
        {"index": "a.parquet"},
        {"task": "classification"},
        {"tta": "flip"},
        {"top": 0},
    ],
)
def test_other_questions_are_left_to_keras(run, pictures, changes):
    assert answer(run, pictures) is not None
    assert answer(run, pictures, **changes) is None


# An empty field that no version of ONNX has: the file stays readable.
@pytest.mark.parametrize(("name", "more"), [("best.keras", b"\0"), ("best.onnx", b"\x7a\0")])
def test_an_export_answers_for_the_model_and_the_file_that_were_checked(copy, pictures, name, more):
    with open(copy / name, "ab") as file:
        file.write(more)
    if name == "best.onnx":
        onnxruntime.InferenceSession(str(copy / name), providers=["CPUExecutionProvider"])
    assert answer(copy, pictures) is None


@pytest.mark.parametrize("name", ["best.onnx", "best.onnx.json", "run.json"])
def test_an_export_that_is_not_whole_answers_nothing(copy, pictures, name):
    os.truncate(copy / name, (copy / name).stat().st_size // 2) if name != "run.json" else (copy / name).unlink()
    assert answer(copy, pictures) is None


@pytest.mark.parametrize(
    "fact",
    [
        {"quantize": "float16"},
        {"largest_difference": 2e-5},
        {"model_dtype": "bfloat16"},
        *({"record": {name: value}} for name, value in {"set_threshold": 0.1, "task": "multilabel"}.items()),
        *({"record": {name: value}} for name, value in {"pixel_range": None, "channel_order": "any"}.items()),
        {"record": {"interpolation": "bicubic"}},
    ],
)
def test_an_export_that_may_answer_otherwise_answers_nothing(copy, pictures, fact):
    path = copy / "best.onnx.json"
    facts = json.loads(path.read_text())
    fact = {"record": {**facts["record"], **fact["record"]}} if "record" in fact else fact
    path.write_text(json.dumps({**facts, **fact}))
    assert answer(copy, pictures) is None


def test_an_odd_picture_is_left_to_keras(run, pictures, tmp_path):
    odd = {"palette.png": "P", "alpha.png": "RGBA", "cmyk.jpg": "CMYK", "gif.gif": "P", "webp.webp": "RGB"}
    for name, mode in odd.items():
        Image.new(mode, (20, 20)).save(tmp_path / name)
    shutil.copy(pictures[0], tmp_path / "png.jpg")  # of another format than its name says
    (tmp_path / "cut.jpg").write_bytes(pathlib.Path(pictures[1]).read_bytes()[:200])
    Image.fromarray(np.full((9, 9), 300, "uint16")).save(tmp_path / "deep.png")
    for name in (*odd, "png.jpg", "cut.jpg", "deep.png", "missing.png", "."):
        assert answer(run, [pictures[0], str(tmp_path / name)]) is None, name
