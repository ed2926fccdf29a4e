"""Forward passes over sequences laid end to end: no padding, and a common beginning computed once.

A pass takes segments. A segment continues what was computed before (its `Past`), and sees nothing
of its neighbours, so a method, a selector and a count see the tokens of requests and nothing else.

The rows of a matrix product are the same bits however many others are computed with them, from
`ROWS` of them on, and the rows of scaled dot-product attention are if its blocks are cut where a
single pass over the sequence would cut them. Both hold for MKL and the CPU kernel of torch 2.13
with one thread; elsewhere results differ in the last bits, as those of any batch do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from sweep.inputs import models

ROWS = 16
"""Rows from which a product of matrices does not depend on their number."""
_ROUNDING = 0.03
"""Of the spread of a model's logits, what bfloat16 may differ by, and no wrong mixing keeps to."""


@dataclass(slots=True)
class Past:
    """Keys and values [1, heads, tokens, size] of each layer, of the tokens before a segment."""

    tokens: int = 0
    layers: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)


@dataclass(slots=True)
class Segment:
    """New tokens of one sequence. With `keep`, its past will be that of all its tokens after."""

    tokens: Sequence[int]
    past: Past = field(default_factory=Past)
    keep: Past | None = None
    outputs: int = 0
    """Logits wanted: of this many of its last tokens."""


_packs: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
"""Of each model that was tried, whether it packs."""


def packs(model: Any) -> bool:
    """Whether passes over segments give the logits of passes over whole sequences.

    Its kind says so, and where `prove` has tried it, it does: something else than attention may mix
    tokens, and attention may be told more than `_attend` knows of.
    """
    return models.packable(model) and _packs.get(model, True)


def prove(model: Any) -> None:
    """Try it once, on the dense model: two sequences in one pass, and one in two passes."""
    if model in _packs or not models.packable(model):
        return
    words = int(model.config.get_text_config().vocab_size)
    long, short = ([(7 * i + 3) % words for i in range(n)] for n in (48, 24))
    past = Past()
    with torch.inference_mode():
        alone = [_last_logits(model, tokens) for tokens in (long, short)]
        with PackedModel(model) as packed:
            both = packed.forward([Segment(long, outputs=4), Segment(short, outputs=4)])
            packed.forward([Segment(long[:32], keep=past)])
            both += packed.forward([Segment(long[32:], past, outputs=4)])
    expected = [*alone, alone[0]]
    apart = max(float((a - b).abs().mean() / b.std()) for a, b in zip(both, expected, strict=True))
    _packs[model] = apart < _ROUNDING


def _last_logits(model: Any, tokens: Sequence[int]) -> Tensor:
    device = next(model.parameters()).device
    return model(input_ids=torch.tensor([tokens], device=device)).logits[0, -4:].float()


