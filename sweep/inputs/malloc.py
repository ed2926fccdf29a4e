"""The C library's memory: what one layer has done with is kept for the next.

glibc takes large tensors from the system and gives them back at once, so each layer of a forward
pass pays for fresh pages again. Only memory is kept, no value changes. Elsewhere than on glibc, and
where MALLOC_TRIM_THRESHOLD_ is set, nothing is done.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # of mallopt(3)
NEVER = 2**31 - 1


@cache
def keep() -> bool:
    """Let this process keep freed memory; returns whether it does."""
    if "MALLOC_TRIM_THRESHOLD_" in os.environ:
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(MMAP_MAX, 0) and mallopt(TRIM_THRESHOLD, NEVER))
