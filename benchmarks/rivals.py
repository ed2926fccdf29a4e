"""What the kernels are compared with: libcachesim, and Algorithm 1 as a loop in PyTorch."""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

_RECORD = [("time", "<u4"), ("id", "<u8"), ("size", "<u4"), ("next", "<i8")]


def request_trace(masks: NDArray[np.bool_], folder: Path) -> Path:
    """The masks as a trace of single requests, token after token, in libcachesim's format."""
    requests = np.nonzero(masks)[1]
    records = np.zeros(requests.size, _RECORD)
    records["time"], records["id"], records["size"] = np.arange(requests.size), requests, 1
    order = np.lexsort((np.arange(requests.size), requests))  # by unit, then by time
    following = np.full(requests.size, -1)
    same = requests[order[1:]] == requests[order[:-1]]
    following[order[:-1][same]] = order[1:][same]
    records["next"] = following
    path = folder / "requests.oracleGeneral"
    records.tofile(path)
    return path


def libcachesim_seconds(masks: NDArray[np.bool_], policy: str, capacity: int) -> float:
    """Best of three runs of libcachesim's own loop over the requests, in its own thread's time."""
    libcachesim: Any = importlib.import_module("libcachesim")

    from benchmarks.kernels import best

    with tempfile.TemporaryDirectory() as folder:
        path = str(request_trace(masks, Path(folder)))
        kind = libcachesim.TraceType.ORACLE_GENERAL_TRACE

        def run() -> None:
            cache = getattr(libcachesim, policy)(capacity, hashpower=16)
            cache.process_trace(libcachesim.TraceReader(path, trace_type=kind))

        return best(run, 3)


def torch_cache_aware(
    scores: torch.Tensor, k: int, capacity: int, gamma: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Algorithm 1 with LFU, written as one would in PyTorch: masks `[tokens, units]` and hits."""
    tokens, units = scores.shape
    cached, uses = torch.zeros(units), torch.zeros(units)
    masks, hits = torch.zeros(tokens, units), torch.zeros(tokens)
    for token in range(tokens):
        x = scores[token].abs()
        weighed = x * (cached + gamma * (1 - cached)) / x.max()
        mask = torch.zeros(units).scatter_(0, torch.topk(weighed, k).indices, 1.0)
        masks[token], hits[token] = mask, (mask * cached).sum()
        uses += mask
        worth = uses + 1e6 * mask + 1e6 * mask * cached
        worth[(mask + cached) == 0] = -1
        best = torch.topk(worth, capacity)
        cached = torch.zeros(units).scatter_(0, best.indices, (best.values >= 0).float())
    return masks, hits
