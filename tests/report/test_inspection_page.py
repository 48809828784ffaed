"""The pages on data: what was found is on them, with the right pictures."""

import base64
import io
import re

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("imagehash")

from PIL import Image  # noqa: E402

from keras_resnet import cli, data, report, training  # noqa: E402


def pictures_of(text):
    """Returns the pictures of a page by their alternative text, as arrays."""
    found = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="([^"]*)">', text)
    return {name: np.asarray(Image.open(io.BytesIO(base64.b64decode(png)))) for png, name in found}


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(24):
        for name in ("cat", "dog"):
            place = tmp_path / "photos" / name / f"{index:02d}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            coarse = rng.integers(0, 255, (4, 4, 3)).astype("uint8")
            Image.fromarray(coarse).resize((32, 32), Image.Resampling.BICUBIC).save(place)
    Image.open(tmp_path / "photos/cat/00.png").resize((40, 40)).save(tmp_path / "photos/dog/copy.png")
    Image.new("RGB", (32, 32), (200, 10, 10)).save(tmp_path / "photos/cat/red.png")
    return tmp_path


def test_the_page_of_an_inspection_shows_the_copies_side_by_side(folder, capsys):
    spec = f"folder:{folder / 'photos'}"
    cli.main(["inspect-data", spec, "--out", str(folder / "page.html")])
    assert "near copies" in capsys.readouterr().out
    text = (folder / "page.html").read_text("utf-8")
    shown = pictures_of(text)
    names = {name.rsplit("photos/", 1)[1]: pixels for name, pixels in shown.items()}
    assert set(names) == {"cat/00.png", "dog/copy.png", "cat/red.png"}
    assert (names["cat/red.png"] == (200, 10, 10)).all()
    one, other = (names[name].astype("float64").ravel() for name in ("cat/00.png", "dog/copy.png"))
    assert np.corrcoef(one, other)[0, 1] > 0.98
    assert "Near copies: 1" in text and "Pictures of one color: 1" in text


@pytest.mark.slow
def test_the_page_of_doubtful_labels_shows_the_first_of_the_list(folder):
    (folder / "photos/dog/copy.png").unlink()
    overrides = {"train.epochs": 1, "model.width": 4, "train.batch_size": 8, "data.image_size": 16}
    training.cross_validate(
        "quick",
        model="resnet10",
        folds=2,
        data=f"folder:{folder / 'photos'}",
        out=folder / "folds",
        overrides=overrides,
        verbose=0,
    )
    path = report.write_label_issues(folder / "folds", folder / "labels.html")
    text = path.read_text("utf-8")
    from keras_resnet.evaluation import label_issues

    first = label_issues(folder / "folds")[0]
    told = f"{first.path}: labeled {first.label} ({first.quality:.1%}), more probably {first.guess}"
    pixels = pictures_of(text)[told]
    assert len(pictures_of(text)) == 49
    original = np.asarray(Image.open(first.path).convert("RGB").resize((128, 128)), "float64")
    drawn = np.asarray(Image.fromarray(pixels).resize((128, 128)), "float64")
    assert np.corrcoef(original.ravel(), drawn.ravel())[0, 1] > 0.9 or original.std() == 0


def test_data_that_are_no_pictures_have_a_page_without_pictures(tmp_path):
    signals = np.random.default_rng(0).normal(size=(40, 16, 2))
    np.savez(tmp_path / "s.npz", x=signals, y=np.arange(40) % 2)
    dataset = data.load(f"npz:{tmp_path / 's.npz'}")
    text = report.write_inspection(data.inspect_data(dataset), dataset, tmp_path / "p.html").read_text("utf-8")
    assert "<img" not in text and "None was found." in text
