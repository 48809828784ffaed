"""Writes tests/durations.json from reports of pytest: `durations.py tensorflow=default.xml jax=jax.xml`.

The reports are those of `pytest --junitxml=FILE` with KERAS_RESNET_TEST_PART=all; what one lacks keeps its seconds.
"""

import json
import pathlib
import sys
import xml.etree.ElementTree as ElementTree

LONG_SECONDS = 4.0
PATH = pathlib.Path(__file__).parent.parent / "tests" / "durations.json"


def main() -> None:
    """Reads the reports and writes the file."""
    known = json.loads(PATH.read_text("utf-8")) if PATH.is_file() else {}
    for backend, seconds in known.pop("added", {}).items():
        known.setdefault(backend, {}).update(seconds)
    for argument in sys.argv[1:]:
        backend, _, report = argument.partition("=")
        seconds = known.setdefault(backend, {})
        for case in ElementTree.parse(report).getroot().iter("testcase"):
            name = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
            took = float(case.get("time", 0))
            seconds.pop(name, None)
            if took >= LONG_SECONDS:
                seconds[name] = round(took)
    tidy = {backend: dict(sorted(seconds.items())) for backend, seconds in sorted(known.items())}
    PATH.write_text(json.dumps(tidy, indent=0, ensure_ascii=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
