"""Threads that read, and a thread that only counts time beside them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

BEAT_SECONDS, STILL_SECONDS = 0.005, 0.02
"""How often time is counted beside the reads, and the delay from which on that counts."""


def run(threads: Sequence[threading.Thread], stop: Callable[[], None]) -> float:
    """Start all and wait for them; returns the seconds in which this process stood still, by this
    thread's own delays. After Ctrl-C, or any error here, `stop` is called and all have ended before
    this raises."""
    still = 0.0
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                before = time.perf_counter()
                thread.join(BEAT_SECONDS)
                late = time.perf_counter() - before - BEAT_SECONDS
                still += late if late > STILL_SECONDS else 0.0
    except BaseException:
        stop()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        raise
    return still
