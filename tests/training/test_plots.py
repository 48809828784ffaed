import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from keras_resnet.training import plots


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
