"""What `keras-resnet benchmark` says, with tiny sizes: its figures are for people."""

import json

import pytest

from keras_resnet import benchmark, models
from keras_resnet.cli import main

TINY = {"input_size": 8, "batch_size": 2, "width": 4, "seconds": 0.2}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["train", "infer"])
def test_the_share_is_that_of_the_work_in_the_peak(mode):
    found = benchmark.benchmark("resnet18", mode=mode, **TINY)
    work = models.model_info("resnet18", input_shape=(8, 8, 3), stem="small", width=4).multiply_adds * 2
    expected = found.images_per_second * work * (3 if mode == "train" else 1) / 1e9
    assert found.gflops == pytest.approx(expected)
    assert 0 < found.share_of_peak == pytest.approx(expected / found.peak_gflops)
    assert f"{found.images_per_second:,.1f} images/s" in str(found) and "tensorflow" in found.facts


def test_reading_counts_images_and_has_no_share():
    found = benchmark.benchmark(mode="data", input_size=32, batch_size=8, seconds=0.2)
    assert found.images_per_second > 8 and found.share_of_peak is None and "GFLOP" not in str(found)


@pytest.mark.slow
def test_the_command_prints_json(capsys):
    words = ["benchmark", "--model", "resnet18", "--mode", "infer", "--input-size", "16", "--batch-size", "1", "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["model"], told["input_size"], told["batch_size"]) == ("resnet18", 16, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"mode": "trian"}, "Did you mean 'train'"), ({"input_size": 4}, "input_size"), ({"model": "resnet"}, "resnet18")],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        benchmark.benchmark(**{"model": "resnet18", "seconds": 0.1, **options})
