"""The command line `keras-resnet`: parse, call the library, print.

Exit status: 0 done; 2 a mistake of the user, told in one message on stderr; 130 interrupted, and the run resumable.
Anything else is a bug, and shows its traceback.
"""

import argparse
import sys
from collections.abc import Sequence

# These fill the table of commands, in the order of `--help`.
# isort: off
from keras_resnet.cli import training as training
from keras_resnet.cli import judging as judging
from keras_resnet.cli import shipping as shipping

# isort: on
from keras_resnet.cli.names import find_problem
from keras_resnet.cli.options import COMMANDS, parse
from keras_resnet.errors import UserError
from keras_resnet.standard_error import load_quietly
from keras_resnet.terminal import guarded, told_of_output

DONE, USERS_MISTAKE, INTERRUPTED = 0, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: what follows the name of the program; by default `sys.argv[1:]`.

    Returns:
        The exit status: 0 done, 2 a mistake of the user, 130 interrupted.

    Raises:
        SystemExit: for `--help`, `--version` and options that do not parse, as argparse does.

    Example:
        >>> from keras_resnet.cli import main
        >>> main(["info", "resnet18", "--input-shape", "8,8,1", "--set", "model.stem=small", "--set", "model.width=4"])
        ... # doctest: +ELLIPSIS, +NORMALIZE_WHITESPACE
        resnet18, input 8x8x1
        ...
        0
    """
    return run(parse(argv))


def run(options: argparse.Namespace) -> int:
    """Runs one command whose options were read; returns the exit status, as `main`.

    Args:
        options: from `keras_resnet.cli.options.parse`.
    """
    with guarded():
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    # What these commands do lies in a folder: they go on when nobody reads what they print, or a log has no room.
    sys.stdout.goes_on = sys.stderr.goes_on = options.command in ("train", "tune")  # type: ignore[union-attr]
    program = f"keras-resnet {options.command}"
    try:
        problem = None if "keras" in sys.modules else find_problem(options)
        if problem is not None:
            print(f"{program}: {problem}", file=sys.stderr)
            return USERS_MISTAKE
        command = COMMANDS[options.command]
        if command.needs_keras:
            load_quietly()
        status = command.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt as interrupt:
        print(f"\n{str(interrupt) or 'Interrupted.'}", file=sys.stderr)
        return getattr(interrupt, "status", INTERRUPTED)
    except Exception as error:
        status = told_of_output(program, error) if isinstance(error, OSError) else None
        if status is None and not is_users_mistake(error):
            raise
        if status is None:
            print(f"{program}: {error}", file=sys.stderr)
        return USERS_MISTAKE if status is None else status
    return status or DONE


def is_users_mistake(error: Exception) -> bool:
    """Returns True for an error that was written for the user, and for the system's about a named file.

    Args:
        error: as caught.
    """
    return isinstance(error, UserError) or (isinstance(error, OSError) and error.filename is not None)
