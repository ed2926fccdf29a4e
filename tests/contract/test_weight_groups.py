"""The table of weight groups stands in two packages that may not import each other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from methods import density
from simulator.errors import SimulatorError
from simulator.experts import GROUP as EXPERT
from simulator.footprint import COVERS, GROUPS, footprint
from simulator.geometry import Geometry, Storage

GEOMETRY = Geometry("made up", 2, 24, 40, 4, 2, 6, 100)
BYTES = Storage(bits=8, group_size=0)  # a byte a weight


def test_both_have_the_same_table() -> None:
    of_dense = {group: covers for group, covers in COVERS.items() if group != EXPERT}
    assert list(density.COVERS.items()) == list(of_dense.items())
    assert (*density.MLP_SHARE, *density.ATTENTION, EXPERT) == GROUPS


@pytest.mark.parametrize("group", density.MLP_SHARE)
def test_the_share_of_a_group_is_its_share_of_the_bytes(group: str) -> None:
    size = footprint(GEOMETRY, [group], BYTES).groups[group]
    weights = size.total_bytes / size.layers
    assert weights / GEOMETRY.mlp_weights == pytest.approx(density.MLP_SHARE[group], abs=1e-15)


def test_groups_of_attention_are_its_matrices() -> None:
    """By hand: q is 24 x 24, k and v 12 x 24, o 24 x 24, a byte a weight."""
    sizes = footprint(GEOMETRY, density.ATTENTION, BYTES)
    assert (sizes.groups["attn-input"].units, sizes.groups["attn-output"].units) == (24, 24)
    assert sizes.groups["attn-input"].unit_bytes == 24 + 2 * 12
    assert sizes.groups["attn-output"].unit_bytes == 24
    dense = footprint(GEOMETRY, [], BYTES)
    assert sizes.total_bytes == pytest.approx(dense.total_bytes)
    assert GEOMETRY.attention_weights_of == {"attn-input": 48 * 24, "attn-output": 24 * 24}


def test_other_mixers_have_no_such_groups() -> None:
    other = replace(GEOMETRY, mixers=((24, 100),))
    with pytest.raises(SimulatorError, match="groups of attention have no bytes there"):
        footprint(other, ["attn-input"], BYTES)
    assert footprint(other, ["input"], BYTES).static_bytes > 0
