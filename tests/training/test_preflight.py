import shutil
import subprocess
import sys
import time

import keras
import pytest

tf = pytest.importorskip("tensorflow")

from keras_resnet import training  # noqa: E402
from keras_resnet.errors import NoMemory  # noqa: E402
from keras_resnet.training import trainer  # noqa: E402

SMALL = {"model.width": 8, "train.batch_size": 256, "train.epochs": 1}


def test_a_step_that_cannot_fit_is_refused_with_what_to_lower(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "available_bytes", lambda: 50 * 2**20)
    with pytest.raises(ValueError, match=r"256 examples of 8x8x1 needs .* MiB .*50.0 MiB are free") as caught:
        training.fit("quick", out=tmp_path / "run", overrides={**SMALL, "model.width": 64}, verbose=0)
    assert not (tmp_path / "run").exists() and "Lower model.width" in str(caught.value)
    with pytest.raises(ValueError, match=r"Lower train.batch_size to \d+ or less") as caught:
        training.fit("quick", overrides={**SMALL, "model.width": 24, "train.batch_size": 1024}, dry_run=True)
    fitting = int(str(caught.value).split("train.batch_size to ")[1].split()[0])
    training.fit("quick", overrides={**SMALL, "model.width": 24, "train.batch_size": fitting}, dry_run=True)
    training.fit(
        "quick",
        overrides={**SMALL, "model.width": 24, "train.batch_size": 1024, "train.recompute": True},
        dry_run=True,
    )


def test_the_check_takes_no_time_and_refuses_nothing_that_fits():
    begun = time.process_time()
    run = training.fit("quick", model="resnet10", overrides=SMALL, dry_run=True)
    trainer.check_memory(run.model, 256, False)
    assert time.process_time() - begun < 30


def test_a_limit_of_the_address_space_below_what_tensorflow_reserves_is_refused(monkeypatch):
    monkeypatch.setattr(trainer, "free_address_space", lambda: 900 * 2**20)
    with pytest.raises(ValueError, match=r"leaves 900.0 MiB. This training needs 1.0 GiB and more.*ulimit -v"):
        training.fit("quick", model="resnet10", overrides=SMALL, dry_run=True)


@pytest.mark.slow
def test_memory_that_runs_out_in_a_step_is_one_error_with_what_is_saved_and_how_to_go_on(tmp_path):
    def exhaust(epoch, logs):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[256,8]")

    run = {"overrides": {**SMALL, "train.epochs": 2}, "out": tmp_path / "run", "verbose": 0}
    with pytest.raises(
        NoMemory, match="in epoch 2, after .* batches of 256 examples of 8x8x1: OOM when allocating"
    ) as told:
        training.fit("quick", model="resnet10", callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=exhaust)], **run)
    assert "--resume" in str(told.value) and "Lower train.batch_size" in str(told.value)
    assert training.fit("quick", model="resnet10", resume=True, **run).file.epochs_trained == 2


@pytest.mark.exhaustive
@pytest.mark.skipif(shutil.which("prlimit") is None, reason="limits are set by prlimit of util-linux")
@pytest.mark.parametrize("limit_mib", [2400, 2800, 3600])
def test_under_a_limit_of_the_address_space_a_training_is_refused_or_ends(tmp_path, limit_mib):
    options = ["train", "--epochs", "1", "--batch-size", "64", "--set", "model.width=8", "--out", str(tmp_path / "run")]
    limit = limit_mib * 2**20
    command = [sys.executable, "-c", "import sys, keras_resnet_command as c; sys.exit(c.main())", *options]
    limited = ["prlimit", f"--as={limit}", *command]
    done = subprocess.run(limited, capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, 2), done.stderr
    assert done.returncode == 0 or "ulimit -v" in done.stderr
