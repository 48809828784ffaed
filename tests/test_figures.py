"""Class names in scripts that matplotlib's own font lacks."""

import warnings

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib import font_manager  # noqa: E402

from keras_resnet import figures  # noqa: E402
from keras_resnet.training.plots import draw_confusion, draw_examples  # noqa: E402

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
