"""Scores for the proofs that a device selects as the CPU kernels do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True, slots=True)
class Case:
    """Values `[sequences, tokens, units]` of a kind, and what a selection takes."""

    kind: str
    units: int
    k: int
    capacity: int
    gamma: float
    dtype: torch.dtype = torch.float32
    tokens: int = 5
    sequences: int = 2
    hot: bool = False

    @property
    def values(self) -> Tensor:
        random = np.random.default_rng(self.units + self.k)
        drawn = random.standard_normal((self.sequences, self.tokens, self.units))
        return torch.from_numpy(_as(self.kind, drawn)).to(DEVICE, self.dtype)

    @property
    def start(self) -> NDArray[np.int64] | None:
        return np.random.default_rng(self.units).permutation(self.units) if self.hot else None


def _as(kind: str, drawn: NDArray[np.float64]) -> NDArray[np.float32]:
    if kind == "ties":
        drawn = np.round(drawn * 2)
    elif kind == "all equal":
        drawn = np.full_like(drawn, -1.5)
    elif kind == "zeros":
        drawn = drawn * 0 * np.sign(drawn)  # of both signs
    elif kind == "subnormal":
        drawn = drawn * 1e-42
    elif kind == "one outlier":
        drawn[..., drawn.shape[-1] // 2] = 6e4
    return drawn.astype(np.float32)


def floats(values: Tensor) -> NDArray[np.float32]:
    return values.float().cpu().numpy()


def words(packed: Tensor) -> NDArray[np.uint64]:
    return packed.cpu().numpy().view(np.uint64)


HARD = (
    Case("normal", 100, 40, 30, 0.2),
    Case("normal", 100, 30, 60, 0.2, torch.bfloat16, hot=True),
    Case("normal", 257, 100, 100, 0.5, torch.float16),
    Case("ties", 130, 50, 70, 0.5, torch.bfloat16),
    Case("ties", 129, 60, 20, 1.0),
    Case("all equal", 65, 20, 33, 0.3),
    Case("zeros", 64, 10, 20, 0.2, hot=True),
    Case("subnormal", 90, 30, 45, 0.7),
    Case("subnormal", 90, 45, 30, 1e-30, torch.bfloat16),
    Case("one outlier", 100, 1, 10, 0.2),
    Case("one outlier", 100, 99, 98, 0.9, torch.float16),
    Case("normal", 33, 33, 10, 0.2),
    Case("normal", 40, 12, 0, 0.2),
    Case("normal", 40, 12, 40, 0.2),
    Case("normal", 1, 1, 1, 0.2, tokens=3),
    Case("normal", 70, 20, 30, 0.2, torch.bfloat16, tokens=1, sequences=1),
    Case("normal", 7, 3, 5, 1e-38, tokens=8),
)
