"""Bytes that a model takes on GPUs, and the GPU of each layer, from sizes alone.

What is no layer (embedding, norm, head) lies on the first GPU, with the tokens and their losses;
the layers follow one another from GPU to GPU, as evenly filled as whole layers allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.geometry import Geometry

ITEM = {"float32": 4, "bfloat16": 2}
"""Bytes of a number, by dtype."""
USABLE = 0.95
"""Of a GPU's memory: the rest is for what an estimate does not see."""
MOST = 16
"""GPUs that one task may have."""
GB = 1e9
_LOGITS = 256
"""Positions whose logits are held at a time: `ROWS` of `sweep.measures.losses` (it needs torch)."""
_LOGIT = 10
"""Bytes of a logit in the model's type, in float32, and of its softmax."""
_STEPS = 24
_WIDTHS = (8, 6)
"""Tensors of the width of the model, and of its MLP, that are alive at once at the peak."""


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes of a model that evaluates one window."""

    layers: tuple[int, ...]
    """Of each layer's weights."""
    others: int
    """Of all other weights."""
    window: int
    """Of what a window takes in a layer, on every GPU."""
    logits: int
    """Of the logits that are held at a time, on the first GPU."""

    @property
    def weights(self) -> int:
        return sum(self.layers) + self.others

    @property
    def whole(self) -> int:
        """On a single GPU."""
        return self.weights + self.window + self.logits

    def with_changed(self) -> Need:
        """Where a task brings other weights for the layers, which lie beside the model's own."""
        return replace(self, layers=tuple(2 * size for size in self.layers))


def of_geometry(geometry: Geometry, dtype: str, tokens: int) -> Need:
    """Of a model by its sizes, for windows of so many tokens; layers are taken as alike."""
    item = ITEM[dtype]
    layer = (geometry.weights - geometry.embedding_weights) * item // geometry.layers
    window = window_bytes(geometry.hidden, geometry.intermediate, tokens, item)
    others = geometry.embedding_weights * item
    logits = logit_bytes(geometry.vocabulary, tokens)
    return Need((layer,) * geometry.layers, others, window, logits)


def window_bytes(hidden: int, intermediate: int, tokens: int, item: int) -> int:
    """An estimate of what one window takes at the peak of a forward pass, masks among it."""
    return tokens * (_WIDTHS[0] * hidden + _WIDTHS[1] * intermediate) * item


def widths(config: Any) -> tuple[int, int]:
    """Width of a model and of its MLPs, the widest where they differ, as its configuration says."""
    hidden = config.hidden_size
    wide = getattr(config, "intermediate_size", 4 * hidden)
    return hidden, max(wide) if isinstance(wide, list | tuple) else wide


def logit_bytes(vocabulary: int, tokens: int) -> int:
    """Of the logits of a window that are held at a time."""
    return min(_LOGITS, tokens) * vocabulary * _LOGIT


def split(need: Need, rooms: Sequence[float]) -> tuple[int, ...] | None:
    """The GPU of each layer, on GPUs with `rooms` bytes each; None where they do not suffice."""
    if _filled(need, rooms, 1.0) is None:
        return None
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        fits = _filled(need, rooms, middle) is not None
        low, high = (low, middle) if fits else (middle, high)
    return _filled(need, rooms, high)


def fewest(need: Need, room: float, most: int = MOST) -> int | None:
    """How many GPUs of `room` bytes take the model, at most `most`; None where they do not."""
    counts = range(1, most + 1)
    return next((n for n in counts if split(need, (room,) * n) is not None), None)


def _filled(need: Need, rooms: Sequence[float], share: float) -> tuple[int, ...] | None:
    """Layers put on GPU after GPU, each filled to a share of what is usable of it."""
    left = [USABLE * room * share - need.window for room in rooms]
    left[0] -= need.others + need.logits
    placed, gpu = [], 0
    if left[0] < 0:
        return None
    for size in need.layers:
        while gpu < len(left) and left[gpu] < size:
            gpu += 1
        if gpu == len(left):
            return None
        left[gpu] -= size
        placed.append(gpu)
    return tuple(placed)


def refusal(model: str, dtype: str, need: Need, rooms: Sequence[float], where: str) -> str:
    """Why a model does not fit, and what would help; `where` is whose the GPUs are."""
    room = min(rooms)
    have = f"one GPU of {room / GB:.1f} GB"
    if len(rooms) > 1:
        have = f"{len(rooms)} GPUs of {room / GB:.1f} GB"
    helps = [f"{count} such GPUs on one machine"] if (count := fewest(need, room)) else []
    helps += ["dtype: bfloat16, which takes half as much"] if dtype == "float32" else []
    helps += ["a larger GPU", "the CPU (resources: {evaluate: {gpu: 0}})"]
    return (
        f"model {model} takes {need.whole / GB:.1f} GB of GPU memory in {dtype} "
        f"({need.weights / GB:.1f} GB of weights, the rest for a window), and {where} has {have}; "
        f"what would help: {', '.join(helps[:-1])} or {helps[-1]}"
    )
