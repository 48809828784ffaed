"""A run made smaller: each step against the network it came from, where it stops, and that it goes on."""

import json
import pathlib

import pytest

pytest.importorskip("tensorflow")

from keras_resnet import evaluation, shrink, training  # noqa: E402
from keras_resnet.cli import main  # noqa: E402
from keras_resnet.models import model_info  # noqa: E402

WORDS = {"model": "resnet10", "data": "digits", "verbose": 0}


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    overrides = {"model.width": 8, "train.epochs": 8, "train.batch_size": 64}
    return training.fit("quick", out=tmp_path_factory.mktemp("parent") / "run", overrides=overrides, **WORDS)


@pytest.mark.slow
def test_each_step_is_smaller_and_measured_against_the_parent(parent, tmp_path, capsys):
    done = shrink.shrink(parent, tmp_path / "small", macs=0.5, max_loss=0.5, verbose=0)
    assert [step.name for step in done.steps] == ["parent", "0.71", "0.50", "int8"]
    whole = done.steps[0].multiply_adds
    for step, share in zip(done.steps[1:3], (0.708, 0.5), strict=True):
        run = training.Run.load(step.path)
        assert step.multiply_adds == model_info(run.model).multiply_adds <= share * whole
        assert run.recipe.distill.teacher == str(parent.path) and run.recipe.train.epochs == 2
        paired = evaluation.paired_difference(parent, run, split="validation")
        assert step.difference == pytest.approx(paired["accuracy_difference"])
        assert step.interval == pytest.approx(paired["accuracy_difference_interval"])
    last = done.steps[-1]
    assert last.bytes == pathlib.Path(last.path).stat().st_size < done.steps[2].bytes / 2
    assert done.smallest is last and last.score > 0.8
    page = (tmp_path / "small" / "shrink.html").read_text("utf-8")
    assert "0.71" in page and "<svg" in page
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "small").rglob("*.keras")}
    assert main(["shrink", str(parent.path), "--macs", "0.5", "--max-loss", "0.5", "--out", f"{tmp_path}/small"]) == 0
    assert "smallest   " in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "small").rglob("*.keras")} == kept


@pytest.mark.exhaustive
def test_it_stops_where_too_much_is_lost_and_goes_on_where_it_was_stopped(parent, tmp_path, monkeypatch):
    own, seen = evaluation.prune, []

    def interrupted(*arguments, **words):
        seen.append(arguments)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return own(*arguments, **words)

    words = {"macs": 0.03, "max_loss": 0.02, "epochs": 1, "multiple": 1, "verbose": 0}
    monkeypatch.setattr(evaluation, "prune", interrupted)
    with pytest.raises(KeyboardInterrupt):
        shrink.shrink(parent, tmp_path / "halves", **words)
    monkeypatch.setattr(evaluation, "prune", own)
    resumed = shrink.shrink(parent, tmp_path / "halves", **words)
    whole = shrink.shrink(parent, tmp_path / "whole", **words)
    assert [(s.name, s.score, s.difference) for s in resumed.steps[:-1]] == [
        (s.name, s.score, s.difference) for s in whole.steps[:-1]
    ]
    trained = [step for step in whole.steps[1:] if step.name != "int8"]
    assert not trained[-1].is_accepted and all(step.is_accepted for step in trained[:-1])
    assert trained[-1].difference < -0.02 and len(trained) < len(shrink._shares(0.03))
    assert whole.smallest is not trained[-1] and "more is lost than allowed" in str(whole)
    written = json.loads((tmp_path / "whole" / "shrink.json").read_text("utf-8"))
    assert [step["name"] for step in written["steps"]] == [step.name for step in whole.steps]


def test_what_cannot_be_made_smaller_is_refused(digits_run, tmp_path):
    with pytest.raises(ValueError, match="macs"):
        shrink.shrink(digits_run, tmp_path / "a", macs=1.0)
    with pytest.raises(ValueError, match="max_loss"):
        shrink.shrink(digits_run, tmp_path / "a", max_loss=-0.1)
    with pytest.raises(ValueError, match="savedmodel"):
        shrink.shrink(digits_run, tmp_path / "a", format="savedmodel")
    with pytest.raises(ValueError, match=r"macs=0.0001 was given, and 0\.\d+ of the multiply-adds stay"):
        shrink.shrink(digits_run, tmp_path / "a", macs=0.0001)
    stopped = training.fit(
        "quick",
        out=tmp_path / "stopped",
        overrides={"model.width": 4, "train.epochs": 2},
        report=lambda epoch, figures: True,
        **WORDS,
    )
    with pytest.raises(ValueError, match="is not finished"):
        shrink.shrink(stopped, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    (tmp_path / "a").mkdir()
    settings = {"run": "another", "macs": 0.6, "epochs": 1, "multiple": 4}
    (tmp_path / "a" / "shrink.json").write_text(json.dumps({"settings": settings}))
    with pytest.raises(ValueError, match="holds steps with run='another'"):
        shrink.shrink(digits_run, tmp_path / "a", macs=0.6)
