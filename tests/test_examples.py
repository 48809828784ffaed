import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]


def row(folder, *words, script="known_answers.py"):
    """The last line of the table as `recipe, figure, result, what it is compared with`."""
    command = [sys.executable, f"examples/{script}", "--out", folder, *words]
    done = subprocess.run([str(word) for word in command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [cell.strip() for cell in done.stdout.splitlines()[-1].strip("|").split("|")]


@pytest.mark.slow
def test_frequencies_under_noise_are_told_apart_as_well_as_can_be(tmp_path):
    recipe, figure, found, best = row(tmp_path, "--only", "signals", "--epochs", 8)
    assert (recipe, figure) == ("signals", "accuracy")
    assert float(found) > 0.9 and float(best.split()[-1]) > 0.99
    # A second call finds the run complete and takes what it left.
    assert row(tmp_path, "--only", "signals", "--epochs", 8)[2] == found


@pytest.mark.slow
def test_the_progress_of_a_disease_is_predicted_about_as_well_as_by_ridge_regression(tmp_path):
    recipe, figure, found, ridge = row(tmp_path, "--only", "regression")
    assert (recipe, figure) == ("regression", "mae")
    assert float(found) < 1.25 * float(ridge.split()[-1])


@pytest.mark.slow
def test_heartbeats_are_told_apart_better_than_by_logistic_regression(tmp_path):
    field, figure, found, linear = row(tmp_path, "--only", "ecg", script="fields.py")
    assert (field, figure) == ("ecg", "accuracy")
    assert float(found) > 0.97 and linear.startswith("logistic regression 0.9")
