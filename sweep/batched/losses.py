"""Losses of several windows from one forward pass, in slices as `sweep.measures.losses` takes them.

Where the products of a GPU differ in the last bit by the number of their rows, so do these: masks
are equal where scores are, and one window at a time is what `SWEEP_GPU_BATCH=1` is for.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sweep.measures import losses as of_one


def losses(model: nn.Module, tokens: Tensor) -> Tensor:
    """Negative log-likelihoods [windows, slices] in float32 of tokens [windows, tokens], each
    summed over up to `ROWS` tokens of a window but the first."""
    if len(tokens) == 1:
        return of_one.losses(model, tokens)[None]
    targets = tokens[:, 1:]
    rows = max(of_one.LEAST_ROWS, of_one.ROWS // len(tokens))
    sums = []
    with _logits(model, tokens) as logits:
        for begin in range(0, targets.shape[1], rows):
            part = targets[:, begin : begin + rows]
            logs = logits(begin, begin + part.shape[1]).float().log_softmax(dim=-1)
            sums.append(-logs.gather(-1, part[..., None])[..., 0].sum(dim=-1))
    return torch.stack(sums, dim=1)


@contextmanager
def _logits(model: nn.Module, tokens: Tensor) -> Iterator[Callable[[int, int], Tensor]]:
    """logits(begin, end) -> [windows, end - begin, vocabulary], as `sweep.measures.losses` has it:
    the body runs once where the model was proved to take slices."""
    if not of_one._sliceable.get(model):
        whole = model(input_ids=tokens).logits
        yield lambda begin, end: whole[:, begin:end]
        return

    def part(begin: int, end: int) -> Tensor:
        first = max(0, min(begin, end - of_one.LEAST_ROWS))
        places = torch.arange(first, end, device=tokens.device)
        kept = model(input_ids=tokens, **{of_one._KEEP: places}).logits
        return kept[:, begin - first :]

    with of_one._once(of_one._body(model)):
        yield part
