"""The program `keras-resnet`: reads its options, then loads the package.

It stands beside the package, not in it: `import keras_resnet` loads Keras, which takes seconds, and `--help`, a
mistyped option and `list` should answer at once. The files that they need are plain Python without Keras, and are read
by their path; importing the package behaves alike whoever imports it.
"""

import importlib.util
import os
import pathlib
import platform
import sys
from typing import Any

DONE, USERS_MISTAKE, INTERRUPTED = 0, 2, 130


def _read(name: str) -> Any:
    """Returns a module of the package that imports nothing of it, without importing the package."""
    found = importlib.util.find_spec("keras_resnet")
    assert found is not None and found.origin is not None, "keras_resnet is installed beside this file"
    path = pathlib.Path(found.origin).parent / f"{name}.py"
    specification = importlib.util.spec_from_file_location(f"{__name__}.{path.stem}", path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module


def main() -> int:
    """Runs the command line in a process of its own; returns the exit status."""
    if platform.machine().lower() in ("x86_64", "amd64") and os.environ.get("KERAS_RESNET_KERNELS") != "0":
        # TensorFlow keeps its oneDNN operations for the newest CPUs. On one with AVX2 alone they train a ResNet-50
        # about a third faster than its own (docs/training.md).
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    terminal = _read("terminal")
    terminal.open_closed_descriptors()
    with terminal.guarded():
        try:
            status = _main()
            sys.stdout.flush()
        except OSError as error:
            told = terminal.told_of_output("keras-resnet", error)
            if told is None:
                raise
            status = told
        return status


def _listing(options: Any) -> str | None:
    """Returns the text of a command that only lists what the package holds; None for every other command."""
    if options.command == "list":
        variants, pattern = _read("models/variants"), options.pattern or "*"
        return (
            _read("cli/names").weights_table(variants.list_models(pattern))
            if options.weights
            else variants.table(pattern)
        )
    if options.command == "recipes" and options.name is None and options.compare is None:
        return _read("cli/names").recipe_titles()
    return None


def _main() -> int:
    options = _read("cli/options").parse()
    try:
        text = _listing(options)
        if text is not None:
            print(text)
            return DONE
        problem = _read("cli/names").find_problem(
            options, _read("models/variants").VARIANTS, _read("suggestions").suggestion
        )
        if problem is not None:
            print(f"keras-resnet {options.command}: {problem}", file=sys.stderr)
            return USERS_MISTAKE
        if options.command == "predict":
            module = _read("cli/answers")
            answers = module.answer_by_export(options, _read)
            if answers is not None:
                module.print_answers(options, answers, _read("terminal").one_line)
                return DONE
        _read("standard_error").load_quietly()
        from keras_resnet import cli
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return INTERRUPTED
    except (ImportError, ValueError) as error:
        backend = os.environ.get("KERAS_BACKEND", "tensorflow")
        if getattr(error, "name", None) != backend and "backend" not in str(error):
            raise
        if backend in ("jax", "torch"):
            advice = f"Run: pip install 'keras-resnet-zoo[{backend}]', or leave KERAS_BACKEND out."
        else:
            advice = "Run: pip install tensorflow. Allowed in KERAS_BACKEND are tensorflow, jax and torch."
        print(
            f"keras-resnet {options.command}: Keras cannot load its backend {backend!r}: {error}. {advice}",
            file=sys.stderr,
        )
        return USERS_MISTAKE
    return cli.run(options)


if __name__ == "__main__":
    sys.exit(main())
