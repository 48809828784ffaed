"""Starts a worker of a search: `python -P start_worker.py FOLDER NAME [--ray ADDRESS]`.

It is run by its path, so that nothing that lies in the folder where the user works is taken for a module, and it loads
the package only when it already watches the process that started it.
"""

import os
import signal
import sys
import threading

INTERRUPTED = 130  # as `keras_resnet.tuning.ledger` has it


def end_with_parent() -> None:
    """Ends this process when the one that started it does: the pipe on standard input closes then."""

    def watch() -> None:
        while os.read(0, 1):  # not sys.stdin, whose lock a thread that waits would hold at the end of the process
            pass
        os._exit(INTERRUPTED)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing is to be saved yet
    end_with_parent()
    from keras_resnet.tuning.worker import main

    sys.exit(main())
