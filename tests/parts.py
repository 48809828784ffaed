"""The tests that take long, dealt in parts of which one run does one: all of them take hours on two cores.

`tests/durations.json` has the seconds of those that take 4 or more, under "added" of those that were written since it
was made as a whole; a test that has none always runs. Which part is
done follows from the number of commits, so that a commit always has the same one, and 64 commits have seen all.
KERAS_RESNET_TEST_PART=all runs everything, and a number one part.
"""

import json
import os
import pathlib
import subprocess

PARTS = 4
COMMITS_A_PART = 16
FOLDER = pathlib.Path(__file__).parent


def chosen_part():
    """Returns the part of this run, 0 to 3, or None for all."""
    named = os.environ.get("KERAS_RESNET_TEST_PART", "")
    if named == "all":
        return None
    if named:
        return int(named) % PARTS
    counted = subprocess.run(
        ["git", "rev-list", "--count", "HEAD"], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    commits = int(counted.stdout) if counted.returncode == 0 else 0
    return commits // COMMITS_A_PART % PARTS


def deal(seconds, added):
    """Returns test -> part: the longest first, each to the part that has the fewest seconds so far.

    Those that were added since follow in their order, so that no other test changes its part for them.

    Args:
        seconds: of each test.
        added: the same for later ones.
    """
    totals, part_of = [0.0] * PARTS, {}
    for name in [*sorted(seconds, key=lambda name: (-seconds[name], name)), *added]:
        part = totals.index(min(totals))
        part_of[name] = part
        totals[part] += {**seconds, **added}[name]
    return part_of


def left_out(names, backend, part):
    """Returns those of the tests that another part does.

    Args:
        names: of the tests, as pytest gives them.
        backend: of Keras, by which durations differ.
        part: of this run; None for all.
    """
    if part is None:
        return set()
    known = json.loads((FOLDER / "durations.json").read_text("utf-8"))
    part_of = deal(known.get(backend, {}), known.get("added", {}).get(backend, {}))
    return {name for name in names if part_of.get(name, part) != part}
