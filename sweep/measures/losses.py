"""Losses of a window's tokens in slices, so that memory does not grow with the vocabulary.

The logits of a window of 2048 tokens over 262,144 words take 2 GB, and as much again for their
softmax. The model's body runs once; then its own code after it, the output head and whatever the
family does to logits (a cap, a scale), is called with what the body returned, for some positions at
a time. On one thread the rows of a product are the same bits in slices of `LEAST_ROWS` and more
(tests/sweep/measures/test_losses.py), and so are the losses.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

ROWS = 256
"""Positions whose logits are turned into losses at a time; bounds memory, not the result."""
LEAST_ROWS = 16
"""Rows from which a product of matrices does not depend on their number."""
_TRIAL_ROWS = 48
_KEEP = "logits_to_keep"

_sliceable: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
"""Of each model that was tried, whether slices of its logits are those of the whole."""


Watch = Callable[[int, Tensor], None]
"""watch(first position, log-probabilities [positions, vocabulary] in float32)."""


def losses(model: nn.Module, tokens: Tensor, watch: Watch | None = None) -> Tensor:
    """Negative log-likelihoods [slices] in float32, each summed over up to `ROWS` of the tokens
    [1, tokens] but the first. `watch` sees the log-probabilities of each slice."""
    targets = tokens[0, 1:]
    sums = []
    with _logits(model, tokens) as logits:
        for begin in range(0, len(targets), ROWS):
            rows = targets[begin : begin + ROWS]
            logs = logits(begin, begin + len(rows)).float().log_softmax(dim=-1)
            sums.append(nn.functional.nll_loss(logs, rows, reduction="sum"))
            if watch is not None:
                watch(begin, logs)
    return torch.stack(sums)


def prove(model: nn.Module) -> None:
    """Try once, on the dense model, whether slices of its logits are those of the whole.

    Where they are not, or where the family knows no slices, whole logits are made.
    """
    if model in _sliceable:
        return
    _sliceable[model] = False
    if _body(model) is None or _KEEP not in inspect.signature(model.forward).parameters:
        return
    tokens = torch.arange(_TRIAL_ROWS, device=next(model.parameters()).device)[None] % 16
    with torch.inference_mode(), _once(_body(model)) as calls:
        whole = model(input_ids=tokens).logits[0].float().nan_to_num()
        once = calls[0] == 1
        part = _kept(model, tokens, LEAST_ROWS, _TRIAL_ROWS).float().nan_to_num()
    near = whole[LEAST_ROWS:]
    _sliceable[model] = (
        once
        and part.shape == near.shape
        and torch.allclose(part, near, rtol=1e-2, atol=1e-3 * float(whole.abs().max()))
    )


@contextmanager
def _logits(model: nn.Module, tokens: Tensor) -> Iterator[Callable[[int, int], Tensor]]:
    """logits(begin, end) -> [end - begin, vocabulary] of these positions."""
    if not _sliceable.get(model):
        whole = model(input_ids=tokens).logits[0]
        yield lambda begin, end: whole[begin:end]
        return

    def part(begin: int, end: int) -> Tensor:
        first = max(0, min(begin, end - LEAST_ROWS))
        return _kept(model, tokens, first, end)[begin - first :]

    with _once(_body(model)):
        yield part


def _kept(model: nn.Module, tokens: Tensor, begin: int, end: int) -> Tensor:
    """Logits [end - begin, vocabulary] of these positions alone."""
    places = torch.arange(begin, end, device=tokens.device)
    return model(input_ids=tokens, **{_KEEP: places}).logits[0]


def _body(model: Any) -> Any:
    """What a causal model runs before its output head; None if it is not told apart."""
    body = getattr(model, "base_model", None)
    return None if body is model else body


@contextmanager
def _once(body: Any) -> Iterator[list[int]]:
    """The body runs at its first call only, and each later one answers what that answered.

    Yields how often it was called, in a list of one.
    """
    before, own = body.__dict__.get("forward"), body.forward
    answers: list[Any] = []
    calls = [0]

    def forward(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if not answers:
            answers.append(own(*args, **kwargs))
        return answers[0]

    body.forward = forward
    try:
        yield calls
    finally:
        body.__dict__.pop("forward", None)
        if before is not None:
            body.__dict__["forward"] = before
