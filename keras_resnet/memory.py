"""How much memory this process may still take, so that what cannot fit is refused before it is tried."""

import contextlib
import os
import pathlib
import re

# Values of oneDNN's own limit that are below AVX-512.
BELOW_AVX512 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2")


def instructions(path: pathlib.Path = pathlib.Path("/proc/cpuinfo")) -> set[str]:
    """Returns the flags of this processor, such as "avx2"; nothing where they are not told, as outside of Linux.

    Without those of AVX-512 and AMX, where the environment's `ONEDNN_MAX_CPU_ISA` keeps oneDNN from them.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    flags = next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in BELOW_AVX512:
        return {flag for flag in flags if not flag.startswith(("avx512", "amx"))}
    return flags


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
    """Returns a number of bytes as people read it, such as "6.0 GiB"."""
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
