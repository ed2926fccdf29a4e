"""Common beginnings: who shares what, and where a beginning may be cut."""

from __future__ import annotations

import numpy as np
import pytest

from sweep.downstream.prefixes import CHUNK, Item, Node, exact_cut, share


def items(sequences: list[list[int]]) -> list[Item]:
    return [Item(i, tuple(s), len(s) - 16) for i, s in enumerate(sequences)]


def leaves(node: Node) -> list[tuple[Item, Node]]:
    own = [(item, node) for item in node.leaves]
    return own + [found for child in node.children for found in leaves(child)]


def nodes(node: Node) -> list[Node]:
    return [node, *(inner for child in node.children for inner in nodes(child))]


def test_what_all_share_is_computed_once():
    shots = list(range(130))
    root = share(items([[*shots, *range(1000 + 50 * i, 1050 + 50 * i)] for i in range(4)]))
    assert root.leaves == []
    (child,) = root.children
    assert (child.end, len(child.leaves), child.children) == (128, 4, [])


def test_a_deeper_beginning_of_some_is_found_below_that_of_all():
    shots, question = list(range(70)), list(range(500, 600))
    sequences = [[*shots, *question, *range(900 + 30 * i, 930 + 30 * i)] for i in range(3)]
    sequences.append([*shots, *range(700, 800)])
    root = share(items(sequences))
    assert {node.end for node in nodes(root)} == {0, 64, 128}


@pytest.mark.parametrize("seed", range(5))
def test_every_item_is_a_leaf_once_and_begins_as_its_node_does(seed: int):
    rng = np.random.default_rng(seed)
    beginnings = [rng.integers(0, 9, size=int(rng.integers(1, 500))).tolist() for _ in range(3)]
    sequences = []
    for _ in range(30):
        beginning = beginnings[int(rng.integers(3))]
        sequences.append(
            beginning[: int(rng.integers(1, len(beginning) + 1))]
            + rng.integers(0, 9, size=int(rng.integers(1, 150))).tolist()
        )
    found = leaves(share(items(sequences)))
    assert sorted(item.index for item, _ in found) == list(range(30))
    for item, node in found:
        assert node.tokens == item.tokens[: node.end]
        assert node.end % CHUNK == 0
        assert node.end <= max(0, item.free)
        assert node.end == 0 or exact_cut(node.end, len(item.tokens))


def test_nothing_is_shared_where_nothing_may_come_from_elsewhere():
    tokens = tuple(range(200))
    root = share([Item(0, tokens, 0), Item(1, tokens, 0)])
    assert (len(root.leaves), root.children) == (2, [])


@pytest.mark.parametrize(
    ("cut", "total", "exact"),
    [
        (64, 400, True),
        (192, 450, True),
        (256, 384, True),  # neither is halved
        (256, 400, False),  # the whole has halves of 200
        (256, 511, True),  # its halves end where the cut is
        (320, 384, True),
        (320, 385, False),
        (512, 900, True),
        (704, 1000, True),
        (832, 1000, False),
        (65, 400, False),
    ],
)
def test_where_a_cut_changes_no_bit(cut: int, total: int, exact: bool):
    assert exact_cut(cut, total) is exact
