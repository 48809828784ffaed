"""The commands of the README and of the pages, run in their order in a folder that holds what a reader has.

A page has up to thirty commands, most of which train or export: up to two minutes of processor time.
"""

import pathlib
import re
import shlex
import shutil

import numpy as np
import pytest
from PIL import Image

from keras_resnet import training
from keras_resnet.cli import main

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = (
    "README.md",
    "docs/command-line.md",
    "docs/evaluation.md",
    "docs/export.md",
    "docs/explain.md",
    "docs/first-model.md",
    "docs/publishing.md",
    "docs/weights.md",
)
# Added to a command, so that it takes seconds; what it does stays.
SHORTER = {
    "train": ["--epochs", "1", "--set", "model.width=4"],
    "lr-find": ["--set", "model.width=4", "--set", "data.image_size=32"],
    "tune": ["--trials", "2", "--epochs", "1"],
}
SPACE = '[optimizer.learning_rate]\nlow = 0.01\nhigh = 0.3\nscale = "log"\n'
# They wait for a browser, for another machine, or need a set that TFDS prepared.
LEFT_OUT = ("keras-resnet demo", "--weights imagenet", "tfds:", "/shared/", "pip install", "export KERASTUNER")


def commands(page):
    text = "".join(re.findall(r"^```bash\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.MULTILINE | re.DOTALL))
    lines = [line for line in text.splitlines() if line.startswith("keras-resnet ")]
    return [shlex.split(line, comments=True)[1:] for line in lines if not any(part in line for part in LEFT_OUT)]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    words = {"model.width": 4, "train.epochs": 1}
    return training.fit(
        "quick", model="resnet10", out=tmp_path_factory.mktemp("documented") / "run", overrides=words, verbose=0
    ).path


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """Photographs in class folders, three single ones, and a space of one's own."""
    rng = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(90):
            pixels = rng.integers(0, 256, (40 + index % 7, 50, 3)).astype("uint8")
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{index}.jpg")
    photos = [
        f"photos/{name}/{index}.jpg,{name},{name}{index // 3}" for name in ("cats", "dogs") for index in range(90)
    ]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,group", *photos]))
    (tmp_path / "new").mkdir()
    for name in ("image.png", "new.png", "one.jpg", "two.jpg", "new/one.jpg"):
        Image.fromarray(rng.integers(0, 256, (48, 64, 3)).astype("uint8")).save(tmp_path / name)
    (tmp_path / "mine.toml").write_text(SPACE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore:minutes=.* is less than one epoch takes")
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run_in_their_order(page, workplace, digits, capsys):
    for words in commands(page):
        if page != "README.md":
            # A page of the documentation speaks of runs that the reader has; the README begins with nothing.
            for name in [word for word in words if re.fullmatch(r"runs/\w+", word)]:
                if not (workplace / name).exists() and "--out" not in words[max(0, words.index(name) - 1) :][:1]:
                    shutil.copytree(digits, workplace / name)
        more = [] if "--resume" in words else SHORTER.get(words[0], [])
        if words[0] == "convert" and "resnet18" in words:  # the runs here are smaller
            words[words.index("resnet18")] = "resnet10"
        if "--minutes" in words:  # a tenth of one, in place of the epochs
            words[words.index("--minutes") + 1] = "0.1"
            more = ["--set", "model.width=4", "--set", "data.image_size=32"]
        elif words[0] == "train" and {"folder:photos", "photos/"} & {*words}:
            more = [*more, "--set", "data.image_size=32"]
        if "--folds" in words:
            more = [*more, "--folds", "2"]
        status = main([*words, *more])
        assert status == 0, (words, capsys.readouterr().err)


def test_the_pages_have_commands_to_run():
    assert all(commands(page) for page in PAGES) and len(commands("docs/command-line.md")) > 20
