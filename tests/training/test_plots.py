import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from keras_resnet.training import plots
from keras_resnet.training.range_test import RangeTest


@pytest.mark.parametrize("epochs", [1, 2, 3, 12, 90])
def test_the_ticks_of_the_epochs_are_whole_numbers(tmp_path, monkeypatch, epochs):
    figures = []
    make = plots._figure
    monkeypatch.setattr(plots, "_figure", lambda *size: figures.append(make(*size)) or figures[-1])
    rows = [{"epoch": e, "loss": 1 / e, "val_loss": 2 / e, "learning_rate": 0.1} for e in range(1, epochs + 1)]
    plots.draw_curves(rows, tmp_path / "curves.png")
    FigureCanvasAgg(figures[0]).draw()
    for axes in figures[0].axes:
        low, high = axes.get_xlim()
        shown = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert shown and all(tick == round(tick) for tick in shown)


@pytest.mark.parametrize("losses", [(1.0, 2.0, 5.0), (2.0, 2.0, 2.0), (3.0,), (3.0, 1.0, 9.0)], ids=str)
def test_a_range_test_whose_loss_never_falls_is_drawn(tmp_path, recwarn, losses):
    rates = tuple(10.0 ** (n - 5) for n in range(len(losses)))
    found = RangeTest(tmp_path, rates, losses, losses, None, rates[0])
    plots.draw_range_test(found, tmp_path / "lr.png")
    assert (tmp_path / "lr.png").stat().st_size > 1000 and not recwarn.list
