"""The examples: each trains to its figure. Those of the fields train for a minute or more."""

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


@pytest.mark.exhaustive
def test_frequencies_under_noise_are_told_apart_as_well_as_can_be(tmp_path):
    recipe, figure, found, best = row(tmp_path, "--only", "signals", "--epochs", 8)
    assert (recipe, figure) == ("signals", "accuracy")
    assert float(found) > 0.9 and float(best.split()[-1]) > 0.99
    # A second call finds the run complete and takes what it left.
    assert row(tmp_path, "--only", "signals", "--epochs", 8)[2] == found


@pytest.mark.exhaustive
def test_the_progress_of_a_disease_is_predicted_about_as_well_as_by_ridge_regression(tmp_path):
    recipe, figure, found, ridge = row(tmp_path, "--only", "regression")
    assert (recipe, figure) == ("regression", "mae")
    assert float(found) < 1.25 * float(ridge.split()[-1])


# Figure, the least that the network reaches (of an error the most), and the baseline with the digits that must be so.
FIELDS = {
    "medical": ("roc_auc", 0.9, "logistic regression 0.69"),
    "ecg": ("accuracy", 0.97, "logistic regression 0.9"),
    "volumes": ("accuracy", 0.97, "logistic regression 0.66"),
    "driving": ("mae", 0.5, "ridge regression 0.78"),
    "recommendation": ("accuracy", 0.55, "logistic regression 0.81"),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("field", FIELDS)
def test_each_field_is_better_than_its_linear_baseline_but_for_the_wrong_tool(tmp_path, field):
    figure, bound, baseline = FIELDS[field]
    told = row(tmp_path, "--only", field, script="fields.py")
    assert told[:2] == [field, figure]
    found, linear = float(told[2]), float(told[3].split()[-1])
    assert told[3].startswith(baseline)
    if figure == "mae":
        assert found < bound < linear
    else:
        assert found > bound
        assert (found > linear) is (field != "recommendation")


@pytest.mark.exhaustive
def test_a_unet_on_a_packaged_network_finds_what_colors_do_not_show():
    done = subprocess.run([sys.executable, "examples/segmentation.py"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    name, found, baseline = (cell.strip() for cell in done.stdout.splitlines()[-1].strip("|").split("|"))
    assert name == "U-Net on ResNet-18" and float(found) > 0.9 and float(baseline.split()[-1]) < 0.5
