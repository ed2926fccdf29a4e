"""Two rounds of an allocation: each group of each layer alone, then again around the solution.

Distances do not quite add up, and a layer misses other units where those before it are pruned too.
So what a solution really loses and reads is measured, a limit on either is moved by what it was
off, and the second round measures a step up and a step down of each share with all others as the
first round left them. The better of both is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from methods.group_sensitivity import smooth
from sweep.search.allocate.asked import STEP
from sweep.search.allocate.measured import Bench, Measured, changed, whole
from sweep.search.allocate.targets import Curves, Floats, Target, solve

NEAR = 0.01
"""How near to a limit, as a part of it, a solution has to be."""
TRIES = 4
LEAST = 0.02
"""No share is tried below it."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Solution:
    """The shares of one setting and target."""

    target: Target
    found: Measured
    first: Measured
    """The solution of the first round."""
    uniform: Measured
    """Equal shares of the same density."""


def first_round(bench: Bench, ladder: tuple[float, ...]) -> Curves:
    """Each group of each layer alone at each share, with all else dense."""
    dense = whole(bench.layers, len(bench.groups))
    cells = list(np.ndindex(*dense.shape, len(ladder)))
    tables = [changed(dense, layer, group, ladder[rung]) for layer, group, rung in cells]
    kl = np.zeros((*dense.shape, len(ladder)))
    missed = np.zeros((*dense.shape, len(ladder)))
    at_one, *measured = bench.measure([dense, *tables])
    for cell, of_cell in zip(cells, measured, strict=True):
        kl[cell] = of_cell.kl
        missed[cell] = of_cell.missed[cell[:2]]
    losses, shares = smooth(kl, ladder)
    known = np.concatenate([at_one.missed[..., None], missed, np.zeros((*dense.shape, 1))], axis=-1)
    return Curves(
        bench.groups,
        np.broadcast_to(shares, losses.shape),
        losses,
        _between(shares, np.array([1.0, *ladder, 0.0]), known),
    )


def _between(wanted: Floats, shares: Floats, known: Floats) -> Floats:
    """Values [..., options] at falling `wanted` shares, in proportion between known ones."""
    flat = known.reshape(-1, known.shape[-1])
    values = np.array([np.interp(wanted, shares[::-1], row[::-1]) for row in flat])
    return values.reshape(*known.shape[:-1], len(wanted))


def second_round(bench: Bench, around: Measured) -> Curves:
    """A step up and a step down of each share, with all others as they are."""
    up, down = (np.clip(around.table + step, LEAST, 1.0) for step in (STEP, -STEP))
    cells = list(np.ndindex(*around.table.shape))
    tables = [
        changed(around.table, layer, group, float(moved[layer, group]))
        for moved in (up, down)
        for layer, group in cells
    ]
    measured = bench.measure(tables)
    kl = np.full((*around.table.shape, 3), around.kl)
    missed = np.repeat(around.missed[..., None], 3, axis=-1)
    for option, of_option in ((0, measured[: len(cells)]), (2, measured[len(cells) :])):
        for cell, of_cell in zip(cells, of_option, strict=True):
            kl[(*cell, option)] = of_cell.kl
            missed[(*cell, option)] = of_cell.missed[cell]
    options = np.stack([up, around.table, down], axis=-1)
    steps = np.linspace(-1, 1, 9)
    losses = _parabolas(kl, steps)
    losses -= losses[..., :1]
    before = around.kl - float(losses[..., 4].sum())
    along = [_along(values, steps) for values in (options, missed)]
    return Curves(bench.groups, along[0], losses, along[1], before)


def _parabolas(values: Floats, steps: Floats) -> Floats:
    """Through three values [..., 3] at -1, 0 and 1, where they bend downwards straight lines."""
    first, middle, last = (values[..., i, None] for i in range(3))
    bend = np.maximum(0.0, (first + last) / 2 - middle)
    return middle + (last - first) / 2 * steps + bend * steps**2


def _along(values: Floats, steps: Floats) -> Floats:
    """Values [..., 3] at -1, 0 and 1, in proportion between them."""
    first, middle, last = (values[..., i, None] for i in range(3))
    return middle + np.where(steps < 0, (middle - first), (last - middle)) * steps


def allocate(bench: Bench, curves: Curves, target: Target, rounds: int, say: Say) -> Solution:
    """The shares that meet a target, from the curves of the first round on."""
    first = found = _met(bench, curves, target)
    say(f"{target.label}, round 1: {_figures(first)}")
    for number in range(2, rounds + 1):
        tried = _met(bench, second_round(bench, found), target)
        say(f"{target.label}, round {number}: {_figures(tried)}")
        if not _better(tried, found, target):
            break
        found = tried
    equal = np.full_like(found.table, _equal_share(curves, found.table))
    (uniform,) = bench.measure([equal])
    return Solution(target, found, first, uniform)


def _equal_share(curves: Curves, table: Floats) -> float:
    """The share of all groups with which they have as many weights as in a table."""
    return float((table * curves.weights).sum() / (curves.weights.sum() * len(table)))


def _met(bench: Bench, curves: Curves, target: Target) -> Measured:
    """The solution whose measured figure is nearest to the target, and not beyond it if any is."""
    asked, tries = target, []
    for _ in range(1 if target.kind == "density" else TRIES):
        (measured,) = bench.measure([solve(curves, asked)])
        off = figure(measured, target) / target.amount
        tries.append((off > 1 + 1e-9, abs(off - 1), len(tries), measured))
        if 1 - NEAR <= off <= 1:
            break
        asked = replace(asked, amount=asked.amount * (1 - NEAR / 2) / max(off, 0.1))
    return min(tries, key=lambda entry: entry[:3])[-1]


def figure(measured: Measured, target: Target) -> float:
    """What a target limits."""
    figures: dict[str, Any] = {"missed": measured.bytes, "kl": measured.kl}
    return float(figures.get(target.kind, target.amount))


def _better(tried: Measured, found: Measured, target: Target) -> bool:
    if target.kind == "kl":
        return tried.bytes < found.bytes
    return tried.kl < found.kl


def _figures(measured: Measured) -> str:
    return f"KL {measured.kl:.4f}, {measured.bytes / 1e6:.2f} MB missed a token"
