"""Bytes by kind of weight, cut groups of scales, KV caches by layer, DRAM of exactly the size."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest

from simulator import (
    FileBits,
    Geometry,
    KVLayers,
    SimulatorError,
    Storage,
    allocate,
    footprint,
    weight_bytes,
)

GROUPS = ("input", "intermediate")
TINY = Geometry("tiny", 3, 64, 160, 4, 2, 16, 264)


@pytest.mark.parametrize("name", Geometry.names())
@pytest.mark.parametrize("groups", [(), GROUPS, ("neuron",)])
def test_dram_of_exactly_the_size_of_the_model_holds_all_of_it(
    name: str, groups: tuple[str, ...]
) -> None:
    sizes = footprint(Geometry.load(name), groups)
    room = allocate(sizes, sizes.total_bytes / 1e9 * 1e9)
    assert room.fraction == 1
    assert room.excess_bytes == 0
    assert room.slots == {group: size.units for group, size in sizes.groups.items()}


@pytest.mark.parametrize("share", [0.1, 0.25, 0.3, 0.5, 0.7])
@pytest.mark.parametrize("name", Geometry.names())
def test_dram_of_exactly_a_share_of_the_units_holds_them(name: str, share: float) -> None:
    sizes = footprint(Geometry.load(name), GROUPS)
    units = sizes.groups["input"].units
    wanted = int(share * units)
    gb = (sizes.static_bytes + wanted / units * sizes.pruned_bytes) / 1e9
    assert allocate(sizes, gb * 1e9).slots["input"] == wanted


def test_dram_of_a_byte_less_holds_a_unit_less() -> None:
    sizes = footprint(Geometry.load("llama-2-7b"), GROUPS)
    room = allocate(sizes, sizes.total_bytes - 1)
    assert room.slots == {"input": 4095, "intermediate": 11007}


def test_a_group_that_the_end_of_a_row_cuts_has_a_scale_of_its_own() -> None:
    storage = Storage(bits=4, group_size=128)
    assert storage.linear_bytes(1, 576) == (576 * 4 + 5 * 16) / 8
    assert storage.linear_bytes(7, 512) == 7 * 512 * 4.125 / 8
    parts = weight_bytes(TINY, storage)
    assert parts["gate"] == parts["up"] == 3 * 160 * (64 * 4 + 16) / 8
    assert parts["down"] == 3 * 64 * (160 * 4 + 2 * 16) / 8
    rows_of_hidden = 64 + 2 * 32  # q, k and v; the rows of o are as long here
    assert parts["mixers"] == 3 * (rows_of_hidden + 64) * (64 * 4 + 16) / 8
    assert weight_bytes(TINY, Storage(group_size=0))["gate"] == 3 * 160 * 64 / 2


def test_units_share_the_bytes_of_their_matrices() -> None:
    sizes = footprint(TINY, GROUPS).groups
    assert sizes["input"].total_bytes == pytest.approx(2 * 3 * 160 * (64 * 4 + 16) / 8)
    assert sizes["intermediate"].total_bytes == pytest.approx(3 * 64 * (160 * 4 + 32) / 8)


def test_kinds_take_the_bits_of_the_file() -> None:
    file = FileBits(mixers=5.25, gate=5.5, up=4.5, down=6.5, embedding=8.5, head=16)
    parts = weight_bytes(TINY, Storage(file=file))
    one = 3 * 64 * 160 / 8
    assert parts == {
        "mixers": TINY.mixer_weights * 5.25 / 8,
        "gate": one * 5.5,
        "up": one * 4.5,
        "down": one * 6.5,
        "embedding": 264 * 64 * 8.5 / 8,
        "head": 264 * 64 * 2,
    }
    sizes = footprint(TINY, ("up-neuron",), Storage(file=file, kv_tokens=0))
    assert sizes.groups["up-neuron"].unit_bytes == 64 * (4.5 + 6.5) / 8
    assert sizes.total_bytes == pytest.approx(sum(parts.values()))
    assert Storage(file=file).bits_per_weight == 5.5


def test_layers_with_a_window_hold_no_more_than_it() -> None:
    kv = (KVLayers(15, 512, 512), KVLayers(3, 512))
    gemma = Geometry("gemma", 18, 640, 2048, 4, 1, 256, 262144, True, kv=kv)
    assert gemma.kv_bytes(Storage()) == 15 * 512 * 512 + 3 * 512 * 2048
    assert gemma.kv_bytes(Storage(kv_tokens=100)) == 18 * 512 * 100
    assert Geometry("x", 1, 8, 8, 1, 1, 8, 8, kv=()).kv_bytes(Storage()) == 0
    assert TINY.kv_bytes(Storage(kv_tokens=10)) == 3 * 2 * 2 * 16 * 10


def test_mixers_that_differ_have_an_exact_mean() -> None:
    mixed = Geometry("x", 3, 64, 160, 4, 2, 16, 264, mixers=((64, 704),))
    assert mixed.attention_weights == Fraction(64 * 704, 3)
    assert mixed.layers * mixed.attention_weights == 64 * 704
    assert isinstance(TINY.attention_weights, int)
    assert TINY.mixer_weights == 3 * 2 * 64 * 16 * 6


def test_a_geometry_survives_json() -> None:
    full = Geometry(
        "x", 3, 64, 160, 4, 2, 16, 264, True, ((64, 10), (128, 2)), (KVLayers(1, 64, 8),), 99
    )
    for one in (full, TINY, Geometry("x", 1, 8, 8, 1, 1, 8, 8, kv=())):
        assert Geometry.load(json.loads(json.dumps(one.to_mapping()))) == one
    assert set(TINY.to_mapping()) == {
        *("name", "layers", "hidden", "intermediate", "heads", "kv_heads", "head_dim"),
        *("vocabulary", "tied_embeddings"),
    }
    assert full.embedding_weights == 264 * 64 + 99
    assert TINY.is_plain
    assert not full.is_plain


def test_bits_below_zero_are_refused() -> None:
    with pytest.raises(SimulatorError, match="mixers"):
        FileBits(-1, 4, 4, 4, 4)
