"""The script beside an export: it reads pictures as `predict` does, without TensorFlow and without this package."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

tf = pytest.importorskip("tensorflow")

import keras_resnet  # noqa: E402
from keras_resnet import evaluation  # noqa: E402
from keras_resnet.data.images.decoding import read_for_network  # noqa: E402
from keras_resnet.export import formats, predict_image  # noqa: E402
from keras_resnet.preprocessing import InputRecord  # noqa: E402
from tests import harness  # noqa: E402

PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino", "litert": "ai_edge_litert"}


def picture(rng, height, width, mode):
    coarse = Image.fromarray(rng.uniform(0, 255, (height // 8 + 2, width // 8 + 2, 3)).astype("uint8"))
    return coarse.resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def save(path, image, orientation=1):
    exif = Image.Exif()
    exif[0x112] = orientation
    image.save(path, **({"exif": exif} if path.suffix == ".jpg" else {}))
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder, rng, made = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0), []
    for height, width in ((40, 60), (301, 199), (20, 16)):
        name = f"{height}x{width}"
        for mode, suffix in (("RGB", "png"), ("RGB", "jpg"), ("RGB", "webp"), ("L", "png"), ("L", "jpg")):
            made.append(save(folder / f"{name}-{mode}.{suffix}", picture(rng, height, width, mode)))
        for mode, suffix in (("RGBA", "png"), ("P", "png"), ("P", "gif"), ("CMYK", "jpg")):
            made.append(save(folder / f"{name}-{mode}.{suffix}", picture(rng, height, width, mode)))
        made.append(save(folder / f"{name}-turned.jpg", picture(rng, height, width, "RGB"), orientation=6))
        deep = (np.asarray(picture(rng, height, width, "L"), "uint16") * 256) + 77
        made.append(save(folder / f"{name}-deep.png", Image.fromarray(deep)))
    return made


@pytest.mark.parametrize("order", ["rgb", "bgr", "grey"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "pil-bilinear", "pil-bicubic"])
def test_the_script_reads_the_pixels_that_predict_reads(pictures, monkeypatch, order, interpolation):
    for crop, pixel_range, exif in itertools.product((None, 0.875, 1.0), ((0, 255), (-1, 1)), (True, False)):
        record = InputRecord((32, 24), crop, interpolation, order, pixel_range=pixel_range, apply_exif=exif)
        monkeypatch.setattr(predict_image, "RECORD", record.to_dict())
        for path in pictures:
            expected = np.asarray(read_for_network(path, record), "float32")
            got = predict_image.read(str(path))
            assert got.dtype == np.float32 and got.shape == expected.shape
            # TensorFlow takes its cubic weights from a table of 1024 where it enlarges.
            scale = (pixel_range[1] - pixel_range[0]) / 255
            most = 1e-5 if interpolation.startswith("pil") and "deep" not in path.name else 0.1
            assert np.abs(got - expected).max() < most * scale, (path.name, crop, pixel_range)


@pytest.fixture(scope="module")
def run(digits_run):
    return digits_run


@pytest.mark.parametrize("name", harness.tiers(PACKAGES, [], ["onnx"]))
def test_the_script_beside_an_export_answers_as_predict(run, pictures, name, tmp_path):
    pytest.importorskip(PACKAGES[name])
    out = tmp_path / f"net{formats.FORMATS[name].suffix}"
    keras_resnet.export(run, format=name, out=out)
    shown = [str(path) for path in pictures[:3]]
    command = [sys.executable, "-P", str(tmp_path / f"net_{out.suffix[1:]}_predict.py"), *shown]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path.parent, check=True)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    expected = evaluation.predict(run.path, shown, top=10)
    for row, prediction in zip(told, expected, strict=True):
        assert row["image"] == prediction["image"]
        wanted = {best["name"]: best["probability"] for best in prediction["classes"]}
        assert row["probabilities"] == pytest.approx(wanted, abs=1e-4)
    assert _record_in(out, name)["class_names"] == list("0123456789")
    with pytest.raises(ValueError, match="net_.*_predict.py.*never writes over another"):
        for path in (out, out.with_name(f"{out.name}.json"), out.with_suffix(".bin")):
            path.unlink(missing_ok=True)
        keras_resnet.export(run, format=name, out=out)


def _record_in(path, name):
    """Returns the record in the metadata of a file, as its own tools read it."""
    if name == "onnx":
        import onnxruntime

        return json.loads(onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map[formats.RECORD])
    if name == "openvino":
        import openvino

        return json.loads(openvino.Core().read_model(str(path)).get_rt_info([formats.RECORD]).value)
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(path))
    (entry,) = [entry for entry in model.metadata if entry.name == formats.RECORD.encode()]
    return json.loads(bytes(model.buffers[entry.buffer].data))


@pytest.mark.slow
def test_whole_numbers_in_and_out_for_microcontrollers(run, pictures, tmp_path):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    exported = keras_resnet.export(run, format="litert", quantize="int8-all", out=tmp_path / "net.tflite")
    made = interpreter.Interpreter(str(tmp_path / "net.tflite"))
    given, answer = made.get_input_details()[0], made.get_output_details()[0]
    assert given["dtype"] == answer["dtype"] == np.int8
    assert exported.facts["accuracy"] > exported.facts["accuracy_before"] - 0.1
    command = [sys.executable, "-P", str(tmp_path / "net_tflite_predict.py"), str(pictures[0])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    total = sum(json.loads(done.stdout)["probabilities"].values())
    assert total == pytest.approx(1, abs=0.05)  # in steps of 1/256


@pytest.mark.exhaustive
def test_versions_of_a_served_model_lie_side_by_side(run, tmp_path):
    out = tmp_path / "digits"
    assert keras_resnet.export(run, out=out).path == out
    with pytest.raises(ValueError, match="exists.*model_version"):
        keras_resnet.export(run, out=out)
    with pytest.raises(ValueError, match="exists"):
        keras_resnet.export(run, out=out, model_version=1)
    assert keras_resnet.export(run, out=out / "12").path == out / "12"
    assert sorted(path.name for path in out.iterdir()) == ["1", "12"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits", "digits.12.json", "digits.json"]
    image = tf.zeros((1, 8, 8, 1))
    first, second = (
        tf.saved_model.load(str(out / name)).signatures["serving_default"](images=image) for name in ("1", "12")
    )
    assert np.array_equal(first["probabilities"], second["probabilities"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "onnx", "out": "net.onnx", "model_version": 2}, "model_version=2.*Only a SavedModel has versions"),
        ({"out": "served", "model_version": 0}, "model_version"),
        ({"out": "served/0"}, "model_version must be"),
        ({"out": "other/2"}, "holds 'notes.txt'.*folders named by numbers"),
        ({"out": "."}, "without its own name"),
        ({"out": "other", "model_version": 2}, "holds 'notes.txt'.*folders named by numbers"),
    ],
)
def test_a_version_that_cannot_be_written_is_refused(run, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=message):
        keras_resnet.export(run, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
