"""Memory of a GPU: whether a model fits, and how many windows run at once in what is left."""

from __future__ import annotations

import os
from typing import Any

import torch

from sweep.errors import ResourceError

BATCH = "SWEEP_GPU_BATCH"
"""Variable of the environment: how many windows run at once on a GPU; 1 for one at a time."""
MOST = 64
"""Windows from which more would gain little: a scan takes as long for 64 as for one."""
_USABLE = 0.8
"""Of what is free: the rest is for what an estimate does not see."""
_GIB = 1 << 30


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


def free_bytes() -> int:
    """What this process may still take on its GPU, with what torch holds for it unused."""
    free, _ = torch.cuda.mem_get_info()
    return free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()


def total_bytes() -> int:
    """What this process could take on its GPU if it held nothing there yet."""
    free, _ = torch.cuda.mem_get_info()
    return free + torch.cuda.memory_reserved()


def expect_room(weights: int, ref: str, free: int) -> None:
    """Raise ResourceError where `weights` bytes of a model do not fit in `free`."""
    if weights > free * 0.95:
        raise ResourceError(
            f"model {ref} takes {weights / _GIB:.1f} GiB in this type, and the GPU has "
            f"{free / _GIB:.1f} GiB for it: give it a larger GPU, or evaluate in bfloat16"
        )


def bytes_of_window(config: Any, tokens: int, itemsize: int, eager: bool) -> int:
    """An estimate of what one more window takes at the peak of a forward pass.

    Some eight tensors of the width of the model and six of its MLP are alive at once, with masks
    and what is kept of the values among them; eager attention holds all pairs of tokens, twice.
    """
    hidden = config.hidden_size
    width = 8 * hidden + 6 * getattr(config, "intermediate_size", 4 * hidden)
    pairs = 2 * tokens * tokens * config.num_attention_heads * 4 if eager else 0
    return tokens * width * itemsize + pairs


def batch_of(windows: int, of_window: int, free: int) -> int:
    """Windows at once: what the environment asks for, or as many as fit, at most `MOST`."""
    fitting = int(free * _USABLE) // max(1, of_window)
    return max(1, min(windows, wished() or min(MOST, fitting)))
