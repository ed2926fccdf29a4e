"""Shares of attention found on the calibration text, as those of the MLP are (`share_search`).

`greedy` splits the share of a layer over W_q, W_k, W_v and W_o by the error of the attention's
output; TEAL does so for all matrices of a block together, here attention and MLP have each a search
and a density of their own. `sensitivity` gives each layer's attention a share by the loss that it
causes alone, with the MLPs dense.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from methods import share_search, shares
from methods.attention import Attention, attending_one, attentions
from methods.density import ATTENTION
from methods.select import topk
from methods.training import Arrays, Lesson

if TYPE_CHECKING:
    from methods.attending import Attending

_PATH, _LOSS, _PARTS = "attention.path", "attention.loss", "attention.parts"

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""What an attention was called with."""


def train(
    model: nn.Module, method: Attending, lesson: Lesson, learnt: Arrays, wanted: str
) -> tuple[dict[str, Any], Arrays]:
    """What `wanted` of `shares.CALIBRATED` asks for, added to what is there: `attention.parts`
    [groups], `attention.path` [layers, steps, groups] and `attention.loss` [layers, rungs]."""
    kept = dict(learnt)
    views = attentions(model)
    weights = np.array([views[0].weights[group] for group in ATTENTION], dtype=np.float64)
    kept[_PARTS] = weights / weights.sum()
    if "greedy" in wanted:
        _add_paths(model, views, method, lesson, kept)
    if "sensitivity" in wanted:
        share_search.add_losses(
            _LOSS, model, lambda share: _in_attention(method, share), lesson, kept
        )
    halfway = np.array(table(wanted, 0.5, kept))
    summary = {"attention_shares_by_layer": np.broadcast_to(halfway, (len(views), 2)).tolist()}
    return summary, kept


def table(wanted: str, share: float, arrays: Mapping[str, NDArray[Any]]) -> shares.Table:
    """Shares of both groups by layer, with this mean over all weights of attention."""
    parts = arrays[_PARTS]
    if wanted in ("greedy", shares.TPE):
        more = share_search.more_by_layer(arrays, len(arrays[_PATH]))
        means = [share + of_layer for of_layer in more]
    else:
        means = share_search.by_losses(arrays[_LOSS], share)
    if wanted == "sensitivity":
        return tuple((mean, mean) for mean in means)
    paths = zip(arrays[_PATH], means, strict=True)
    return tuple(share_search.between(path, path @ parts, mean) for path, mean in paths)


def _in_attention(method: Attending, share: float) -> Attending:
    """The method with a share of attention alone, the MLPs dense."""
    dense = method.with_shares((1.0,) * len(method.mlp_groups))
    return dense.with_attention((share, share))


def _add_paths(
    model: nn.Module, views: Sequence[Attention], method: Attending, lesson: Lesson, kept: Arrays
) -> None:
    calls = dense_calls(model, views, lesson.windows)
    parts: dict[str, float] = dict(zip(ATTENTION, kept[_PARTS].tolist(), strict=True))

    def path(layer: int) -> NDArray[Any]:
        error = error_of(method.at(layer), views[layer], calls[layer])
        rows = np.array(share_search.greedy(ATTENTION, error, parts))
        halfway = share_search.between(rows, rows @ kept[_PARTS], 0.5)
        words = (f"{g} {share:.3f}" for g, share in zip(ATTENTION, halfway, strict=True))
        lesson.log(f"attention of layer {layer} at share 0.5: {', '.join(words)}")
        return rows

    share_search.add_by_layer(_PATH, [view.layer for view in views], lesson, kept, path)


def error_of(
    method: Attending, view: Attention, calls: Sequence[Call]
) -> Callable[[tuple[float, ...]], float]:
    """The error of an attention's output, as a norm over the last part of all calls, at shares of
    its two groups."""

    def outputs() -> Tensor:
        with torch.no_grad():
            whole = [view.module(*args, **kwargs)[0] for args, kwargs in calls]
        last = [out[:, -max(1, round(share_search.LAST * out.shape[1])) :] for out in whole]
        return torch.cat([out.double() for out in last], dim=1)

    dense = outputs()

    def error(row: tuple[float, ...]) -> float:
        with attending_one(view, method.with_attention(row), partial(topk, view.layer)):
            return float((outputs() - dense).norm())

    return error


def dense_calls(
    model: nn.Module, views: Sequence[Attention], windows: NDArray[np.int64]
) -> dict[int, list[Call]]:
    """What the attention of each layer is called with in the dense model."""
    calls: dict[int, list[Call]] = {view.layer: [] for view in views}
    with torch.no_grad(), _watched(views, calls):
        for window in windows[: share_search.count(windows, share_search.TOKENS)]:
            share_search.run(model, window)
    return calls


@contextmanager
def _watched(views: Sequence[Attention], calls: Mapping[int, list[Call]]) -> Iterator[None]:
    def keep(layer: int) -> Callable[..., None]:
        return lambda _module, args, kwargs: calls[layer].append((args, dict(kwargs)))

    hooks = [
        view.module.register_forward_pre_hook(keep(view.layer), with_kwargs=True) for view in views
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
