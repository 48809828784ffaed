"""Class names are data for plots, pages and terminals, whatever they look like; and no picture ends a run."""

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from keras_resnet import explain, figures, report, training  # noqa: E402
from keras_resnet.cli import main  # noqa: E402
from keras_resnet.training import callbacks, trainer  # noqa: E402

NAMES = ("under_$10_to_$20", "$x^{2", "<b>bold</b> & 'co'", "{0} %s \\frac", "日本 $$", "_^~")
WORDS = {"model.width": 4, "train.epochs": 1, "train.batch_size": 16}


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    path = tmp_path_factory.mktemp("names") / "odd.npz"
    images = np.random.default_rng(0).integers(0, 256, (120, 8, 8, 3), "uint8")
    np.savez(path, x=images, y=np.arange(120) % len(NAMES), class_names=np.array(NAMES))
    return f"npz:{path}"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")
def test_class_names_that_look_like_markup_are_drawn_and_written_as_they_stand(spec, tmp_path, capsys):
    run = training.fit("quick", model="resnet10", data=spec, out=tmp_path / "run", overrides=WORDS, verbose=0)
    assert run.metrics["test"]["examples"] == 12
    assert (run.path / "confusion.png").read_bytes().startswith(b"\x89PNG")
    training.preview("quick", data=spec, out=tmp_path / "grid.png", overrides=WORDS)
    page = report.write_report(run.path, tmp_path / "page.html").read_text("utf-8")
    assert "&lt;b&gt;bold&lt;/b&gt; &amp;" in page and "<b>bold" not in page and "under_$10_to_$20" in page
    for name in NAMES:
        explain.overlay(np.zeros((8, 8, 3)), np.zeros((8, 8)), tmp_path / "overlay.png", name)
    assert main(["evaluate", str(run.path)]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in NAMES)


def test_names_that_would_move_a_terminals_cursor_are_refused(tmp_path):
    names = np.array(["plain", "red\x1b[31m"])
    np.savez(tmp_path / "n.npz", x=np.zeros((20, 8, 8, 1), "uint8"), y=np.arange(20) % 2, class_names=names)
    with pytest.raises(ValueError, match=r"unprintable characters: \['red\\x1b\[31m'\]"):
        training.fit("quick", model="resnet10", data=f"npz:{tmp_path / 'n.npz'}", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_picture_that_cannot_be_drawn_is_a_warning(spec, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("no font")

    monkeypatch.setattr(callbacks, "draw_curves", fail)
    monkeypatch.setattr(trainer, "draw_confusion", fail)
    with pytest.warns(UserWarning, match=r"could not be drawn \(RuntimeError\('no font'\)\)") as warned:
        run = training.fit("quick", model="resnet10", data=spec, out=tmp_path / "run", overrides=WORDS, verbose=0)
    drawn = {str(one.message).split()[0] for one in warned if "drawn" in str(one.message)}
    assert drawn == {"curves.png", "confusion.png"}
    assert run.metrics["test"]["examples"] == 12 and not (run.path / "curves.png").exists()
    assert [path for path in run.path.iterdir() if path.name.startswith(".curves")] == []


def test_text_of_the_users_is_never_parsed_as_a_formula(tmp_path):
    # Two dollars begin a formula that does not parse; one is drawn as it stands in any case.
    figures.draw_confusion(np.eye(2, dtype=int), ("a$\\frac$", "b"), tmp_path / "c.png", "$\\frac$")
    pixels = np.zeros((1, 4, 4, 3))
    figures.draw_examples(pixels, pixels, ["100% $\\frac$"], 1, tmp_path / "e.png")
