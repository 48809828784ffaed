"""Prints the oldest version of everything that setup.py allows, for `pip install --requirement`."""

import ast
import pathlib
import re


def main() -> None:
    """Prints one requirement a line: "numpy>=2.0,<3" becomes "numpy==2.0.*"."""
    experiment = pathlib.Path(__file__).resolve().parents[1] / "setup.py"
    for node in ast.parse(experiment.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "REQUIREMENTS":
            for requirement in ast.literal_eval(node.value):
                print(re.sub(r">=([\d.]+).*", r"==\1.*", requirement))


if __name__ == "__main__":
    main()
