"""No command replaces a file that the package did not write."""

import pathlib
import shutil

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from keras_resnet import training  # noqa: E402
from keras_resnet.cli.options import COMMANDS  # noqa: E402
from tests.data import image_files  # noqa: E402

PRECIOUS = b"\x89PNG a photograph, a page, a table: somebody's only copy"
SMALL = ("--set", "model.width=4", "--set", "train.batch_size=64")
# A command that writes -> its words, and the names under OUT that it would write.
WRITERS = {
    "info": (("resnet18", "--svg", "{out}/net.svg"), ("net.svg",)),
    "train": (("--epochs", "1", *SMALL, "--out", "{out}"), ("best.keras", "history.csv", "last/mine", "recipe.toml")),
    "auto": (
        ("digits", "--minutes", "0.1", *SMALL, "--out", "{out}"),
        ("auto.json", "report.html", "planned/last/mine"),
    ),
    "explain": (("{run}", "{image}", "--out", "{out}"), ("photo.png",)),
    "lr-find": ((*SMALL, "--out", "{out}"), ("lr.csv", "lr.png")),
    "preview": (("--out", "{out}/grid.png"), ("grid.png",)),
    "tune": (("--trials", "1", "--epochs", "1", *SMALL, "--out", "{out}"), ("trials.csv", "best.toml", "trials/mine")),
    "export": (("{run}", "--format", "savedmodel", "--out", "{out}/net"), ("net", "net.json")),
    "report": (("{run}", "--out", "{out}/page.html"), ("page.html",)),
    "compare": (("{run}", "{copy}", "--out", "{out}/page.html"), ("page.html",)),
    "convert": (("{run}", "--out", "{out}/net.safetensors"), ("net.safetensors",)),
    "embed": (("{run}", "--out", "{out}/net.parquet"), ("net.parquet",)),
    "prepare": (("{classes}", "--out", "{out}"), ("labels.csv", "train/mine")),
    "inspect-data": (("digits", "--out", "{out}/page.html"), ("page.html",)),
    "prune": (("{run}", "--out", "{out}/net.keras"), ("net.keras",)),
    "shrink": (("{run}", "--macs", "0.9", "--out", "{out}"), ("shrink.json", "shrink.html")),
    "average": (("{run}", "{copy}", "--out", "{out}/net.keras"), ("net.keras",)),
    "calibrate": (("{run}", "--out", "{out}/net.keras"), ("net.keras", "net.json")),
}
AGAIN = ("info", "lr-find", "preview", "report", "compare", "explain", "inspect-data")


@pytest.fixture(scope="module")
def folder(digits_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("overwriting")
    shutil.copytree(digits_run.path, folder / "run")
    shutil.copytree(folder / "run", folder / "copy")
    (folder / "photo.png").write_bytes(image_files.ODD["palette.png"][0]())
    image_files.class_folders(folder / "classes")
    return folder


def words_of(command, folder, out):
    places = {"out": out, "run": folder / "run", "copy": folder / "copy", "image": folder / "photo.png"}
    places["classes"] = folder / "classes"
    return [command, *(word.format(**places) for word in WRITERS[command][0])]


def test_every_command_that_writes_is_tested():
    writing = {name for name, row in COMMANDS.items() if {"--out", "--svg"} & {n for o, _ in row.options for n in o}}
    assert writing == set(WRITERS)


@pytest.mark.parametrize(("command", "name"), [(command, name) for command in WRITERS for name in WRITERS[command][1]])
def test_a_file_of_the_users_stays_as_it_was(run, folder, tmp_path, command, name):
    precious = tmp_path / name
    precious.parent.mkdir(parents=True, exist_ok=True)
    precious.write_bytes(PRECIOUS)
    status, out, err = run(*words_of(command, folder, tmp_path))
    assert precious.read_bytes() == PRECIOUS
    if command == "explain":  # which takes the next name
        assert status == 0 and out.strip() == str(tmp_path / "photo-2.png")
        assert (tmp_path / "photo-2.png").read_bytes().startswith(b"\x89PNG\r\n")
    else:
        assert status == 2 and name.partition("/")[0] in err
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == [precious]


@pytest.mark.slow
@pytest.mark.parametrize("command", AGAIN)
def test_what_the_package_wrote_is_replaced_by_a_second_call(run, folder, tmp_path, command):
    for _ in range(2):
        status, _, err = run(*words_of(command, folder, tmp_path))
        assert status == 0, err
    assert {path.name for path in tmp_path.iterdir()} == set(WRITERS[command][1])


def test_explain_never_writes_over_its_own_input(run, folder, tmp_path):
    photo = tmp_path / "photo.png"
    photo.write_bytes((folder / "photo.png").read_bytes())
    status, out, _ = run("explain", folder / "run", photo, "--out", tmp_path)
    assert status == 0 and out.strip() == str(tmp_path / "photo-2.png")
    assert photo.read_bytes() == (folder / "photo.png").read_bytes()
    # An overlay is the package's own, but not while it is what is explained.
    overlay = (tmp_path / "photo-2.png").read_bytes()
    status, out, _ = run("explain", folder / "run", tmp_path / "photo-2.png", "--out", tmp_path)
    assert status == 0 and out.strip() == str(tmp_path / "photo-2-2.png")
    assert (tmp_path / "photo-2.png").read_bytes() == overlay


def test_the_writers_of_the_library_refuse_too(folder, tmp_path):
    from keras_resnet import data
    from keras_resnet.explain import overlay

    taken = tmp_path / "SHA256SUMS"
    taken.write_bytes(PRECIOUS)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(folder / "photo.png", tmp_path / name)
    recipe = training.Recipe.load("quick")
    for write in (
        lambda: data.write_manifest(tmp_path),
        lambda: recipe.save(taken),
        lambda: overlay(np.zeros((8, 8, 3)), np.zeros((8, 8)), taken),
    ):
        with pytest.raises(ValueError, match="exists, and keras_resnet did not write it"):
            write()
    pathlib.Path(tmp_path / "history.csv").write_bytes(PRECIOUS)
    with pytest.raises(ValueError, match="holds 'history.csv' already"):
        recipe.callbacks(tmp_path)
    assert taken.read_bytes() == PRECIOUS
