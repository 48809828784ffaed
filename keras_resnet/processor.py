"""The instruction sets of this machine's processor, as far as they decide what is fast."""

import os
import pathlib

# Values of oneDNN's own limit that are below AVX-512.
BELOW_AVX512 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2")


def instructions(path: pathlib.Path = pathlib.Path("/proc/cpuinfo")) -> set[str]:
    """Returns the flags of this processor, such as "avx2"; nothing where they are not told, as outside of Linux.

    Without those of AVX-512 and AMX, where the environment's `ONEDNN_MAX_CPU_ISA` keeps oneDNN from them.

    Args:
        path: the file that tells them.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    flags = next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in BELOW_AVX512:
        return {flag for flag in flags if not flag.startswith(("avx512", "amx"))}
    return flags
