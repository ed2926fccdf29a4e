"""Reads without Python between them: what one thread of a replay does, compiled.

Python's lock costs some µs a read and more where threads meet, as much as a small read itself.
Here each thread calls `pread` of the C library outside the lock, and threads meet at the end of a
phase by marks that each sets for itself.
"""

from __future__ import annotations

import ctypes
import time

import numpy as np
from numba import njit
from numpy.typing import NDArray

_LIBC = ctypes.CDLL(None)
PREAD = _LIBC.pread
PREAD.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64)
PREAD.restype = ctypes.c_ssize_t
_YIELD = _LIBC.sched_yield
_YIELD.argtypes = ()
_YIELD.restype = ctypes.c_int
_SLEEP = _LIBC.usleep
_SLEEP.argtypes = (ctypes.c_uint,)
_SLEEP.restype = ctypes.c_int
_CLOCK = _LIBC.clock_gettime
_CLOCK.argtypes = (ctypes.c_int, ctypes.c_void_p)
_CLOCK.restype = ctypes.c_int
_MONOTONIC = time.CLOCK_MONOTONIC
MARK = 8
"""Words from one thread's mark to the next, so that they share no cache line."""
YIELDS, SLEEP_US = 100, 20
"""How often a thread that waits offers its processor, before it sleeps between looks."""
GONE = 1 << 62
"""Mark of a thread that has given up: nobody waits for it."""
SHORT, WRONG = -1, -2
"""A read that failed or came back short; bytes that are not those of the image."""
_STEP, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # of splitmix64


def words(first: int, count: int, seed: int) -> NDArray[np.uint64]:
    """Words `first` to `first + count` of an image: random, and known by their place alone."""
    with np.errstate(over="ignore"):
        z = np.arange(first + 1, first + count + 1, dtype=np.uint64) * np.uint64(_STEP)
        z += np.uint64(seed)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(_FIRST)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(_SECOND)
        return z ^ (z >> np.uint64(31))


@njit(nogil=True)
def _word(place, seed):  # type: ignore[no-untyped-def]
    """As `words`, of one place."""
    z = (np.uint64(place) + np.uint64(1)) * np.uint64(_STEP) + np.uint64(seed)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(_FIRST)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(_SECOND)
    return z ^ (z >> np.uint64(31))


@njit(nogil=True)
def equal(got, offset, length, seed):  # type: ignore[no-untyped-def]
    """Whether the first `length` bytes of `got` (uint64) are those of the image from `offset`."""
    whole = 0 if offset % 8 else length // 8
    for i in range(whole):
        if got[i] != _word(offset // 8 + i, seed):
            return False
    octets = got.view(np.uint8)
    for i in range(8 * whole, length):
        shift = np.uint64(8 * ((offset + i) % 8))
        word = _word((offset + i) // 8, seed)
        if np.uint64(octets[i]) != (word >> shift) & np.uint64(255):
            return False
    return True


@njit(nogil=True)
def now(pair):  # type: ignore[no-untyped-def]
    _CLOCK(_MONOTONIC, pair.ctypes.data)
    return pair[0] * 1_000_000_000 + pair[1]


@njit(nogil=True)
def read_phases(  # type: ignore[no-untyped-def]
    descriptor, offsets, lengths, phases, slot, depth, buffer, marks, ends, stop, seed, task
):
    """The reads of thread `slot` of `depth`: every depth-th of each phase, phase after phase.

    `offsets`, `lengths` int64 [reads]; reads of phase p are `phases[p]` to `phases[p + 1]`;
    `buffer` uint64 and large enough; `marks` int64 [depth * MARK], 0 at the start; `ends` int64
    [phases + 1] gets the nanoseconds at the start and at the end of each phase, from slot 0; a
    `stop[0]` other than 0 ends all. `task`: 1 reads, 2 reads and compares with the image of `seed`,
    0 does neither, so that only the meeting of threads is timed. Returns how many reads were done,
    or SHORT or WRONG.
    """
    pair = np.zeros(2, np.int64)
    done = 0
    marks[slot * MARK] = 1
    meet(marks, depth, 1)
    if slot == 0:
        ends[0] = now(pair)
    for phase in range(phases.size - 1):
        if phases[phase] < phases[phase + 1]:
            for i in range(phases[phase] + slot, phases[phase + 1], depth):
                code = 0
                if (
                    task
                    and PREAD(descriptor, buffer.ctypes.data, lengths[i], offsets[i]) != lengths[i]
                ):
                    code = SHORT
                elif task == 2 and not equal(buffer, offsets[i], lengths[i], seed):
                    code = WRONG
                if code or stop[0]:
                    marks[slot * MARK] = GONE
                    stop[0] = 1
                    return code
                done += 1
            marks[slot * MARK] = phase + 2
            meet(marks, depth, phase + 2)
        if slot == 0:
            ends[phase + 1] = now(pair)
    marks[slot * MARK] = GONE
    return done


@njit(nogil=True)
def meet(marks, depth, mark):  # type: ignore[no-untyped-def]
    """Until all threads have come to a mark. The processor is offered to others meanwhile, and left
    to them where that takes long: where threads are more than processors, those that wait would
    else keep those that read from running."""
    for slot in range(depth):
        tries = 0
        while marks[slot * MARK] < mark:
            tries += 1
            if tries < YIELDS:
                _YIELD()
            else:
                _SLEEP(SLEEP_US)
