"""What is wrong with data: changed copies, pictures of one color and rare classes are found, and no others."""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image, ImageEnhance

pytest.importorskip("tensorflow")
pytest.importorskip("imagehash")

from keras_resnet import cli, data  # noqa: E402

CHANGES = {
    "smaller": lambda image: image.resize((40, 40)),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "grey": lambda image: image.convert("L"),
}


def scene(seed):
    """A picture with shapes, as noise alone has no likeness to lose."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 6, 3), "uint8")
    return Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("set")
    for split, seeds in (("train", range(40)), ("test", range(100, 120))):
        for seed in seeds:
            place = root / split / ("cat" if seed % 2 else "dog")
            place.mkdir(parents=True, exist_ok=True)
            scene(seed).save(place / f"{seed}.png")
    for number, (name, change) in enumerate(CHANGES.items()):
        change(scene(number)).save(root / "test" / "dog" / f"{name}.png")
    Image.new("RGB", (64, 64), (200, 10, 10)).save(root / "train" / "cat" / "red.png")
    (root / "train" / "fox").mkdir()
    scene(200).save(root / "train" / "fox" / "200.png")
    return root


def test_changed_copies_pictures_of_one_color_and_rare_classes_are_found(folder):
    found = data.inspect_data(data.load(f"folder:{folder}", validation_fraction=0))
    pairs = {tuple(sorted(name.rpartition("/")[2] for name in pair.names)) for pair in found.near_copies}
    assert pairs == {("0.png", "smaller.png"), ("1.png", "darker.png"), ("2.png", "grey.png")}
    assert all(pair.splits == ("train", "test") for pair in found.near_copies)
    # The darker one lies under another label than its original.
    assert {pair.labels for pair in found.near_copies} == {("dog", "dog"), ("cat", "dog")}
    assert [name.rpartition("/")[2] for name in found.one_color] == ["red.png"] and found.few == ["fox"]
    assert found.counts["train"] == {"cat": 21, "dog": 20, "fox": 1} and sum(found.counts["test"].values()) == 23


def test_the_command_prints_it_as_lines_and_as_json(folder, capsys):
    assert not cli.main(["inspect-data", f"folder:{folder}", "--set", "data.validation_fraction=0"])
    told = capsys.readouterr().out
    assert "1 pictures of one color" in told and "3 near copies, 3 of them in two splits" in told and "fox 1" in told
    assert not cli.main(["inspect-data", f"folder:{folder}", "--json"])
    assert len(json.loads(capsys.readouterr().out)["near_copies"]) == 3


def test_signals_and_regressions_are_counted(tmp_path):
    np.savez(tmp_path / "set.npz", x=np.zeros((20, 8, 2), "float32"), y=np.linspace(0, 1, 20, dtype="float32"))
    found = data.inspect_data(data.load(f"npz:{tmp_path}/set.npz", task="regression", rank=1))
    assert sum(sum(counts.values()) for counts in found.counts.values()) == 20 and not found.near_copies


def test_pixels_in_other_units_are_judged_alike(tmp_path):
    images = np.stack([np.asarray(scene(seed).resize((32, 32)), "float32") for seed in range(12)])
    images[3] = 7.0
    for name, factor in (("bytes", 1.0), ("fractions", 1 / 255)):
        np.savez(tmp_path / f"{name}.npz", x=images * factor, y=np.arange(12) % 2)
        found = data.inspect_data(data.load(f"npz:{tmp_path}/{name}.npz", validation_fraction=0, test_fraction=0))
        assert len(found.one_color) == 1 and not found.near_copies


def test_a_file_of_a_picture_is_read_as_training_reads_it(tmp_path):
    file = io.BytesIO()
    scene(0).save(file, "JPEG", quality=40)
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            scene(10 * ord(name) + len(split)).save(tmp_path / split / name / "1.png")
    scene(0).save(tmp_path / "train" / "a" / "0.png")
    (tmp_path / "test" / "a" / "0.jpg").write_bytes(file.getvalue())
    (pair,) = data.inspect_data(data.load(f"folder:{tmp_path}", validation_fraction=0)).near_copies
    assert pair.correlation > 0.99 and "0.jpg" in str(pair)


def test_where_all_pictures_look_alike_near_copies_mean_nothing(tmp_path):
    rng = np.random.default_rng(0)
    base = np.asarray(scene(0), "float32")
    for index in range(12):
        place = tmp_path / ("sick" if index % 2 else "well")
        place.mkdir(exist_ok=True)
        noise = rng.normal(0, 4, base.shape)
        Image.fromarray((base + noise).clip(0, 255).astype("uint8")).save(place / f"{index}.png")
    found = data.inspect_data(data.load(f"folder:{tmp_path}", validation_fraction=0, test_fraction=0))
    assert len(found.near_copies) == 66  # all pairs of 12
    assert "66 near copies among 12 pictures" in found.are_all_alike and found.are_all_alike in str(found)


def test_files_that_cannot_be_read_are_told_with_the_rest(folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "set")
    for name in ("300.png", "301.png"):
        (tmp_path / "set" / "train" / "cat" / name).write_bytes(b"no picture")
    words = ["inspect-data", str(tmp_path / "set"), "--set", "data.validation_fraction=0"]
    assert not cli.main(words)
    told = capsys.readouterr().out
    assert "skipped 2 of 67 image files" in told and "300.png: " in told and "3 near copies" in told
    assert cli.main([*words, "--set", "data.on_bad_image=error"]) == 2
