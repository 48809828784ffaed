"""A recipe on two hosts with a network between them: a short break is waited for, a cut is named on both sides.

The limits of the network are 30 s and more, and are waited for: up to two minutes.
"""

import time

import pytest

pytest.importorskip("tensorflow")

from benchmarks.hosts import two_hosts, why_not  # noqa: E402
from keras_resnet import training  # noqa: E402
from tests.distribution.processes import ended, started  # noqa: E402
from tests.distribution.test_recipes import SMALL, command, wait_for_states  # noqa: E402

MISSING = why_not()
pytestmark = [pytest.mark.exhaustive, pytest.mark.skipif(bool(MISSING), reason=MISSING)]


def test_a_short_break_is_waited_for_and_a_cut_is_named_and_all_go_on(tmp_path):
    out = tmp_path / "run"
    with two_hosts() as (hosts, cable):
        with started(2, command(out), hosts=hosts) as processes:
            wait_for_states(out, processes)
            cable.cut()
            time.sleep(3)
            cable.mend()
            before = (out / "last").stat().st_mtime_ns
            while (out / "last").stat().st_mtime_ns == before:  # another state is saved there
                assert all(process.poll() is None for process in processes)
                time.sleep(0.05)
            cable.cut()
            struck = time.monotonic()
            told = [process.communicate(timeout=600)[1] for process in processes]
            assert time.monotonic() - struck < 300  # about eleven seconds where nothing else runs
        for process, err in zip(processes, told, strict=True):
            assert process.returncode not in (0, None)
            assert "Traceback" not in err and "cannot be reached" in err and "steps of this start" in err
        cable.mend()
        with started(2, command(out, "--resume"), hosts=hosts) as processes:
            answers = ended(processes)
    for number, (said, _) in enumerate(answers):
        assert f"process {number + 1} of 2 at {hosts[number][0]}" in said
    alone = training.fit("quick", out=tmp_path / "alone", overrides=SMALL, verbose=0)
    assert training.Run.load(out).history["val_loss"] == pytest.approx(alone.history["val_loss"], rel=1e-2)
