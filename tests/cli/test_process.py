"""The command line as a real process: what a shell sees."""

import importlib.metadata
import os
import pathlib
import signal
import subprocess
import sys

import pytest

import keras_resnet

ROOT = pathlib.Path(keras_resnet.__file__).resolve().parents[1]


def start(*words, cwd, **environment):
    """Starts `keras-resnet` as a user without settings of TensorFlow would."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("TF_")}
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", "keras_resnet_command", *map(str, words)],
        cwd=cwd,
        env={**clean, "PYTHONPATH": paths, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts its background jobs deaf to Ctrl-C, and every process below them inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def run(*words, cwd, **environment):
    process = start(*words, cwd=cwd, **environment)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@pytest.mark.parametrize("words", [["--help"], ["list"]], ids=" ".join)
def test_help_and_list_come_without_loading_keras(tmp_path, words):
    code = (
        f"import sys; sys.argv[1:] = {words!r}; import keras_resnet_command\n"
        "try: raise SystemExit(keras_resnet_command.main())\n"
        "except SystemExit as done: print(done.code, 'keras' in sys.modules, 'tensorflow' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 False False", done.stderr


TENSORFLOW = tuple(map(int, importlib.metadata.version("tensorflow").split(".")[:2]))
QUIET = pytest.mark.skipif(
    TENSORFLOW < (2, 20), reason="TensorFlow 2.19 writes errors about CUDA that nothing silences"
)


def test_help_shows_the_commands(tmp_path):
    status, out, err = run("--help", cwd=tmp_path)
    assert (status, err) == (0, "")
    assert "keras-resnet train --out" in out


@pytest.mark.slow
@QUIET
def test_a_command_leaves_nothing_on_stderr(tmp_path):
    status, out, err = run("info", "resnet18", "--input-shape", "32,32,3", cwd=tmp_path)
    assert (status, err) == (0, "")
    assert out.startswith("resnet18, input 32x32x3\n")


@pytest.mark.slow
def test_the_start_up_lines_of_tensorflow_show_where_the_user_asks_for_them(tmp_path):
    status, _, err = run("info", "resnet18", "--input-shape", "32,32,3", cwd=tmp_path, TF_CPP_MIN_LOG_LEVEL="0")
    assert status == 0
    assert "oneDNN" in err or "CUDA" in err.upper()


@QUIET
def test_a_mistake_is_one_message_and_status_2(tmp_path):
    status, out, err = run("info", "resnet19", cwd=tmp_path)
    assert (status, out) == (2, "")
    assert err.startswith("keras-resnet info: MODEL='resnet19' is not known.") and err.count("\n") == 1


@pytest.mark.slow
@QUIET
def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    process = start("info", "resnet18", "--input-shape", "32,32,3", cwd=tmp_path)
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")


@pytest.mark.slow
def test_a_bug_shows_its_traceback(tmp_path):
    # A file of the package is shadowed by one that fails in a way that nobody foresaw.
    code = (
        "import dataclasses; from keras_resnet.cli import main; from keras_resnet.cli.options import COMMANDS\n"
        "COMMANDS['list'] = dataclasses.replace(COMMANDS['list'], run=lambda options: {}['missing'])\n"
        "main(['list'])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "KeyError: 'missing'" in done.stderr


@pytest.mark.slow
def test_the_package_as_a_program_runs_the_same_commands(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "keras_resnet", "list"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == run("list", cwd=tmp_path)[:2]
