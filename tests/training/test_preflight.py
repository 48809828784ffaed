import time

import pytest

pytest.importorskip("tensorflow")

from keras_resnet import training  # noqa: E402
from keras_resnet.training import preflight  # noqa: E402

SMALL = {"model.width": 8, "train.batch_size": 256, "train.epochs": 1}


def test_a_step_that_cannot_fit_is_refused_with_what_to_lower(tmp_path, monkeypatch):
    monkeypatch.setattr(preflight, "available_bytes", lambda: 50 * 2**20)
    with pytest.raises(ValueError, match=r"256 examples of 8x8x1 needs .* MiB .*50.0 MiB are free") as caught:
        training.fit("quick", out=tmp_path / "run", overrides={**SMALL, "model.width": 64}, verbose=0)
    assert not (tmp_path / "run").exists() and "Lower model.width" in str(caught.value)
    with pytest.raises(ValueError, match=r"Lower train.batch_size to \d+ or less") as caught:
        training.fit("quick", overrides={**SMALL, "model.width": 24, "train.batch_size": 1024}, dry_run=True)
    fitting = int(str(caught.value).split("train.batch_size to ")[1].split()[0])
    training.fit("quick", overrides={**SMALL, "model.width": 24, "train.batch_size": fitting}, dry_run=True)
    training.fit(
        "quick", overrides={**SMALL, "model.width": 24, "train.batch_size": 1024, "train.recompute": True}, dry_run=True
    )


def test_the_check_takes_no_time_and_refuses_nothing_that_fits():
    begun = time.process_time()
    run = training.fit("quick", overrides=SMALL, dry_run=True)
    preflight.check_memory(run.model, 256, False)
    assert time.process_time() - begun < 30
