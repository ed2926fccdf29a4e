"""The page cache of a file: emptied, and looked into, where the system can do that.

Linux does both: `posix_fadvise` drops pages that are written, `mincore` says which are resident.
macOS has neither for a file; there reads with F_NOCACHE leave nothing behind, but take what is
resident already, so the image is written with F_NOCACHE too.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from contextlib import suppress

import numpy as np

RANDOM, SEQUENTIAL = "random", "sequential"
TRIES = 10
PAUSE = 0.02
"""Seconds between two tries to empty the cache."""


def drop(descriptor: int) -> bool:
    """Take all pages of a file out of the cache, those left out that wait to be written; whether
    the system was asked to.

    Linux passes over pages that something still holds, such as a processor that has just read
    them: it is asked again while any are left, up to `TRIES` times.
    """
    advise = getattr(os, "posix_fadvise", None)
    if advise is None:
        return False
    with suppress(OSError):
        size = os.fstat(descriptor).st_size
        for further in range(TRIES - 1, -1, -1):
            advise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            if not further or not resident_share(descriptor, size):
                break
            time.sleep(PAUSE)
        return True
    return False


def expect(descriptor: int, pattern: str) -> None:
    """Tell the system how the file will be read: it reads ahead for sequential reads alone."""
    advise = getattr(os, "posix_fadvise", None)
    if advise is not None:
        advice = os.POSIX_FADV_RANDOM if pattern == RANDOM else os.POSIX_FADV_SEQUENTIAL
        with suppress(OSError):
            advise(descriptor, 0, 0, advice)


def resident_share(descriptor: int, size: int) -> float | None:
    """Share of the file's pages that are in the cache, 0 to 1; None where that is not told."""
    mincore = _mincore()
    if mincore is None or size == 0:
        return None
    pages = -(-size // mmap.PAGESIZE)
    states = np.zeros(pages, np.uint8)
    with mmap.mmap(descriptor, size, prot=mmap.PROT_READ) as mapped:
        view = np.frombuffer(mapped, np.uint8)
        failed = mincore(view.ctypes.data, size, states.ctypes.data)
        del view  # a mapping that is still looked at cannot be closed
    return None if failed else float((states & 1).mean())


def _mincore() -> ctypes._NamedFuncPointer | None:
    if not hasattr(os, "posix_fadvise"):
        return None
    try:
        mincore = ctypes.CDLL(None, use_errno=True).mincore
    except (OSError, AttributeError):
        return None
    mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
    mincore.restype = ctypes.c_int
    return mincore
