import re
import shlex

import pytest

from keras_resnet.cli import main
from keras_resnet.cli.options import COMMANDS, parse

TRAINING = {"--epochs", "--resume", "--seed", "--set"}
# The interface, frozen: a new option is a decision, and this table is where it shows.
OPTIONS = {
    "list": {"pattern", "--weights"},
    "info": {"model", "--input-shape", "--set", "--svg"},
    "recipes": {"name", "--compare"},
    "train": {
        "path",
        "--data",
        "--data-dir",
        "--model",
        "--recipe",
        "--batch-size",
        "--weights",
        "--out",
        "--processes",
        "--dry-run",
        *("--engine", "--workers", "--address", "--folds", "--minutes", "--track"),
        *TRAINING,
    },
    "auto": {"path", "--data", "--data-dir", "--model", "--minutes", "--out", "--seed", "--set"},
    "evaluate": {
        *(
            "trained",
            "--data",
            "--data-dir",
            "--split",
            "--on-bad-image",
            "--robustness",
            "--intervals",
            "--at-specificity",
            "--tta",
            "--task",
            "--json",
        ),
    },
    "predict": {
        "trained",
        "images",
        "--top",
        "--on-bad-image",
        "--tta",
        "--task",
        "--json",
        "--json-lines",
        "--csv",
        "--page",
        "--index",
    },
    "explain": {"trained", "images", "--out", "--task"},
    "lr-find": {"path", "--data", "--data-dir", "--model", "--recipe", "--out", "--seed", "--set"},
    "preview": {"path", "--data", "--data-dir", "--recipe", "--out", "--seed", "--set"},
    "tune": {
        *(
            "path",
            "--data",
            "--data-dir",
            "--model",
            "--algorithm",
            "--trials",
            "--out",
            "--workers",
            "--engine",
            "--address",
        ),
        *TRAINING,
    },
    "prepare": {"spec", "--data-dir", "--task", "--set", "--long-side", "--out"},
    "probe": {"--data", "--data-dir", "--model", "--weights", "--task", "--set", "--json"},
    "embed": {"trained", "--data", "--data-dir", "--split", "--out"},
    "similar": {"index", "images", "--top", "--network", "--json-lines"},
    "inspect-data": {"spec", "--data-dir", "--task", "--set", "--out", "--json"},
    "export": {
        *("trained", "--format", "--quantize", "--calibration", "--data-dir", "--out", "--model-version", "--task"),
    },
    "convert": {"source", "--model", "--out", "--names"},
    "publish": {"run", "--to", "--license", "--private", "--mistakes", "--dry-run"},
    "track": {"folder", "--to"},
    "verify": {"folder", "--data", "--data-dir"},
    "report": {"source", "--out"},
    "compare": {"runs", "--out", "--paired", "--json"},
    "calibrate": {"run", "--coverage", "--out", "--json"},
    "prune": {"trained", "--macs", "--by", "--data", "--data-dir", "--multiple", "--out", "--json"},
    "shrink": {"run", "--macs", "--max-loss", "--epochs", "--multiple", "--format", "--out", "--json"},
    "average": {"models", "--tta", "--out"},
    "demo": {"trained", "--port", "--task"},
    "benchmark": {"--model", "--input-size", "--batch-size", "--mode", "--json"},
}


def refused(capsys, *words):
    """The one line that a command line that does not parse leaves."""
    with pytest.raises(SystemExit) as exit_info:
        parse(words)
    assert exit_info.value.code == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1
    return err


def test_the_commands_and_options_are_those_of_the_table():
    assert {name: {names[0] for names, _ in row.options} for name, row in COMMANDS.items()} == OPTIONS


@pytest.mark.parametrize("command", COMMANDS)
def test_help_stands_in_groups_and_ends_with_two_commands_that_parse(capsys, command):
    with pytest.raises(SystemExit):
        parse([command, "--help"])
    text = capsys.readouterr().out
    if any(names[0] == "--data" for names, _ in COMMANDS[command].options):
        assert re.search(r"^data:$", text, re.MULTILINE)
    examples = re.findall(r"^  keras-resnet (.*)$", text.partition("examples:")[2], re.MULTILINE)
    assert len(examples) == 2
    assert [parse(shlex.split(example)).command for example in examples] == [command] * 2


