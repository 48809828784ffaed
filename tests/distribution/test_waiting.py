import pathlib
import signal
import socket
import time

import pytest

pytest.importorskip("tensorflow")

from keras_resnet.distribution import waiting  # noqa: E402
from keras_resnet.distribution.local import free_ports  # noqa: E402
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
        assert waiting.late(addresses, 0) == [2, 4]


@pytest.mark.skipif(not pathlib.Path("/proc/self/task").exists(), reason="children are read from /proc")
def test_nothing_of_the_watch_is_left_behind_and_ctrl_c_is_pythons_again():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError), waiting.naming_late(["127.0.0.1:1", "127.0.0.1:2"], 0):
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
        assert len(_watchers()) == 1
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is before and not _watchers()


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_a_process_that_begins_30_s_late_is_named_after_10_and_waited_for(number):
    with started(2, ["-c", JOIN], lambda index: ["30" if index == number else "0"]) as processes:
        answers = ended(processes)
    assert [out.splitlines()[-1] for out, _ in answers] == ["2", "2"]
    told = answers[1 - number][1]
    assert f"process {2 - number} of 2 has waited 1" in told and f"for process {number + 1} at 127.0.0.1:" in told
    assert "has waited" not in answers[number][1]


@pytest.mark.slow
def test_ctrl_c_ends_a_process_that_waits_for_another():
    with started(2, ["-c", JOIN], lambda index: ["600" if index else "0"]) as (waits, _):
        while "has waited" not in waits.stderr.readline():
            pass
        waits.send_signal(signal.SIGINT)
        begun = time.monotonic()
        assert waits.wait(60) == -signal.SIGINT and time.monotonic() - begun < 30


def _watchers():
    """The programs of that file that run as children of this process."""
    children = [
        child for task in pathlib.Path("/proc/self/task").glob("*/children") for child in task.read_text().split()
    ]
    commands = [pathlib.Path("/proc", child, "cmdline").read_bytes().decode() for child in children]
    return [command for command in commands if "waiting.py" in command]
