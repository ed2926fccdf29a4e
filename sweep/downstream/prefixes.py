"""Which beginnings of token sequences to compute once for all that share them.

A beginning is cut only where attention over a part of a sequence gives the bits that attention over
the whole gives (`exact_cut`), so that sharing changes no result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

CHUNK = 64
"""A beginning is a multiple of this: vector instructions then see whole vectors."""
KEYS = 512
"""Keys that the CPU kernel of attention takes at a time."""
WHOLE, HALF = 384, 192
"""Up to `WHOLE` keys are summed in one go, more of them in two halves: `HALF` or more each."""


@dataclass(frozen=True, slots=True)
class Item:
    """A sequence, by its place in a list, and how many of its tokens may come from elsewhere."""

    index: int
    tokens: tuple[int, ...]
    free: int


@dataclass(slots=True)
class Node:
    """A beginning of `end` tokens: what continues it further, and what ends the sharing here."""

    end: int
    tokens: tuple[int, ...] = ()
    """All of the beginning."""
    children: list[Node] = field(default_factory=list)
    leaves: list[Item] = field(default_factory=list)


def exact_cut(cut: int, total: int) -> bool:
    """Whether rows before `cut` are the same bits in sequences of `cut` and of `total` tokens.

    Of the last block of keys that rows before the cut see, the two have different numbers: sums are
    equal if neither is halved, if the second half begins after the cut, or if the block is full.
    """
    if cut % CHUNK:
        return False
    before = (cut - 1) // KEYS * KEYS
    seen, keys = cut - before, min(KEYS, total - before)
    return keys <= WHOLE or seen <= HALF or seen == KEYS or (seen == KEYS // 2 and keys >= KEYS - 1)


def share(items: Sequence[Item]) -> Node:
    """The tree of beginnings to compute, its root the empty one; every item is a leaf once."""
    root = Node(0)
    _grow(root, sorted(items, key=lambda item: item.tokens))
    return root


def _grow(node: Node, items: list[Item]) -> None:
    """Put items, which all begin with the node's tokens and are sorted, below it."""
    if len(items) < 2:
        node.leaves += items
        return
    cut, members = _best_cut(node.end, items)
    if members:
        child = Node(cut, members[0].tokens[:cut])
        node.children.append(child)
        _grow(child, members)
        inside = {item.index for item in members}
        _grow(node, [item for item in items if item.index not in inside])
        return
    groups = list(_by_next_chunk(node.end, items))
    for group in groups:
        if len(groups) == 1 or len(group) == 1:
            node.leaves += group
        else:
            _grow(node, group)


def _best_cut(begin: int, items: list[Item]) -> tuple[int, list[Item]]:
    """The cut of what all items share that saves most, and the items that may use it."""
    shared = _shared(items[0].tokens, items[-1].tokens)
    best: tuple[int, list[Item]] = (0, [])
    saved = 0
    for cut in range(begin - begin % CHUNK + CHUNK, shared + 1, CHUNK):
        members = [i for i in items if i.free >= cut and exact_cut(cut, len(i.tokens))]
        gain = (len(members) - 1) * (cut - begin)
        if gain >= saved and gain > 0:
            best, saved = (cut, members), gain
    return best


def _shared(first: Sequence[int], last: Sequence[int]) -> int:
    """Tokens with which both begin; of sorted sequences, those between begin with them too."""
    both = zip(first, last, strict=False)
    return next((i for i, (a, b) in enumerate(both) if a != b), min(len(first), len(last)))


def _by_next_chunk(begin: int, items: list[Item]) -> Iterator[list[Item]]:
    def chunk(item: Item) -> tuple[int, ...]:
        return item.tokens[begin : begin + CHUNK]

    return (list(group) for _, group in groupby(items, key=chunk))
