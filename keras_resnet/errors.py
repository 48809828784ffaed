"""Errors whose message is written for the user; every other exception of this package is a bug in it.

They are Python's own classes as well, so that `except ValueError` goes on working.
"""


class UserError(Exception):
    """Marks an error that the user can mend: it says what arrived, what is allowed and what to do.

    The command line prints its message and exits with status 2. It shows the traceback of any other exception.
    """


class BadValue(UserError, ValueError):
    """An argument, a file or the data is not what is allowed."""


class BadType(UserError, TypeError):
    """An argument is of a type that is not allowed."""


class MissingPackage(UserError, ImportError):
    """A package is not installed, is too old, or cannot stand beside this one."""


class NodesLost(UserError, RuntimeError):
    """The machines were lost more often than retries allow; resuming tries again."""


class NoMemory(UserError, MemoryError):
    """A step needed more memory than there was; a smaller batch, network or image needs less."""


class NoRoom(UserError, OSError):
    """A file could not be written for want of space, of inodes, or because of a quota or a limit of sizes."""


class NoLock(UserError, OSError):
    """A lock could not be taken: the folder is not writable, or its disk answers with an error."""
