"""Reads and products of one thread, compiled: columns of 4-bit weights, as they come from Flash.

A unit of the image is blocks of 66 bytes: 64 of codes, two to a byte, and a scale of 16 bits for
their 128 weights, which are the 4.125 bits a weight of the simulator; the last block may be
shorter. Any bytes are weights, (code - 8) · scale · 2^-16, so that an image of random bytes has
real columns, and a wrong byte another product.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from sweep.probe.reader import GONE, MARK, PREAD, SHORT, meet, now

CODES, BLOCK = 64, 66
"""Bytes of codes in a block, and with their scale."""
READS, PRODUCTS = 1, 2
"""Bits of what a round does."""


@njit(nogil=True, fastmath=True)
def add_column(octets, first, size, factor, y):  # type: ignore[no-untyped-def]
    """y [weights] += factor · the column in `size` bytes of `octets` from `first` on."""
    place, done = 0, 0
    while done + 2 < size:
        codes = min(CODES, size - done - 2)
        begin = first + done
        end = begin + codes
        scale = np.float32(np.uint32(octets[end]) + np.uint32(octets[end + 1]) * np.uint32(256))
        by = factor * scale * np.float32(1 / 65536)
        for j in range(codes):
            code = octets[begin + j]
            y[place + j] += by * np.float32(np.int32(code & 15) - 8)
            y[place + codes + j] += by * np.float32(np.int32(code >> 4) - 8)
        place += 2 * codes
        done += codes + 2


@njit(nogil=True)
def _add_columns(octets, units, begin, size, x, y):  # type: ignore[no-untyped-def]
    """`add_column` of all units, by their places in the image; `octets` are those from `begin`."""
    for unit in units:
        add_column(octets, unit - begin, size, x[(unit // size) % x.size], y)


@njit(nogil=True)
def _read(descriptor, buffer, length, offset):  # type: ignore[no-untyped-def]
    return PREAD(descriptor, buffer.ctypes.data, length, offset) == length


@njit(nogil=True)
def do_phases(  # type: ignore[no-untyped-def]
    descriptor,
    offsets,
    lengths,
    phases,
    sizes,
    missed_of,
    missed,
    hits_of,
    hits,
    resident,
    x,
    slot,
    depth,
    buffer,
    y,
    sums,
    marks,
    ends,
    stop,
    task,
):
    """The reads and products of thread `slot` of `depth`, phase after phase.

    Reads, threads and clock are as in `reader.read_phases`. `sizes` int64 [groups] are bytes of a
    unit; phase p is of group p modulo their number. Of read i the missed units `missed[missed_of[i]
    : missed_of[i + 1]]`, of phase p the hits `hits[hits_of[p] : hits_of[p + 1]]`, each by its place
    in the image, are multiplied with their value of `x` and added up: missed ones in the buffer of
    the read, by the thread that read it, the others in `resident`, a copy of the image in memory.
    `y` float32 [depth, 2, weights]; `sums` float64 [phases] gets the sum of each product. `task`
    says what is done: READS, PRODUCTS or both; missed units that are not read are in `resident`.
    """
    pair = np.zeros(2, np.int64)
    marks[slot * MARK] = 1
    meet(marks, depth, 1)
    if slot == 0:
        ends[0] = now(pair)
    for phase in range(phases.size - 1):
        size, turn = sizes[phase % sizes.size], phase & 1
        if task & PRODUCTS:
            y[slot, turn] = 0
        for i in range(phases[phase] + slot, phases[phase + 1], depth):
            failed = task & READS and not _read(descriptor, buffer, lengths[i], offsets[i])
            if failed or stop[0]:
                marks[slot * MARK] = GONE
                stop[0] = 1
                return SHORT if failed else 0
            if task & PRODUCTS:
                units = missed[missed_of[i] : missed_of[i + 1]]
                held, begin = (buffer, offsets[i]) if task & READS else (resident, 0)
                _add_columns(held, units, begin, size, x, y[slot, turn])
        if task & PRODUCTS:
            units = hits[hits_of[phase] + slot : hits_of[phase + 1] : depth]
            _add_columns(resident, units, 0, size, x, y[slot, turn])
        marks[slot * MARK] = phase + 2
        meet(marks, depth, phase + 2)
        if slot == 0:
            if task & PRODUCTS:  # others use the other half of y until the next meeting
                sums[phase] = y[:, turn].sum()
            ends[phase + 1] = now(pair)
    marks[slot * MARK] = GONE
    return 1
