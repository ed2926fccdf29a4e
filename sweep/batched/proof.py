"""A GPU proves itself: what it selects of one window is compared with the CPU kernels."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simulator.packing import pack
from simulator.selection import Selected, select
from simulator.state import CacheState, new_state
from sweep.gpu.state import Caches


class GpuDiffersError(RuntimeError):
    """A GPU has selected other units than the CPU does of the same scores."""


class Proof:
    """Of one batch: its first window's selection on the CPU, beside that of the GPU."""

    def __init__(self) -> None:
        self.compared = 0
        self._states: dict[tuple[str, int], CacheState] = {}

    def top_k(
        self, layer: int, group: str, values: Tensor, k: int, magnitude: bool, words: Tensor
    ) -> None:
        """Raises GpuDiffersError where masks differ."""
        self._compare(layer, group, select(_floats(values), k, magnitude=magnitude), words, None)

    def cache_aware(
        self,
        layer: int,
        group: str,
        values: Tensor,
        k: int,
        gamma: float,
        caches: Caches,
        start: NDArray[np.int64] | None,
        words: Tensor,
        hits: Tensor,
    ) -> None:
        """Raises GpuDiffersError where masks or hits differ."""
        if (group, layer) not in self._states:
            size = (caches.units, caches.capacity, caches.policy)
            self._states[group, layer] = new_state(*size, start)
        state = self._states[group, layer]
        expected = select(_floats(values), k, gamma=gamma, state=[state])
        self._compare(layer, group, expected, words, hits)

    def mask(self, layer: int, group: str, own: Tensor, words: Tensor) -> None:
        """`own` bool [1, tokens, units] is what the CPU chose. Raises GpuDiffersError where masks
        differ."""
        self._expect_same(layer, group, _differing(words, pack(own.numpy())), words)

    def _compare(
        self, layer: int, group: str, expected: Selected, words: Tensor, hits: Tensor | None
    ) -> None:
        other = _differing(words, expected.packed)
        if hits is not None and expected.hits is not None:
            other |= hits[0].cpu().numpy() != expected.hits[0]
        self._expect_same(layer, group, other, words)

    def _expect_same(self, layer: int, group: str, other: NDArray[np.bool_], words: Tensor) -> None:
        self.compared += 1
        if other.any():
            raise GpuDiffersError(
                f"of the scores of layer {layer}, {group}, token {int(other.argmax())}, this GPU "
                f"({_device(words)}, torch {torch.__version__}) selects other units than the CPU: "
                "its results would be wrong; run on the CPU, and report this line"
            )


def _differing(words: Tensor, expected: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Tokens of the first window whose masks are others."""
    return (words[0].cpu().numpy().view(np.uint64) != expected[0]).any(axis=-1)


def _floats(values: Tensor) -> NDArray[np.float32]:
    """The first window as float32 [1, tokens, units] on the host."""
    return values[:1].float().cpu().numpy()


def _device(words: Tensor) -> str:
    return torch.cuda.get_device_name(words.device) if words.is_cuda else "cpu"
