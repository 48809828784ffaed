"""Search of hyperparameters; installed as `keras_resnet.tuning`. Not available yet in this version."""

from typing import Any, NoReturn

from keras_resnet.errors import NotAvailable

__all__ = ["search"]


def search(*arguments: Any, **options: Any) -> NoReturn:
    """Will search recipes for the best one.

    Args:
        *arguments: not read yet.
        **options: not read yet.

    Raises:
        NotImplementedError: always, in this version.
    """
    raise NotAvailable(
        "tuning.search is not available yet. This version trains, evaluates and predicts. "
        "To compare settings now, call training.fit once for each, with overrides."
    )
