"""A tiny model that has learnt nothing, and text that has structure, for tests of training."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from methods.apply import applied
from methods.base import Method
from methods.select import topk
from methods.training import Lesson, fitted


def windows_of(text: str, tokens: int = 64) -> NDArray[np.int64]:
    """Windows of bytes, numbered as the tiny tokenizer does: any numbers below 257 will do."""
    ids = np.frombuffer(text.encode(), np.uint8).astype(np.int64) + 1
    return ids[: len(ids) // tokens * tokens].reshape(-1, tokens)


class Kept:
    """A checkpoint in memory, which ends the process, as it were, after some saves."""

    def __init__(self, fail_after: int | None = None) -> None:
        self.saved: list[dict[str, NDArray[Any]]] = []
        self.fail_after = fail_after

    def load(self) -> dict[str, NDArray[Any]] | None:
        return dict(self.saved[-1]) if self.saved else None

    def save(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.saved.append({name: array.copy() for name, array in arrays.items()})
        if self.fail_after is not None and len(self.saved) >= self.fail_after:
            raise KeyboardInterrupt


def lesson(windows: NDArray[np.int64], **values: Any) -> Lesson:
    return Lesson(windows, **{"seed": 3, "log": lambda text: None, **values})


def logits(
    model: nn.Module,
    windows: NDArray[np.int64],
    method: Method | None = None,
    arrays: dict[str, NDArray[Any]] | None = None,
    select: Any = topk,
) -> Tensor:
    """[windows * tokens, vocabulary] of the model, dense or under a method."""
    ids = torch.from_numpy(np.ascontiguousarray(windows))
    with torch.no_grad():
        if method is None:
            return model(input_ids=ids).logits.flatten(0, 1)
        with fitted(model, method, arrays) as ready, applied(model, ready, select):
            return torch.cat([model(input_ids=row[None]).logits[0] for row in ids])


def divergence(dense: Tensor, sparse: Tensor) -> float:
    """KL(dense || sparse), mean over tokens."""
    p, q = dense.log_softmax(-1), sparse.log_softmax(-1)
    return float((p.exp() * (p - q)).sum(-1).mean())


def same(first: dict[str, NDArray[Any]], second: dict[str, NDArray[Any]]) -> bool:
    return set(first) == set(second) and all(np.array_equal(first[n], second[n]) for n in first)
