"""Order of units used together: equal to a plain loop, and good for what it is made for."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from simulator.coactive import coactive
from simulator.errors import SimulatorError

Bools = NDArray[np.bool_]


def plain(mask: Bools) -> list[int]:
    """The chain of nearest neighbours by a full table of distances."""
    units = mask.shape[1]
    apart = [[int((mask[:, i] != mask[:, j]).sum()) for j in range(units)] for i in range(units)]
    order = [max(range(units), key=lambda unit: (int(mask[:, unit].sum()), -unit))]
    left = set(range(units)) - set(order)
    while left:
        order.append(min(left, key=lambda unit: (apart[order[-1]][unit], unit)))
        left.remove(order[-1])
    return order


def runs(mask: Bools) -> float:
    padded = np.pad(mask, ((0, 0), (1, 0)))
    return float((padded[:, 1:] > padded[:, :-1]).sum(axis=1).mean())


@pytest.mark.parametrize("seed", range(40))
def test_it_is_the_chain_of_a_plain_loop(seed: int) -> None:
    draw = np.random.default_rng(seed)
    tokens, units = int(draw.integers(1, 150)), int(draw.integers(1, 40))
    mask = draw.random((tokens, units)) < draw.random()
    assert coactive([mask]).tolist() == plain(mask)
    cut = int(draw.integers(0, tokens)) if tokens > 1 else 0
    parts = [part for part in (mask[:cut], mask[cut:]) if len(part)]
    assert coactive(parts).tolist() == plain(mask)


def test_units_of_one_topic_come_together() -> None:
    """Topics strewn over the units: in order of use they stay strewn, in this order they do not."""
    draw = np.random.default_rng(0)
    topic_of = draw.permutation(np.repeat(np.arange(8), 16))
    topics = draw.integers(0, 8, 400)
    mask = (topic_of[None] == topics[:, None]) ^ (draw.random((400, 128)) < 0.02)
    by_use = np.argsort(-mask.sum(axis=0), kind="stable")
    assert runs(mask[:, coactive([mask])]) < 0.35 * runs(mask[:, by_use])


def test_every_unit_lies_once() -> None:
    mask = np.zeros((3, 70), np.bool_)
    assert coactive([mask]).tolist() == list(range(70))


@pytest.mark.parametrize(
    "masks", [[], [np.ones((2, 3), np.bool_), np.ones((2, 4), np.bool_)]], ids=["none", "unequal"]
)
def test_masks_that_make_no_order_are_refused(masks: list[Bools]) -> None:
    with pytest.raises(SimulatorError):
        coactive(masks)
