"""Figures: class names in scripts that matplotlib's own font lacks, ticks, flat curves."""

import warnings

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib import font_manager  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402

from keras_resnet import figures  # noqa: E402
from keras_resnet.figures import draw_confusion, draw_examples  # noqa: E402
from keras_resnet.training.range_test import RangeTest  # noqa: E402

NAMES = ["cat", "über", "猫", "고양이"]


@pytest.fixture
def no_other_fonts(monkeypatch):
    only = [entry for entry in font_manager.fontManager.ttflist if entry.name == figures.DEFAULT]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", only)
    figures._families.cache_clear()
    yield
    figures._families.cache_clear()


def test_names_that_no_font_shows_are_numbers_and_nothing_warns(no_other_fonts, tmp_path):
    shown, settings = figures.readable(NAMES)
    assert shown == ["cat", "über", "#2", "#3"] and settings == {"font.family": [figures.DEFAULT]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_confusion(np.eye(4, dtype=int), NAMES, tmp_path / "confusion.png", "title")
        draw_examples(np.zeros((4, 8, 8, 1)), np.zeros((4, 8, 8, 1)), NAMES, 2, tmp_path / "grid.png")
    assert (tmp_path / "confusion.png").stat().st_size > 1000 and (tmp_path / "grid.png").is_file()


def test_a_font_of_the_system_that_has_the_characters_is_taken(no_other_fonts, monkeypatch):
    # A stand-in for a font file: what a font is asked for are its name, its style and its characters.
    entry = font_manager.FontEntry(fname="/fonts/cjk.ttf", name="Some CJK", style="normal")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [*font_manager.fontManager.ttflist, entry])
    own = figures._characters
    monkeypatch.setattr(figures, "_characters", lambda path: frozenset("猫고양이") if "cjk" in path else own(path))
    shown, settings = figures.readable(NAMES)
    assert shown == NAMES and settings == {"font.family": [figures.DEFAULT, "Some CJK"]}


def test_usual_names_need_no_other_font():
    assert figures.readable(["cat", "$5", "é"]) == (["cat", "$5", "é"], {"font.family": [figures.DEFAULT]})


@pytest.mark.parametrize("epochs", [1, 2, 3, 12, 90])
def test_the_ticks_of_the_epochs_are_whole_numbers(tmp_path, monkeypatch, epochs):
    drawn = []
    make = figures._figure
    monkeypatch.setattr(figures, "_figure", lambda *size: drawn.append(make(*size)) or drawn[-1])
    rows = [{"epoch": e, "loss": 1 / e, "val_loss": 2 / e, "learning_rate": 0.1} for e in range(1, epochs + 1)]
    figures.draw_curves(rows, tmp_path / "curves.png")
    FigureCanvasAgg(drawn[0]).draw()
    for axes in drawn[0].axes:
        low, high = axes.get_xlim()
        shown = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert shown and all(tick == round(tick) for tick in shown)


@pytest.mark.parametrize("losses", [(1.0, 2.0, 5.0), (2.0, 2.0, 2.0), (3.0,), (3.0, 1.0, 9.0)], ids=str)
def test_a_range_test_whose_loss_never_falls_is_drawn(tmp_path, recwarn, losses):
    rates = tuple(10.0 ** (n - 5) for n in range(len(losses)))
    found = RangeTest(tmp_path, rates, losses, losses, None, rates[0])
    figures.draw_range_test(found, tmp_path / "lr.png")
    assert (tmp_path / "lr.png").stat().st_size > 1000 and not recwarn.list
