"""Forked workers do what new processes do: their output, their exit status, signals, and an end with their parent."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("tensorflow")

from keras_resnet.distribution.launch import module_paths  # noqa: E402
from keras_resnet.tuning import fork_server  # noqa: E402

ENVIRONMENT = {**os.environ, "PYTHONPATH": module_paths(), "TF_CPP_MIN_LOG_LEVEL": "3"}
SCRIPT = """
import sys, time
print(sys.argv[1], "tensorflow" in sys.modules, flush=True)
if sys.argv[1] == "wait":
    sys.stdin.read()
elif sys.argv[1] == "sleep":
    time.sleep(600)
elif sys.argv[1] == "train":
    import keras
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    print(model.fit(keras.ops.ones((8, 3)), keras.ops.ones((8, 2)), verbose=0).history["loss"])
else:
    sys.exit(int(sys.argv[1]))
"""
pytestmark = pytest.mark.skipif(not fork_server.can_fork(), reason="workers are new processes here")


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("scripts") / "script.py"
    path.write_text(SCRIPT)
    return path


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    server = fork_server.ForkServer(tmp_path_factory.mktemp("server") / "log", ENVIRONMENT)
    yield server
    server.close()


@pytest.fixture
def start(script, tmp_path):
    """Starts a worker with one word, and waits for its first line."""

    def begin(server, word):
        log = tmp_path / f"{word}.log"
        with open(log, "a", encoding="utf-8") as output:
            worker = server.start([os.fspath(script), word], output)
        last = time.monotonic() + 60
        while not log.read_text():
            assert time.monotonic() < last
            time.sleep(0.01)
        return worker, log

    return begin


def is_running(pid):
    """Whether a process runs: one that has ended and that nobody waits for is there as a zombie."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_worker_has_the_modules_its_words_and_its_status(shared, start):
    for status in (0, 3):
        worker, log = start(shared, str(status))
        assert worker.wait(30) == status and log.read_text() == f"{status} True\n"


@pytest.mark.slow
def test_a_forked_worker_trains_as_a_new_process_does(shared, start, script):
    forked, log = start(shared, "train")
    assert forked.wait(60) == 0
    command = [sys.executable, script, "train"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert log.read_text().splitlines()[1] == done.stdout.splitlines()[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_reaches_the_worker_that_it_is_for(shared, start, number):
    (first, _), (second, _) = start(shared, "sleep"), start(shared, "wait")
    first.send_signal(number)
    assert first.wait(30) == -number and second.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(0.1)
    second.kill()
    assert second.wait(30) == -signal.SIGKILL


def test_standard_input_ends_with_the_process_that_asked(shared, start):
    worker, _ = start(shared, "wait")
    other, _ = start(shared, "sleep")  # forked later, and holds no end of that pipe
    worker.stdin.close()
    assert worker.wait(30) == 0
    other.kill()


@pytest.mark.slow
def test_workers_end_with_their_server(tmp_path, start):
    server = fork_server.ForkServer(tmp_path / "log", ENVIRONMENT)
    worker, _ = start(server, "sleep")
    assert worker.poll() is None and is_running(worker.pid)
    server._process.kill()
    assert worker.wait(30) == -signal.SIGKILL and not server.is_alive
    last = time.monotonic() + 10
    while is_running(worker.pid):
        assert time.monotonic() < last
        time.sleep(0.01)
    server.close()


@pytest.mark.parametrize(
    ("environment", "paths", "expected"),
    [({}, [], True), ({"KERAS_RESNET_FORK": "0"}, [], False), ({}, ["nvidia0"], False), ({}, ["kfd"], False)],
)
def test_a_gpu_or_the_user_asks_for_new_processes(environment, paths, expected, tmp_path, monkeypatch):
    for path in paths:
        (tmp_path / path).touch()
    monkeypatch.setattr(fork_server, "DEVICES", tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert fork_server.can_fork() is expected
