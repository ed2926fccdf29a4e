"""How far the words that a model expects are from those of the dense model (SEMANTICS 12).

For each predicted token, KL(dense ‖ own) = Σ p (log p - log q) in nats over the whole vocabulary,
and whether the most likely token is another. The dense probabilities p of a window are computed
once on a machine and kept in its cache folder, in 16 bits; every evaluation of the window reads
them there. They are rounded before the sum, so an equal model is at 0. What is kept changes no
result: a window that has no room, or is gone, is computed again.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweep.errors import ResourceError
from sweep.files.cache import cache_dir, locked, staged
from sweep.measures.losses import Watch

KEPT_BYTES = 20e9
"""Of all windows together in the cache folder; those used longest ago make room."""
FREE_SHARE = 0.5
"""Of the disk's free space, the most that one window may take."""

Run = Callable[[Watch], None]
"""Runs the dense model on the window, and shows each slice of its log-probabilities."""


@dataclass(slots=True)
class Distance:
    """Sums over the predicted tokens of a window."""

    kl: float = 0.0
    """KL(dense ‖ own) in nats."""
    flips: int = 0
    """Tokens whose most likely next token is another than the dense model's."""


class Dense:
    """What the dense model expects in one window: a record for each predicted token."""

    def __init__(self, records: NDArray[Any]) -> None:
        self._records = records

    def watch(self, distance: Distance) -> Watch:
        """Adds to `distance` what each slice of log-probabilities is apart."""

        def compare(begin: int, logs: Tensor) -> None:
            records = self._records[begin : begin + len(logs)]
            p = _tensor(records["p"], logs).float()
            crossed = torch.linalg.vecdot(p, logs).double()
            entropy = _tensor(records["entropy"].copy(), logs).double()
            distance.kl += float((-entropy - crossed).sum())
            top = _tensor(records["top"].copy(), logs).long()
            likely = logs.gather(1, top[:, None])[:, 0]
            distance.flips += int((logs.amax(dim=-1) > likely).sum())

        return compare


def dense(identity: str, window: int, tokens: int, run: Run) -> Dense:
    """The dense model's expectations in a window of so many tokens, kept under what identifies the
    dense run; `run` computes them where they are not."""
    path = cache_dir() / "expectations" / f"{identity}-{window}.npy"
    with suppress(ResourceError), locked(f"expectations-{identity}-{window}"):
        kept = _opened(path, tokens - 1)
        return Dense(_recorded(tokens - 1, run, path) if kept is None else kept)
    return Dense(_recorded(tokens - 1, run))  # a cache folder that cannot be used


def _opened(path: Path, count: int) -> NDArray[Any] | None:
    try:
        records = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if records.shape != (count,) or records.dtype.names != ("entropy", "top", "p"):
        return None
    with suppress(OSError):
        path.touch()
    return records


def _recorded(count: int, run: Run, path: Path | None = None) -> NDArray[Any]:
    """Records of `count` predicted tokens as the dense model is run; kept at `path` if there is
    room for them."""
    records: NDArray[Any] = np.empty(0)

    def record(begin: int, logs: Tensor) -> None:
        nonlocal records
        if not begin:
            records = np.empty(count, _dtype(logs.shape[-1]))
        _fill(records[begin : begin + len(logs)], logs)

    run(record)
    if path is not None and _made_room(path.parent, records.nbytes):
        with suppress(OSError, ResourceError), staged(path) as temporary, temporary.open("wb") as f:
            np.save(f, records, allow_pickle=False)
    return records


def _fill(records: NDArray[Any], logs: Tensor) -> None:
    """What log-probabilities [tokens, vocabulary] expect, and the entropy of that."""
    p = logs.exp().half()
    records["p"] = p.cpu().numpy()
    records["entropy"] = -torch.linalg.vecdot(p.float(), logs).cpu().numpy()
    records["top"] = logs.argmax(dim=-1).cpu().numpy()


def _dtype(vocabulary: int) -> np.dtype[Any]:
    return np.dtype([("entropy", "<f4"), ("top", "<i4"), ("p", "<f2", (vocabulary,))])


def _made_room(folder: Path, size: int) -> bool:
    """Whether so many bytes may be kept, after those used longest ago made room."""
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        kept = sorted(
            (stat.st_mtime, stat.st_size, path)
            for path in folder.glob("*.npy")
            for stat in [path.stat()]
        )
        total = sum(held for _, held, _ in kept)
        for _, held, path in kept:
            if total + size <= KEPT_BYTES:
                break
            path.unlink(missing_ok=True)
            total -= held
        return size <= min(KEPT_BYTES, FREE_SHARE * shutil.disk_usage(folder).free)
    return False


def _tensor(values: NDArray[Any], like: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the file is mapped to be read
        return torch.from_numpy(values).to(like.device)
