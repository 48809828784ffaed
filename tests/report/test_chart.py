"""The parts of charts that can be wrong in silence: ticks and intervals."""

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from keras_resnet.report.chart import round_ticks, wilson_interval  # noqa: E402


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.13, 0.97, [0.2, 0.4, 0.6, 0.8]),
        (1, 8, [2, 4, 6, 8]),
        (1, 90, [20, 40, 60, 80]),
        (-0.003, 0.011, [0, 0.005, 0.01]),
        (1e-8, 3e-8, [1e-8, 1.5e-8, 2e-8, 2.5e-8, 3e-8]),
        (5, 5, [5]),
    ],
)
def test_ticks_are_round_and_inside(low, high, expected):
    assert round_ticks(low, high) == pytest.approx(expected)


def test_epochs_are_whole():
    assert round_ticks(1, 3, whole=True) == [1, 2, 3] and round_ticks(1, 2, whole=True) == [1, 2]


@pytest.mark.parametrize(("hits", "count"), [(0, 1), (1, 1), (3, 7), (50, 100), (999, 1000)])
def test_the_interval_is_that_of_scipy(hits, count):
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(hits, count).proportion_ci(0.95, method="wilson")
    assert np.allclose(wilson_interval(hits / count, count), expected, atol=1e-6)
