"""A trace: which units each token used, as bits. It knows nothing of policies or devices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.arguments import whole
from simulator.errors import SimulatorError, unknown
from simulator.packing import check_packed, pack, words_for


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Masks of some windows of text, for every group and layer of a model.

    `units[group]` units in each of `layers` layers; `lengths[w]` tokens in window w.
    `packed[group]` is uint64 `[layers, tokens, words]` (see `simulator.pack`), windows one after
    the other. Plain arrays only: Ray hands them over without a copy. A recorder fills the arrays
    with `add`; a trace that was handed over is read-only.
    """

    units: Mapping[str, int]
    layers: int
    lengths: tuple[int, ...]
    packed: Mapping[str, NDArray[np.uint64]]

    @classmethod
    def empty(cls, units: Mapping[str, int], layers: int, lengths: Sequence[int]) -> Trace:
        """A trace of that shape to be filled by `add`; its masks are all zero."""
        whole("layers", layers, 1)
        lengths = tuple(whole("window length", length, 1) for length in lengths)
        packed = {
            group: np.zeros((layers, sum(lengths), words_for(whole("units", n, 1))), np.uint64)
            for group, n in units.items()
        }
        return cls(dict(units), layers, lengths, packed)

    def add(self, layer: int, group: str, masks: NDArray[Any], window: int) -> None:
        """Set the masks of one window: bool `[tokens, units]`, or packed uint64."""
        target = self.masks(group, layer, window)
        masks = np.asarray(masks)
        words = pack(masks) if masks.dtype == np.bool_ else check_packed(masks, self.units[group])
        units = masks.shape[-1] if masks.dtype == np.bool_ else self.units[group]
        if units != self.units[group] or words.shape != target.shape:
            raise SimulatorError(
                f"masks of group {group!r}, window {window} have shape {masks.shape}; "
                f"the trace has {self.lengths[window]} tokens of {self.units[group]} units there"
            )
        target[...] = words

    def masks(self, group: str, layer: int, window: int | None = None) -> NDArray[np.uint64]:
        """Packed masks `[tokens, words]` of one window (or of all, one after the other): a view."""
        if group not in self.packed:
            raise unknown("group of the trace", group, self.packed)
        whole("layer", layer, 0, self.layers - 1)
        rows = self.packed[group][layer]
        if window is None:
            return rows
        whole("window", window, 0, len(self.lengths) - 1)
        begin = sum(self.lengths[:window])
        return rows[begin : begin + self.lengths[window]]

    def blocks(self) -> Iterator[tuple[str, int, int, NDArray[np.uint64]]]:
        """Every (group, layer, window, packed masks): group by group, layer by layer."""
        for group in self.units:
            for layer in range(self.layers):
                for window in range(len(self.lengths)):
                    yield group, layer, window, self.masks(group, layer, window)

    @property
    def tokens(self) -> int:
        """Tokens of all windows."""
        return sum(self.lengths)

    @property
    def nbytes(self) -> int:
        """Bytes that the masks take."""
        return sum(rows.nbytes for rows in self.packed.values())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Trace):
            return NotImplemented
        mine = (dict(self.units), self.layers, self.lengths)
        same = mine == (dict(other.units), other.layers, other.lengths)
        return same and all(np.array_equal(self.packed[g], other.packed[g]) for g in self.units)
