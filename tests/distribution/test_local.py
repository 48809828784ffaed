"""Processes of one command: they end with the one that started them."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
# Each child writes its number and waits; SIGTERM ends it with a file.
CHILD = """
import os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[-1])
def end(*_):
    (folder / f"ended-{os.getpid()}").touch()
    os._exit(0)
signal.signal(signal.SIGTERM, end)
(folder / f"started-{os.getpid()}").touch()
time.sleep(60)
"""
LAUNCHER = """
import sys
from keras_resnet.distribution import launch
launch.COMMAND = [sys.executable, "-c", sys.argv[1]]
launch.run_together(2, [sys.argv[2]])
"""


def wait_for(folder, pattern, count):
    end = time.monotonic() + 30
    while len(list(folder.glob(pattern))) < count:
        assert time.monotonic() < end, sorted(path.name for path in folder.iterdir())
        time.sleep(0.02)


def test_processes_end_with_the_command_that_started_them_however_it_ends(tmp_path):
    root = pathlib.Path(__file__).resolve().parents[2]
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER, CHILD, str(tmp_path)], cwd=root)
    wait_for(tmp_path, "started-*", 2)
    os.kill(launcher.pid, signal.SIGKILL)
    launcher.wait()
    wait_for(tmp_path, "ended-*", 2)
