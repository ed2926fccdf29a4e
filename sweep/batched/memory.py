"""How many windows run at once in the memory that a model leaves on its GPU."""

from __future__ import annotations

import os
from typing import Any

import torch

from sweep.errors import ResourceError
from sweep.placement.layers import widths, window_bytes

BATCH = "SWEEP_GPU_BATCH"
"""Variable of the environment: how many windows run at once on a GPU, over `batch` of the sweep
file; 1 for one at a time."""
MOST = 64
"""Windows from which more would gain little: a scan takes as long for 64 as for one."""
_USABLE = 0.8
"""Of what is free: the rest is for what an estimate does not see."""


def wished() -> int:
    """What the environment asks for; 0 where it leaves the choice to the memory.

    Raises ResourceError for what is no whole number of at least 1.
    """
    text = os.environ.get(BATCH, "")
    if not text:
        return 0
    if not text.isdecimal() or int(text) < 1:
        raise ResourceError(f"{BATCH} is {text!r}; it must be a whole number of windows, from 1 on")
    return int(text)


def free_bytes(gpu: torch.device) -> int:
    """What this process may still take on a GPU, with what torch holds for it unused."""
    free, _ = torch.cuda.mem_get_info(gpu)
    return free + torch.cuda.memory_reserved(gpu) - torch.cuda.memory_allocated(gpu)


def bytes_of_window(config: Any, tokens: int, itemsize: int, eager: bool) -> int:
    """An estimate of what one more window takes at the peak of a forward pass.

    Some eight tensors of the width of the model and six of its MLP are alive at once, with masks
    and what is kept of the values among them; eager attention holds all pairs of tokens, twice.
    """
    pairs = 2 * tokens * tokens * config.num_attention_heads * 4 if eager else 0
    return window_bytes(*widths(config), tokens, itemsize) + pairs


def batch_of(windows: int, of_window: int, free: int, asked: int = 0) -> int:
    """Windows at once: what the environment asks for, else what the sweep file does, else as many
    as fit, at most `MOST`."""
    fitting = int(free * _USABLE) // max(1, of_window)
    return max(1, min(windows, wished() or asked or min(MOST, fitting)))
