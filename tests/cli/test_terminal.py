"""What commands print: it cannot steer a terminal, and no stream that is closed, full or ASCII ends a training."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

pytest.importorskip("tensorflow")

import keras_resnet  # noqa: E402
from keras_resnet import preprocessing  # noqa: E402
from keras_resnet.cli import main  # noqa: E402
from keras_resnet.terminal import one_line, printable  # noqa: E402

PROGRAM = [sys.executable, "-m", "keras_resnet_command"]
TRAIN = ["train", "--data", "digits", "--epochs", "2", "--set", "model.width=4"]
HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202eexe\x9b31m"


def shell(command, cwd, **words):
    words.setdefault("env", {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    return subprocess.run(["bash", "-c", command], cwd=cwd, capture_output=True, text=True, **words)


def quoted(*words):
    return " ".join([*PROGRAM, *words])


def test_control_characters_are_escaped_and_colors_stay():
    shown = printable(f"\x1b[1m12/12\x1b[0m\t{HOSTILE}\n")
    assert shown == "\x1b[1m12/12\x1b[0m\t\\x1b]0;owned\\x07\\x1b[2J\\u202eexe\\x9b31m\n"
    assert one_line("a\r\nb\tc") == "a\\r\\nb\\tc" and one_line("日本 é") == "日本 é"


def test_names_of_files_and_classes_cannot_steer_a_terminal(tmp_path, capsys):
    inputs = keras.Input((8, 8, 3))
    scaled = preprocessing.InputNormalization("unit", record={"image_size": 8, "class_names": ["cat", "dog"]})(inputs)
    keras_resnet.ResNet18(input_tensor=scaled, stem="small", width=2, classes=2).save(tmp_path / "m.keras")
    name = tmp_path / f"{HOSTILE}\n99 % dog.png"
    keras.utils.save_img(name, np.zeros((8, 8, 3)))
    assert main(["predict", str(tmp_path / "m.keras"), str(name)]) == 0
    out = capsys.readouterr().out
    assert not set(out) & set("\x1b\x07\u202e\x9b") and "\\n99 % dog.png" in out and out.count("\n") == 3
    with pytest.raises(ValueError, match="line break or a control character"):
        preprocessing.InputRecord(class_names=("cat", f"dog{HOSTILE}"))
    for label in ("cat", "dog\nbird"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        keras.utils.save_img(tmp_path / "photos" / label / "1.png", np.zeros((8, 8, 3)))
    assert main(["train", "--data", f"folder:{tmp_path / 'photos'}", "--out", str(tmp_path / "run")]) == 2
    assert "their names: ['dog\\nbird']" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    "stream",
    [
        ">/dev/full",
        *(pytest.param(s, marks=pytest.mark.exhaustive) for s in ("| head -1", ">&-", ">&- 2>&-", "2>/dev/full")),
    ],
)
def test_a_training_ends_whoever_reads_what_it_prints(tmp_path, stream):
    done = shell(f"set -o pipefail; {quoted(*TRAIN, '--out', 'run')} {stream}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    saved = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    assert saved["status"] == "complete" and saved["epochs_trained"] == 2


@pytest.mark.exhaustive
def test_other_commands_say_that_nothing_can_be_written(tmp_path):
    for words in (["info", "resnet18"], ["list"]):
        full = shell(f"{quoted(*words)} >/dev/full", tmp_path)
        assert full.returncode == 2 and "cannot be written: No space left on device" in full.stderr
        closed = shell(f"{quoted(*words)} >&-", tmp_path)
        assert (closed.returncode, closed.stderr) == (0, "")
        head = shell(f"set -o pipefail; {quoted(*words)} | head -1", tmp_path)
        assert head.returncode == 0 and not head.stderr and head.stdout.count("\n") == 1
        ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
        assert shell(quoted(*words), tmp_path, env=ascii_only).returncode == 0


def test_colors_that_hide_text_are_escaped_and_those_of_progress_bars_are_not():
    from keras_resnet.terminal import printable

    for shown in ("\x1b[32m", "\x1b[1m", "\x1b[37m", "\x1b[0m", "\x1b[1;31m"):
        assert printable(shown) == shown
    for hiding in ("\x1b[8m", "\x1b[30m", "\x1b[38;5;0m", "\x1b[1;8m"):
        assert "\x1b" not in printable(f"a{hiding}b")
