"""Tells a user's mistake from a bug."""

import dis


def is_users_mistake(error: Exception) -> bool:
    """Returns True for an error that this package raised on purpose, and for the system's about a named file.

    An error that a `raise` statement of this package raised carries a message written for the user. One that came out
    of any other place, such as an operator in this package or a call of Keras, nobody foresaw: a bug.

    Args:
        error: as caught, with its traceback.
    """
    if isinstance(error, OSError) and error.filename is not None:
        return True
    traceback = error.__traceback__
    if traceback is None:
        return False
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    frame = traceback.tb_frame
    in_this_package = str(frame.f_globals.get("__name__")).partition(".")[0] == "keras_resnet"
    return in_this_package and dis.opname[frame.f_code.co_code[traceback.tb_lasti]] == "RAISE_VARARGS"
