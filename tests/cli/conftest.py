"""What the tests of the command line share."""

import pytest

from keras_resnet.cli import main


@pytest.fixture
def run(capsys):
    """Runs a command in this process; returns the status, stdout and stderr of that command alone."""

    def run(*words):
        status = main([str(word) for word in words])
        return status, *capsys.readouterr()

    return run
