"""Large pictures made small once: the same labels and splits, and pixels as Pillow has them."""

import csv
import hashlib
import io
import os
import pathlib
import re

import numpy as np
import pytest
from PIL import Image, ImageOps

pytest.importorskip("tensorflow")

from keras_resnet import data, training  # noqa: E402
from keras_resnet.cli import main  # noqa: E402
from keras_resnet.data import prepared  # noqa: E402


def photograph(seed, height=600, width=400):
    """A picture with edges and texture."""
    draw = np.random.default_rng(seed)
    small = Image.fromarray(draw.integers(0, 256, (12, 8, 3), dtype="uint8"))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def write_folder(root, per_class=6):
    for split in ("train", "test"):
        for label, name in enumerate(("cat", "dog")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(per_class):
                exif = Image.Exif()
                exif[0x0112] = 1 + index % 8
                seed = 100 * label + index + 1000 * (split == "test")
                photograph(seed).save(folder / f"{index}.jpg", quality=95, exif=exif)
    return f"folder:{root}"


def load(spec, **options):
    return data.load(spec, in_memory_limit=0, **options)


def files_of(dataset):
    return [dataset.name_of(split, index) for split in dataset.splits for index in range(dataset.sizes[split])]


def as_pillow_has_it(path, side):
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.asarray(image, "float32")


def test_pictures_are_those_of_pillow_upright_and_the_table_says_what_the_folder_says(tmp_path):
    original = load(write_folder(tmp_path / "photos"), validation_fraction=0.25)
    assert not any("megapixels" in line for line in original.report)
    done = data.prepare(original, tmp_path / "small", long_side=96, verbose=False)
    new = load(f"csv:{done.table}")
    assert (done.pictures, done.resized, new.sizes, new.class_names) == (24, 24, original.sizes, original.class_names)
    assert done.bytes_after < done.bytes_before / 4 and f"train {done.table}" in str(done)
    for split in original.splits:
        np.testing.assert_array_equal(new.splits[split].labels, original.splits[split].labels)
    for before, after in zip(files_of(original), files_of(new), strict=True):
        ours, theirs = data.read_image(after).astype("float32"), as_pillow_has_it(before, 96)
        assert ours.shape == theirs.shape and max(ours.shape) == 96
        assert np.abs(ours - theirs).mean() < 2.0  # two ways to halve a JPEG, and its quality of 95
    with open(done.table, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            assert hashlib.sha256(pathlib.Path(row["original"]).read_bytes()).hexdigest() == row["sha256"]


def test_small_pictures_are_copied_and_sixteen_bits_stay(tmp_path):
    draw = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "mixed" / name).mkdir(parents=True)
        for index in range(4):
            photograph(index, 60, 40).save(tmp_path / "mixed" / name / f"small{index}.jpg", quality=80)
            smooth = np.linspace(1000, 1400, 200)[:, None] + np.linspace(0, 300, 150) + draw.integers(0, 9)
            Image.fromarray(smooth.astype("uint16")).save(tmp_path / "mixed" / name / f"deep{index}.png")
            photograph(index).convert("P").save(tmp_path / "mixed" / name / f"palette{index}.png")
        photograph(9).convert("CMYK").save(tmp_path / "mixed" / name / "print.jpg", quality=95)
        frames = [photograph(index) for index in (7, 8)]
        frames[0].save(tmp_path / "mixed" / name / "phone.jpg", format="MPO", save_all=True, append_images=frames[1:])
    original = load(f"folder:{tmp_path}/mixed")
    done = data.prepare(original, tmp_path / "out", long_side=100, verbose=False)
    assert (done.pictures, done.resized) == (28, 20)
    for before, after in zip(files_of(original), files_of(load(f"csv:{done.table}")), strict=True):
        name = os.path.basename(before)
        if name.startswith("small"):
            assert pathlib.Path(after).read_bytes() == pathlib.Path(before).read_bytes()
        elif name.startswith("deep"):
            theirs = np.asarray(Image.fromarray(np.asarray(Image.open(before), "float32")).resize((75, 100), 1))
            ours = data.read_image(after)[..., 0] * 257
            assert ours.shape == (100, 75) and np.abs(ours - theirs).max() < 0.6  # of 65535: rounding alone
        else:
            assert os.path.splitext(after)[1] == (".png" if name.startswith("palette") else ".jpg")
            ours, theirs = data.read_image(after).astype("float32"), data.read_image(before)
            theirs = np.asarray(Image.fromarray(theirs).resize(ours.shape[1::-1], Image.Resampling.LANCZOS), "float32")
            assert np.abs(ours - theirs).mean() < 3.0, before


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
def test_groups_weights_and_every_kind_of_label_are_kept(tmp_path, kind):
    """Two targets keep their names, several labels their classes, and a patient stays in one split."""
    rows = []
    for index in range(24):
        photograph(index, 80, 60).save(tmp_path / f"{index}.jpg")
        label = {
            "classification": {"label": "cat|dog" if index % 2 else 'it\'s, "both"'},
            "multilabel": {"label": "|".join(["red", "green"][: index % 3])},
            "regression": {"age": index / 7, "height": 150 + index},
        }[kind]
        rows.append({"path": f"{index}.jpg", **label, "patient": f"p{index // 3}", "weight": 1 + index % 4})
    with open(tmp_path / "labels.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    columns = "label=age+height" if kind == "regression" else None
    original = load(f"csv:{tmp_path}/labels.csv", task=kind, columns=columns)
    done = data.prepare(original, tmp_path / "small", long_side=50, verbose=False)
    assert done.columns == columns and done.resized == 24
    new = load(f"csv:{done.table}", task=kind, columns=columns)
    assert (new.class_names, new.units, new.sizes) == (original.class_names, original.units, original.sizes)
    for split in original.splits:
        np.testing.assert_array_equal(new.splits[split].labels, original.splits[split].labels)
        np.testing.assert_array_equal(new.groups_of(split), original.groups_of(split))
        np.testing.assert_array_equal(new.weights_of(split), original.weights_of(split))


def test_data_of_large_pictures_say_that_they_can_be_made_small(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(3):
            Image.new("RGB", (2000, 1500), (index, 0, 0)).save(tmp_path / name / f"{index}.jpg")
    (line,) = [line for line in load(f"folder:{tmp_path}").report if "megapixels" in line]
    assert line.startswith("the pictures have 3.0 megapixels (median)") and "keras-resnet prepare" in line


def test_a_killed_call_goes_on_and_ends_as_one_that_was_not(tmp_path, monkeypatch):
    original = load(write_folder(tmp_path / "photos"))
    whole = data.prepare(original, tmp_path / "whole", long_side=64, verbose=False)
    write, calls = prepared._write, []

    def write_some(*arguments):
        calls.append(arguments)
        if len(calls) > 9:
            raise KeyboardInterrupt
        return write(*arguments)

    monkeypatch.setattr(prepared, "_write", write_some)
    with pytest.raises(KeyboardInterrupt):
        data.prepare(original, tmp_path / "small", long_side=64, verbose=False)
    monkeypatch.undo()
    left = {path: path.stat().st_mtime_ns for path in (tmp_path / "small").glob("*/*.jpg")}
    assert 0 < len(left) < 24 and not (tmp_path / "small" / "labels.csv").exists()
    done = data.prepare(original, tmp_path / "small", long_side=64, verbose=False)
    assert all(path.stat().st_mtime_ns == time for path, time in left.items())
    assert done.table.read_bytes() == whole.table.read_bytes() and str(done).count("\n") == str(whole).count("\n")
    for path in (tmp_path / "whole").glob("*/*.jpg"):
        assert (tmp_path / "small" / path.parent.name / path.name).read_bytes() == path.read_bytes()
    with pytest.raises(ValueError, match="holds other pictures, or such of another size"):
        data.prepare(original, tmp_path / "small", long_side=65, verbose=False)


def test_an_original_that_was_changed_is_prepared_again(tmp_path):
    original = load(write_folder(tmp_path / "photos"))
    first = data.prepare(original, tmp_path / "small", long_side=64, verbose=False)
    row = next(iter(csv.DictReader(first.table.read_text("utf-8").splitlines())))
    other = Image.fromarray(np.full((200, 100, 3), 250, "uint8"))
    other.save(row["original"], "JPEG")
    again = data.prepare(original, tmp_path / "small", long_side=64, verbose=False)
    (changed,) = [
        line
        for line in csv.DictReader(again.table.read_text("utf-8").splitlines())
        if line["original"] == row["original"]
    ]
    assert changed["sha256"] != row["sha256"]
    pixels = np.asarray(Image.open(again.table.parent / changed["path"]))
    assert pixels.shape == (64, 32, 3) and np.abs(pixels.astype(int) - 250).max() <= 1


@pytest.mark.slow
def test_the_command_prepares_and_its_table_trains(tmp_path, capsys):
    write_folder(tmp_path / "photos")
    assert main(["prepare", str(tmp_path / "photos"), "--long-side", "48", "--out", str(tmp_path / "small")]) == 0
    assert f"next: keras-resnet train {tmp_path}/small/labels.csv --out RUN" in capsys.readouterr().out
    words = ["--set", "model.width=4", "--epochs", "1", "--dry-run"]
    assert main(["train", str(tmp_path / "small" / "labels.csv"), *words]) == 0


def test_what_cannot_be_prepared_is_refused(tmp_path):
    spec = write_folder(tmp_path / "photos", 3)
    with pytest.raises(ValueError, match="has no picture files at hand"):
        data.prepare(data.load("digits"), tmp_path / "out")
    lines = ["path,red,green", *(f"photos/train/cat/{index}.jpg,1,{['', '0'][index % 2]}" for index in range(3))]
    (tmp_path / "unknown.csv").write_text("\n".join([*lines, "photos/train/dog/0.jpg,0,1"]), "utf-8")
    words = {"task": "multilabel", "uncertain": "ignore", "validation_fraction": 0.0, "test_fraction": 0.0}
    with pytest.raises(ValueError, match="would be others when they are read from a table, as labels that are not"):
        data.prepare(load(f"csv:{tmp_path}/unknown.csv", **words), tmp_path / "out0", verbose=False)
    assert not (tmp_path / "out0" / "labels.csv").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds 'mine.txt', and no pictures were prepared"):
        data.prepare(load(spec), tmp_path / "full")
    buffer = io.BytesIO()
    photograph(1).save(buffer, "png")
    broken = bytearray(buffer.getvalue())
    broken[len(broken) // 2] ^= 0x55  # whole at both ends, so that only decoding tells
    (tmp_path / "photos" / "train" / "cat" / "0.png").write_bytes(broken)
    with pytest.raises(data.BadImageError, match=r"1 of 13 image files cannot be used: .*0\.png"):
        data.prepare(load(spec), tmp_path / "out", long_side=64, verbose=False)
    assert not (tmp_path / "out" / "labels.csv").exists()
    skipping = load(spec, on_bad_image="skip", max_skipped_fraction=0.5)
    done = data.prepare(skipping, tmp_path / "out2", long_side=64, verbose=False)
    assert done.pictures == 12 and any("0.png" in line for line in done.report)


def write_large(root, per_class):
    draw = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (root / label).mkdir()
        for index in range(per_class):
            picture = Image.fromarray(draw.integers(0, 256, (30, 40, 3), "uint8")).resize((1800 + index, 1400))
            picture.save(root / label / f"{index}.jpg")


@pytest.mark.slow
def test_an_epoch_says_what_reading_large_pictures_costs(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(prepared, "WORTH_SAYING", 0.0)
    write_large(tmp_path, 20)
    small = {"model.width": 4, "train.epochs": 2, "train.batch_size": 8, "data.image_size": 32, "data.crop": "random"}
    options = {"model": "resnet10", "overrides": small, "verbose": 2, "score": ()}
    training.fit("quick", data=f"folder:{tmp_path}", out=tmp_path / "run", **options)
    lines = capsys.readouterr().out.splitlines()
    (place,) = [index for index, line in enumerate(lines) if line.startswith("reading the pictures takes ")]
    assert lines[place - 1].lstrip().startswith("1/2")
    found = re.fullmatch(
        r".*takes (\d+)% of an epoch: after keras-resnet prepare .* (\d+\.\d) times faster", lines[place]
    )
    assert 0 < int(found[1]) <= 100 and float(found[2]) >= 1.0


def test_where_reading_is_a_small_part_nothing_is_said(tmp_path):
    write_large(tmp_path, 10)
    dataset = load(f"folder:{tmp_path}", test_fraction=0.25)
    assert prepared.what_prepare_saves(dataset, images_per_second=0.1) == ""
    reading = prepared.reading_milliseconds(dataset)[prepared.AS_THEY_ARE] / prepared.PARALLEL_CALLS
    assert "times faster" in prepared.what_prepare_saves(dataset, images_per_second=1000 / reading)
    small = load(write_folder(tmp_path / "photos"))
    assert prepared.what_prepare_saves(small, images_per_second=1e4) == ""


def test_an_inspection_says_how_long_large_pictures_take_to_be_read(tmp_path):
    write_large(tmp_path, 4)
    line = data.inspect_data(load(f"folder:{tmp_path}", test_fraction=0.25)).report[-1]
    number = r"\d+\.\d"
    pattern = f"{number} as they are, {number} with data.decode='scaled', {number} after keras-resnet prepare"
    assert re.fullmatch(f"processor milliseconds to read a picture for training at 224 px: {pattern}", line)
    small = data.inspect_data(load(write_folder(tmp_path / "photos")))
    assert not any("milliseconds" in line for line in small.report)
