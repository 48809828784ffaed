"""Tells a user's mistake from a bug."""

from keras_resnet.errors import UserError


def is_users_mistake(error: Exception) -> bool:
    """Returns True for an error that was written for the user, and for the system's about a named file.

    Args:
        error: as caught.
    """
    return isinstance(error, UserError) or (isinstance(error, OSError) and error.filename is not None)
