"""Processes that are late: they are named, they can be waited for, and the wait can be ended."""

import pathlib
import signal
import socket
import subprocess
import sys

import pytest

pytest.importorskip("tensorflow")

from keras_resnet.distribution import group
from keras_resnet.distribution.launch import free_ports  # noqa: E402
from tests.distribution.processes import ended, started  # noqa: E402

JOIN = """
import sys, time
from keras_resnet import distribution
time.sleep(float(sys.argv[1]))
print(distribution.multi_worker().num_replicas_in_sync)
"""


def test_processes_that_do_not_listen_are_late_and_this_one_is_not():
    with (
        socket.create_server(("127.0.0.1", 0)) as there,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as v6,
    ):
        addresses = [
            f"127.0.0.1:{free_ports(1)[0]}",
            f"127.0.0.1:{there.getsockname()[1]}",
            f"127.0.0.1:{free_ports(1)[0]}",
            f"[::1]:{v6.getsockname()[1]}",
            "no-such-host.invalid:1",
        ]
        assert group.late(addresses, 0) == [2, 4]


@pytest.mark.skipif(not pathlib.Path("/proc/self/task").exists(), reason="children are read from /proc")
def test_nothing_of_the_watch_is_left_behind_and_ctrl_c_is_pythons_again():
    before, others = signal.getsignal(signal.SIGINT), _children()
    with pytest.raises(ZeroDivisionError), group.report_late_peers(["127.0.0.1:1", "127.0.0.1:2"], 0):
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
        assert len(_children() - others) == 1
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is before and _children() <= others


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", [0, 1])
def test_a_process_that_begins_30_s_late_is_named_after_10_and_waited_for(number):
    with started(2, ["-c", JOIN], lambda index: ["30" if index == number else "0"]) as processes:
        answers = ended(processes)
    assert [out.splitlines()[-1] for out, _ in answers] == ["2", "2"]
    told = answers[1 - number][1]
    assert f"process {2 - number} of 2 has waited 1" in told and f"for process {number + 1} at 127.0.0.1:" in told
    assert "has waited" not in answers[number][1]


@pytest.mark.slow
def test_the_watch_ends_with_a_process_that_is_killed():
    wait = (
        "import os, time; from keras_resnet.distribution import group\n"
        "with group.report_late_peers(['127.0.0.1:1', '127.0.0.1:2'], 0): print('waits', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", wait], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"waits\n"
        process.kill()
        process.communicate(timeout=8)  # to the end of the last writer; the first line would come after 10 s


@pytest.mark.exhaustive
def test_ctrl_c_ends_a_process_that_waits_for_another():
    with started(2, ["-c", JOIN], lambda index: ["600" if index else "0"]) as (waits, _):
        while "has waited" not in waits.stderr.readline():
            pass
        waits.send_signal(signal.SIGINT)
        assert waits.wait(60) == -signal.SIGINT


def _children():
    """The processes that this one has started and not waited for."""
    return {child for task in pathlib.Path("/proc/self/task").glob("*/children") for child in task.read_text().split()}