def test_data_may_stand_without_a_word_before_it(capsys):
    for command in ("train", "auto", "preview", "lr-find", "tune"):
        out = [] if command == "train" else ["--out", "place"]
        assert parse([command, "photos/", *out]).data == "photos/"
    assert "Name the data once" in refused(capsys, "train", "photos/", "--data", "digits")


def test_training_has_the_types_and_defaults_of_its_options():
    words = ["train", "--epochs", "3", "--set", "a.b=1", "--set", "c.d=e"]
    options = vars(parse(words))
    given = {"command": "train", "epochs": 3, "set": ["a.b=1", "c.d=e"], "words": words}
    flags = {"resume": False, "dry_run": False, "engine": "local"}
    names = (
        "data",
        "data_dir",
        "model",
        "recipe",
        "batch_size",
        "weights",
        "out",
        "seed",
        "processes",
        "minutes",
        "path",
    )
    unset = dict.fromkeys((*names, "workers", "address", "folds", "track"))
    assert options == unset | flags | given


def test_settings_of_one_command_line_do_not_reach_the_next():
    parse(["train", "--set", "a.b=1"])
    assert parse(["train"]).set == []


def test_an_unknown_command_is_refused_with_the_closest(capsys):
    message = refused(capsys, "trian", "--epochs", "3")
    assert "no command 'trian'" in message and "Did you mean 'train'?" in message and "benchmark" in message


def test_an_unknown_choice_is_refused_with_the_closest(capsys):
    assert "Did you mean 'litert'?" in refused(capsys, "export", "run", "--format", "tflite")


def test_an_unknown_option_is_refused_with_the_closest(capsys):
    message = refused(capsys, "train", "--epoch", "3")
    assert "train does not take '--epoch'" in message and "Did you mean '--epochs'?" in message


def test_an_option_of_another_command_is_refused(capsys):
    assert "list does not take '--json'. It takes: --weights" in refused(capsys, "list", "--json")


def test_an_option_of_the_wrong_type_is_refused(capsys):
    assert "argument --epochs: invalid int value: 'many'" in refused(capsys, "train", "--epochs", "many")


def test_a_missing_argument_is_refused(capsys):
    assert "the following arguments are required: IMAGE" in refused(capsys, "predict", "run")


def test_no_command_is_refused(capsys):
    assert "the following arguments are required: COMMAND" in refused(capsys)


@pytest.mark.parametrize("command", OPTIONS)
def test_every_command_explains_itself(capsys, command):
    with pytest.raises(SystemExit) as exit_info:
        parse([command, "--help"])
    assert exit_info.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: keras-resnet {command}")
    assert all(name in text for name in OPTIONS[command] if name.startswith("-"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predict", ".", ".", "--csv", "a.csv", "--json"], "--json was given with --csv"),
        (["predict", ".", ".", "--json-lines", "--json"], "--json was given with --json-lines"),
        (["inspect-data", "digits", "--set", "train.epochs=3"], "--set train.epochs has no effect here"),
        (["prepare", "digits", "--out", "small", "--set", "model.width=4"], "--set model.width has no effect here"),
        (["probe", "--data", "digits", "--set", "optimizer.name=sgd"], "--set optimizer.name has no effect here"),
        (["train", "--engine", "ray", "--processes", "2"], "--processes 2 was given with --engine ray"),
        (["inspect-data", "folds", "--task", "ordinal"], "--task was given with 'folds', a cross-validation"),
        (["inspect-data", "folds", "--set", "data.seed=1"], "--set was given with 'folds', a cross-validation"),
    ],
    ids=" ".join,
)
def test_an_option_without_an_effect_is_refused(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folds").mkdir()
    (tmp_path / "folds" / "folds.json").touch()
    assert main(words) == 2
    assert message in capsys.readouterr().err
