"""Labels that are probably wrong: the ranks and the issues of cleanlab, and labels that were flipped on purpose."""

import csv

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from keras_resnet import cli, evaluation  # noqa: E402
from keras_resnet.evaluation.label_issues import ranked  # noqa: E402

# `get_label_quality_scores(labels, probabilities, method="self_confidence")` and the off-diagonal indices of
# `compute_confident_joint(..., calibrate=False)` of cleanlab 2.9.0 on the examples of `noisy`.
CLEANLAB_RANKS = [
    *(2, 5, 0, 1, 3, 32, 16, 27, 9, 19, 22, 14, 36, 39, 33, 4, 13, 24, 34, 28),
    *(29, 37, 23, 30, 11, 6, 21, 7, 31, 38, 15, 20, 25, 17, 18, 12, 35, 8, 10, 26),
]
CLEANLAB_ISSUES = [1, 2, 3, 5]


def noisy():
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 3, 40)
    powers = np.exp(rng.normal(size=(40, 3)) + 1.5 * np.eye(3)[labels])
    labels[:6] = (labels[:6] + 1) % 3
    return powers / powers.sum(axis=1, keepdims=True), labels


def write(folder, probabilities, labels, names="abc", target="label"):
    with open(folder / "out_of_fold.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "fold", target, *names])
        for index, (row, label) in enumerate(zip(probabilities, labels, strict=True)):
            writer.writerow([f"example {index}", 1, names[label], *row])
    (folder / "folds.json").write_text("{}")


def test_ranks_and_issues_are_those_of_cleanlab():
    probabilities, labels = noisy()
    quality, guesses, issues = ranked(probabilities, labels)
    assert np.argsort(quality, kind="stable").tolist() == CLEANLAB_RANKS
    assert np.flatnonzero(issues).tolist() == CLEANLAB_ISSUES
    assert (guesses != labels).all()


def test_a_class_that_no_label_names_is_no_guess_of_an_issue():
    probabilities = np.array([[0.2, 0.1, 0.7], [0.3, 0.6, 0.1], [0.6, 0.3, 0.1]])
    _, _, issues = ranked(probabilities, [0, 1, 0])
    assert not issues.any()


def test_each_class_of_several_labels_is_a_question_of_its_own(tmp_path, capsys):
    """Those of 400 answers that were flipped on purpose stand first, and cleanlab's rule finds them class by class."""
    rng = np.random.default_rng(3)
    truth = rng.random((200, 2)) < 0.4
    chances = np.clip(np.where(truth, 0.9, 0.1) + rng.normal(0, 0.05, truth.shape), 0.01, 0.99)
    labels = truth.copy()
    flipped = [(4, 0), (9, 1), (30, 0)]
    for index, place in flipped:
        labels[index, place] = ~labels[index, place]
    with open(tmp_path / "out_of_fold.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "fold", "label", "crack", "dent"])
        for index, row in enumerate(labels):
            told = "|".join(name for name, there in zip(("crack", "dent"), row, strict=True) if there)
            writer.writerow([f"example {index}", 1, told, *chances[index]])
    (tmp_path / "folds.json").write_text("{}")
    found = evaluation.label_issues(tmp_path)
    assert len(found) == 400
    assert {(issue.path, issue.label.partition(":")[0]) for issue in found[:3]} == {
        (f"example {index}", ("crack", "dent")[place]) for index, place in flipped
    }
    assert [issue.is_issue for issue in found[:4]] == [True, True, True, False]
    for place, name in enumerate(("crack", "dent")):
        both = np.stack([1 - chances[:, place], chances[:, place]], axis=1)
        _, _, wrong = ranked(both, labels[:, place])
        own = {issue.path for issue in found if issue.label.startswith(name) and issue.is_issue}
        assert own == {f"example {index}" for index in np.flatnonzero(wrong)}
    assert not cli.main(["inspect-data", str(tmp_path)])
    assert "400 labels (examples times classes), of which 3 are probably wrong" in capsys.readouterr().out


def test_the_folder_of_a_cross_validation_is_read_and_printed(tmp_path, capsys):
    write(tmp_path, *noisy())
    found = evaluation.label_issues(tmp_path)
    assert [issue.path for issue in found] == [f"example {index}" for index in CLEANLAB_RANKS]
    assert found[0].label != found[0].guess and found[0].quality < 0.1
    assert not cli.main(["inspect-data", str(tmp_path)])
    told = capsys.readouterr().out
    probabilities, labels = noisy()[:2]
    share = np.mean(np.argmax(probabilities, axis=1) == labels)
    assert f"The models agree with {share:.0%} of the labels." in told
    assert "40 examples, of which 4 have a label that is probably wrong" in told and "example 2: " in told


def test_what_is_no_cross_validation_of_a_classifier_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no out_of_fold\.csv"):
        evaluation.label_issues(tmp_path)
    write(tmp_path, *noisy(), target="target value")
    with pytest.raises(ValueError, match="is of no classifier"):
        evaluation.label_issues(tmp_path)
