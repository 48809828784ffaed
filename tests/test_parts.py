"""The parts in which long tests are dealt: each test in one of them, and the parts about as long."""

import json
import pathlib

from tests import parts

KNOWN = json.loads((pathlib.Path(parts.FOLDER) / "durations.json").read_text("utf-8"))
ADDED = KNOWN.pop("added", {})


def test_every_long_test_is_in_one_part_and_parts_are_as_long():
    for backend, seconds in KNOWN.items():
        added = ADDED.get(backend, {})
        part_of, before = parts.deal(seconds, added), parts.deal(seconds, {})
        assert set(part_of) == {*seconds, *added}
        assert {name: part_of[name] for name in seconds} == before  # nobody moves for a new test
        seconds = {**seconds, **added}
        totals = [sum(seconds[name] for name in seconds if part_of[name] == part) for part in range(parts.PARTS)]
        assert max(totals) - min(totals) <= max(seconds.values())


def test_what_one_part_leaves_out_the_others_do():
    names = ["tests/new.py::test_unknown", *KNOWN["tensorflow"], *ADDED["tensorflow"]]
    done = [set(names) - parts.left_out(names, "tensorflow", part) for part in range(parts.PARTS)]
    assert set().union(*done) == set(names) and sum(map(len, done)) == len(names) + parts.PARTS - 1
    assert parts.left_out(names, "tensorflow", None) == set()


def test_a_part_is_named_or_follows_from_the_commits(monkeypatch):
    monkeypatch.setenv("KERAS_RESNET_TEST_PART", "2")
    assert parts.chosen_part() == 2
    monkeypatch.setenv("KERAS_RESNET_TEST_PART", "all")
    assert parts.chosen_part() is None
    monkeypatch.delenv("KERAS_RESNET_TEST_PART")
    assert parts.chosen_part() in range(parts.PARTS)


def test_every_name_is_that_of_a_test_file():
    root = parts.FOLDER.parent
    assert {
        name.split("::")[0]
        for seconds in (*KNOWN.values(), *ADDED.values())
        for name in seconds
        if not (root / name.split("::")[0]).is_file()
    } == set()
