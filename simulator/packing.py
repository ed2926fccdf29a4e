"""Masks as bits: 64 units a word, in memory and in trace files."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulator.errors import SimulatorError

WORD = 64


def words_for(units: int) -> int:
    """Words that a row of `units` bits takes."""
    return -(-units // WORD)


def pack(masks: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Masks `[..., units]` as words `[..., words]`; unit i is bit i % 64 of word i // 64.

    Bits past the last unit are 0.
    """
    masks = np.asarray(masks)
    if masks.dtype != np.bool_ or masks.ndim < 1 or masks.shape[-1] < 1:
        raise SimulatorError(
            f"masks are {masks.dtype} of shape {masks.shape}; they must be bool [tokens, units]"
        )
    octets = np.packbits(masks, axis=-1, bitorder="little")
    missing = words_for(masks.shape[-1]) * 8 - octets.shape[-1]
    if missing:
        empty = np.zeros((*octets.shape[:-1], missing), np.uint8)
        octets = np.concatenate((octets, empty), axis=-1)
    return np.ascontiguousarray(octets).view("<u8")


def unpack(packed: NDArray[np.uint64], units: int) -> NDArray[np.bool_]:
    """The inverse of `pack`: masks `[..., units]`."""
    packed = check_packed(packed, units)
    octets = packed.view(np.uint8)
    return np.unpackbits(octets, axis=-1, count=units, bitorder="little").view(np.bool_)


def check_packed(packed: NDArray[np.uint64], units: int) -> NDArray[np.uint64]:
    """`packed` contiguous; SimulatorError if it cannot be masks of that many units."""
    packed = np.ascontiguousarray(packed)
    if packed.dtype != np.uint64 or packed.ndim < 1 or packed.shape[-1] != words_for(units):
        raise SimulatorError(
            f"packed masks are {packed.dtype} of shape {packed.shape}; {units} units make "
            f"uint64 [tokens, {words_for(units)}]"
        )
    spare = units % WORD
    if spare and packed.size and (packed[..., -1] >> np.uint64(spare)).any():
        raise SimulatorError(f"packed masks have bits past the last of {units} units")
    return packed
