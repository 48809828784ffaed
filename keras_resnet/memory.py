"""How much memory this process may still take, so that what cannot fit is refused before it is tried."""

import contextlib
import os
import pathlib
import re

# What stays for the rest of the process, and for what is only estimated.
SHARE = 0.9
_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def available_bytes() -> int | None:
    """Returns the least of what the machine, a container's limit and `ulimit -v` leave; None where nothing is known.

    Example:
        >>> from keras_resnet.memory import available_bytes
        >>> free = available_bytes()
        >>> free is None or free > 0
        True
    """
    limits = [free for free in (_of_machine(), *map(_of_cgroup, _CGROUPS), free_address_space()) if free is not None]
    return max(min(limits), 0) if limits else None


def format_bytes(size: float) -> str:
    """Returns a number of bytes as people read it, such as "6.0 GiB".

    Args:
        size: in bytes.
    """
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.1f} MiB"


def free_address_space() -> int | None:
    """Returns the free bytes below the limit of the address space (`ulimit -v`); None without a limit.

    Example:
        >>> from keras_resnet.memory import free_address_space
        >>> free = free_address_space()
        >>> free is None or free > 0
        True
    """
    try:
        import resource
    except ImportError:  # Windows has none
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(pathlib.Path("/proc/self/statm").read_text("ascii").split()[0])
        return limit - pages * os.sysconf("SC_PAGE_SIZE")
    return limit


def is_exhausted(error: BaseException) -> bool:
    """Returns whether an error is a backend's or Python's for want of memory, of the machine or of a device.

    Args:
        error: as caught.

    Example:
        >>> from keras_resnet.memory import is_exhausted
        >>> is_exhausted(MemoryError()), is_exhausted(ValueError("no"))
        (True, False)
    """
    is_memory_error = type(error).__name__ in ("ResourceExhaustedError", "OutOfMemoryError")
    return isinstance(error, MemoryError) or is_memory_error or "RESOURCE_EXHAUSTED" in str(error)


def _of_machine() -> int | None:
    with contextlib.suppress(OSError, ValueError):
        text = pathlib.Path("/proc/meminfo").read_text("ascii")
        match = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.M)
        return int(match[1]) * 1024 if match else None
    return None


def _of_cgroup(files: tuple[str, str]) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        limit, used = (int(pathlib.Path(path).read_text("ascii")) for path in files)  # "max" is not a number
        return limit - used
    return None