class PackedModel:
    """A causal model whose attention keeps to segments while this is entered."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._segments: Sequence[Segment] = ()
        self._inside = ExitStack()

    def __enter__(self) -> PackedModel:
        self._inside.enter_context(models.attention(self.model, self._attend))
        return self

    def __exit__(self, *_error: Any) -> None:
        self._inside.close()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """The model with its own attention again, while this is entered."""
        self._inside.close()
        try:
            yield
        finally:
            self.__enter__()

    def forward(self, segments: Sequence[Segment], head_rows: int = ROWS) -> list[Tensor]:
        """Logits [outputs, vocabulary] of each segment, float32.

        The product with the head has at least `head_rows` rows, so that its bits are the same.
        """
        device = next(self.model.parameters()).device
        tokens = [t for segment in segments for t in segment.tokens]
        places = [
            segment.past.tokens + i for segment in segments for i in range(len(segment.tokens))
        ]
        rows = _wanted(segments)
        self._segments = segments
        try:
            logits = self.model(
                input_ids=torch.tensor([tokens], device=device),
                position_ids=torch.tensor([places], device=device),
                use_cache=False,
                logits_to_keep=torch.tensor(_at_least(rows, head_rows), device=device),
            ).logits[0, : len(rows)]
        finally:
            self._segments = ()
        for segment in segments:
            if segment.keep is not None:
                segment.keep.tokens = segment.past.tokens + len(segment.tokens)
        return list(logits.float().split([segment.outputs for segment in segments]))

    def _attend(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        _mask: Tensor | None,
        scaling: float | None = None,
        sliding_window: int | None = None,
        **_: Any,
    ) -> tuple[Tensor, None]:
        """Attention of each segment to its past and itself; [1, heads, tokens, size] in."""
        layer: int = module.layer_idx  # type: ignore[assignment]
        out, begin = [], 0
        for segment in self._segments:
            end = begin + len(segment.tokens)
            keys, values = key[:, :, begin:end], value[:, :, begin:end]
            if layer in segment.past.layers:
                before = segment.past.layers[layer]
                keys = torch.cat([before[0], keys], dim=2)
                values = torch.cat([before[1], values], dim=2)
            if segment.keep is not None:
                segment.keep.layers[layer] = keys, values
            queries = query[:, :, begin:end]
            out.append(_attention(queries, keys, values, scaling, sliding_window))
            begin = end
        return torch.cat(out, dim=2).transpose(1, 2).contiguous(), None


def _wanted(segments: Sequence[Segment]) -> list[int]:
    """Rows of the pass whose logits are wanted."""
    rows, end = [], 0
    for segment in segments:
        end += len(segment.tokens)
        rows += range(end - segment.outputs, end)
    return rows


def _at_least(rows: list[int], least: int) -> list[int]:
    """Rows, the last one repeated until there are enough; one at all where none is wanted."""
    return rows + rows[-1:] * (least - len(rows)) if rows else [0]


def _attention(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None
) -> Tensor:
    """Causal attention of the last tokens of a sequence to all of it.

    Cut into calls whose last blocks have the rows that a call over the whole sequence would give
    them: the CPU kernel takes another path for a block of one or two rows.
    """
    new, total = query.shape[2], key.shape[2]
    narrow = window is not None and total > window
    if new == total and not narrow:
        return _sdpa(query, key, value, None, scaling, causal=new > 1)
    if new == 1 and not narrow:
        return _sdpa(query, key, value, None, scaling, causal=False)
    out = []
    for begin, end in _calls(new, total):
        mask = _mask(begin + total - new, end + total - new, total, window, query.device)
        out.append(_sdpa(query[:, :, begin:end], key, value, mask, scaling, causal=False))
    return torch.cat(out, dim=2) if len(out) > 1 else out[0]


def _calls(new: int, total: int) -> list[tuple[int, int]]:
    """Ranges of the new rows, each computed by one call."""
    tail = total % _block(total)
    tail = tail if tail in (1, 2) and tail < new else 0
    body = new - tail
    ranges = [(0, body)]
    if body % _block(body) in (1, 2) and body > ROWS + 2:
        ranges = [(0, body - ROWS), (body - ROWS, body)]
        if (body - ROWS) % _block(body - ROWS) in (1, 2):
            ranges = [(0, body - ROWS - 3), (body - ROWS - 3, body)]
    return [*ranges, (body, new)] if tail else ranges


def _block(rows: int) -> int:
    """Rows of queries that the CPU kernel takes at a time."""
    return 256 if rows >= 768 else 64 if rows >= 192 else 32


def _mask(begin: int, end: int, total: int, window: int | None, device: torch.device) -> Tensor:
    """[rows, keys], true where the token at a row may look."""
    rows = torch.arange(begin, end, device=device)[:, None]
    keys = torch.arange(total, device=device)[None]
    seen = keys <= rows
    return seen if window is None else seen & (keys > rows - window)


def _sdpa(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float | None,
    causal: bool,
) -> Tensor:
    if mask is not None and query.is_cuda and key.shape[1] != query.shape[1]:
        repeats = query.shape[1] // key.shape[1]  # kernels that take a mask know no groups there
        key, value = (heads.repeat_interleave(repeats, dim=1) for heads in (key, value))
    return nn.functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        scale=scaling,
        is_causal=causal,
        enable_gqa=key.shape[1] != query.shape[1],
    )
