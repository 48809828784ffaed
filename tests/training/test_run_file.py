"""run.json is read as if a stranger had written it: whatever it holds, a run or one error that names the file."""

import copy
import json

import pytest

pytest.importorskip("tensorflow")

from keras_resnet import training  # noqa: E402
from keras_resnet.errors import BadType, BadValue  # noqa: E402
from keras_resnet.training.run import CHECKS, NEEDED, RunFile  # noqa: E402

STRANGE = (None, True, -1, 2.5, "x", [], [None], {}, {"a": [1]})


@pytest.fixture(scope="module")
def run(digits_run):
    return digits_run


def places(tables, path=()):
    """Yields the keys to every value of nested tables."""
    for key, value in tables.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from places(value, (*path, key))


def with_value(tables, path, value):
    changed = copy.deepcopy(tables)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed


def test_what_is_written_is_read_as_it_was(run):
    assert RunFile.from_dict(json.loads(json.dumps(run.file.to_dict()))).to_dict() == run.file.to_dict()
    assert run.file.status == "complete" and len(run.file.history) == run.file.epochs_trained == 3
    assert set(run.file.to_dict()) - {"seed"} <= set(CHECKS)


@pytest.mark.slow
def test_every_strange_value_is_refused_or_is_a_run(run, tmp_path):
    good = run.file.to_dict()
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "run.json"
    tried = refused = 0
    for place in places(good):
        for value in STRANGE:
            path.write_text(json.dumps(with_value(good, place, value)), "utf-8")
            tried += 1
            try:
                found = training.Run.load(path.parent)
                repr(found), found.history, found.description
                training.fit(out=path.parent, resume=True, dry_run=True)
            except (BadValue, BadType) as error:
                refused += 1
                assert len(str(error).splitlines()) == 1, (place, value)
    assert tried > 700 and refused > tried / 2


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_field_is_named(run, tmp_path, name):
    values = run.file.to_dict()
    del values[name]
    (tmp_path / "run.json").write_text(json.dumps(values), "utf-8")
    with pytest.raises(BadValue, match=f"cannot be read as a run: it lacks {name}"):
        training.Run.load(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "1", "[" * 100_000, '{"status": NaN}', "\0"])
def test_what_is_no_table_is_refused(tmp_path, text):
    (tmp_path / "run.json").write_text(text, "utf-8")
    with pytest.raises(BadValue, match="cannot be read as a run"):
        training.Run.load(tmp_path)
