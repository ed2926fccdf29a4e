"""Traces in memory and in files, and whole traces through the caches."""

from __future__ import annotations

import json
import pickle
import re
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import simulator
from simulator import SimulatorError, Trace, TraceFile, TraceWriter, policies
from tests.simulator.cases import many

UNITS = {"input": 70, "intermediate": 130}
LAYERS, LENGTHS = 3, (8, 5, 11)
SLOTS = {"input": 25, "intermediate": 60}


def masks_of(group: str, layer: int, window: int) -> NDArray[np.bool_]:
    rng = np.random.default_rng([len(group), layer, window])
    return rng.random((LENGTHS[window], UNITS[group])) < rng.random(UNITS[group])


@pytest.fixture(scope="module")
def trace() -> Trace:
    trace = Trace.empty(UNITS, LAYERS, LENGTHS)
    for group in UNITS:
        for layer in range(LAYERS):
            for window in range(len(LENGTHS)):
                trace.add(layer, group, masks_of(group, layer, window), window)
    return trace


@pytest.fixture(scope="module")
def start() -> dict[str, NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    return {g: np.stack([rng.permutation(n) for _ in range(LAYERS)]) for g, n in UNITS.items()}


@pytest.fixture
def path(trace: Trace, tmp_path: Path) -> Path:
    simulator.write_trace(trace, tmp_path / "a.trace", {"model": "made up"})
    return tmp_path / "a.trace"


@given(st.integers(1, 200), st.integers(0, 9), st.integers(0, 2**32 - 1))
@many(300)
def test_pack_and_unpack(units: int, tokens: int, seed: int) -> None:
    masks = np.random.default_rng(seed).random((tokens, units)) < 0.5
    packed = simulator.pack(masks)
    assert packed.shape == (tokens, -(-units // 64))
    np.testing.assert_array_equal(simulator.unpack(packed, units), masks)
    for token, unit in np.argwhere(masks):
        assert packed[token, unit // 64] >> np.uint64(unit % 64) & np.uint64(1)


def test_a_trace_holds_what_was_added(trace: Trace) -> None:
    for group, layer, window, packed in trace.blocks():
        found = simulator.unpack(packed, UNITS[group])
        np.testing.assert_array_equal(found, masks_of(group, layer, window))
    assert trace.tokens == sum(LENGTHS)
    assert trace.nbytes == sum(LENGTHS) * LAYERS * (2 + 3) * 8
    again = pickle.loads(pickle.dumps(trace))
    assert again == trace


def test_a_trace_refuses_what_does_not_fit(trace: Trace) -> None:
    wrong = np.zeros((LENGTHS[0], 70), dtype=bool)
    with pytest.raises(SimulatorError, match="the trace has 5 tokens of 70 units there"):
        trace.add(0, "input", wrong, 1)
    with pytest.raises(SimulatorError, match="unknown group of the trace 'inputs'"):
        trace.masks("inputs", 0, 0)
    with pytest.raises(SimulatorError, match="layer is 3; it must be between 0 and 2"):
        trace.masks("input", 3, 0)
    with pytest.raises(SimulatorError, match="window is 3"):
        trace.masks("input", 0, 3)


@pytest.mark.parametrize(
    ("policy", "hot"),
    [
        *((policy, hot) for policy in ("none", "lru", "lfu", "belady", "min") for hot in (0, 1)),
        ("static", 1),
    ],
)
@pytest.mark.parametrize("scope", ["window", "carry"])
def test_a_simulated_trace_is_the_reference_layer_by_layer(
    trace: Trace, start: dict[str, NDArray[np.int64]], policy: str, scope: str, hot: int
) -> None:
    counts = simulator.simulate_trace(trace, policy, SLOTS, scope, start if hot else None)
    for group in UNITS:
        used, missed = [], []
        for layer in range(LAYERS):
            windows = [masks_of(group, layer, w) for w in range(len(LENGTHS))]
            if scope == "carry":
                windows = [np.concatenate(windows)]
            order = start[group][layer].tolist() if hot else None
            hits = [policies.simulate_plainly(w, SLOTS[group], policy, order) for w in windows]
            used.append(np.concatenate(windows).sum(axis=1))
            missed.append(used[-1] - np.concatenate(hits))
            assert counts[group].hits_by_layer[layer] == np.concatenate(hits).sum()
            assert counts[group].used_by_layer[layer] == used[-1].sum()
        assert counts[group].phases == simulator.phase_counts(used, missed)


@pytest.mark.parametrize("policy", ["lru", "lfu", "belady", "min"])
@pytest.mark.parametrize("scope", ["window", "carry"])
def test_threads_and_files_change_nothing(
    trace: Trace, path: Path, policy: str, scope: str
) -> None:
    expected = simulator.simulate_trace(trace, policy, SLOTS, scope)
    with TraceFile(path) as file:
        for source, threads in ((trace, 3), (file, 1), (file, 3)):
            found = simulator.simulate_trace(source, policy, SLOTS, scope, threads=threads)
            for group in UNITS:
                assert found[group].phases == expected[group].phases
                assert (found[group].hits_by_layer == expected[group].hits_by_layer).all()


def test_curves_over_all_capacities(trace: Trace) -> None:
    for scope in ("window", "carry"):
        curve = simulator.trace_curve(trace, "input", scope=scope)
        for slots in (0, 10, 70):
            found = simulator.simulate_trace(trace, "lru", {**SLOTS, "input": slots}, scope)
            assert curve[slots] == found["input"].hits_by_layer.sum()


def test_simulating_refuses_what_does_not_fit(trace: Trace) -> None:
    with pytest.raises(SimulatorError, match="unknown cache scope 'windows'"):
        simulator.simulate_trace(trace, "lru", SLOTS, "windows")
    with pytest.raises(SimulatorError, match="slots lack the group 'intermediate'"):
        simulator.simulate_trace(trace, "lru", {"input": 3})
    starts = {"input": np.arange(70), "intermediate": np.zeros((3, 130), int)}
    with pytest.raises(SimulatorError, match="start of group 'input' has shape"):
        simulator.simulate_trace(trace, "lru", SLOTS, start=starts)


def test_a_file_holds_the_trace(trace: Trace, path: Path) -> None:
    assert simulator.read_trace(path) == trace
    with TraceFile(path) as file:
        assert file.about == {"model": "made up"}
        assert (file.units, file.layers, file.lengths) == (UNITS, LAYERS, LENGTHS)
        assert file.tokens == trace.tokens
        for window in (None, 0, 2):
            found = file.masks("intermediate", 2, window)
            np.testing.assert_array_equal(found, trace.masks("intermediate", 2, window))


def test_blocks_may_come_in_any_order(trace: Trace, tmp_path: Path) -> None:
    blocks = list(trace.blocks())
    with TraceWriter(tmp_path / "b.trace", UNITS, LAYERS) as writer:
        for place in np.random.default_rng(0).permutation(len(blocks)):
            group, layer, window, packed = blocks[place]
            writer.add(layer, group, packed, window)
    assert simulator.read_trace(tmp_path / "b.trace") == trace


def test_every_single_byte_that_is_altered_is_found(tmp_path: Path) -> None:
    """One bit of each byte in turn: header, heads, masks, checksums, end."""
    path, small = tmp_path / "small.trace", Trace.empty({"input": 3, "neuron": 70}, 1, [2, 1])
    simulator.write_trace(small, path)
    good = path.read_bytes()
    for place in range(len(good)):
        altered = bytearray(good)
        altered[place] ^= 1 << (place % 8)
        path.write_bytes(altered)
        with pytest.raises(SimulatorError, match="trace file"):
            simulator.read_trace(path)


def test_every_truncation_is_found(path: Path) -> None:
    good = path.read_bytes()
    for length in [*range(400), *range(400, len(good), 37), len(good) - 1]:
        path.write_bytes(good[:length])
        with pytest.raises(SimulatorError, match="trace file"):
            simulator.read_trace(path)
    path.write_bytes(good + b"\0")
    with pytest.raises(SimulatorError, match="damaged"):
        simulator.read_trace(path)


def test_a_file_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match="does not exist"):
        simulator.read_trace(tmp_path / "no.trace")


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([(0, 0, 0)], "has 1 blocks; 1 windows, 3 layers and 2 groups"),
        ([(0, 0, 0), (0, 0, 0)], "written twice"),
        ([(0, 0, 0), (1, 1, 0)], "come once, with the 8 tokens of the window"),
    ],
)
def test_an_unfinished_file_does_not_appear(
    trace: Trace, tmp_path: Path, blocks: list[tuple[int, int, int]], message: str
) -> None:
    """Blocks are (layer, window whose masks are written, window they are written as)."""

    def write() -> None:
        with TraceWriter(tmp_path / "c.trace", UNITS, LAYERS) as writer:
            for layer, window, claimed in blocks:
                writer.add(layer, "input", trace.masks("input", layer, window), claimed)

    with pytest.raises(SimulatorError, match=message):
        write()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scope", ["window", "carry"])
def test_memory_does_not_grow_with_the_tokens(tmp_path: Path, scope: str) -> None:
    """Ten times the windows, the same peak: traces are written and simulated as a stream."""
    peaks = []
    for windows in (4, 40):
        path, rng = tmp_path / f"{windows}.trace", np.random.default_rng(0)
        tracemalloc.start()
        with TraceWriter(path, {"input": 640}, 1) as writer:
            for window in range(windows):
                writer.add(0, "input", rng.random((256, 640)) < 0.5, window)
        with TraceFile(path) as file:
            simulator.simulate_trace(file, "lfu", {"input": 200}, scope)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    masks = 36 * 256 * 640 / 8
    assert peaks[1] - peaks[0] < 0.75 * masks


# -- files of other writers, whose checksums are right ----------------------------------------


def by_hand(path: Path, header: object, blocks: list[tuple[int, int, int, list[int]]]) -> Path:
    """A file as the page of the format tells it, whatever it says."""
    text = json.dumps(header).encode()
    data = b"FSTRACE1" + struct.pack("<II", len(text), zlib.crc32(text)) + text
    chain = 0
    for group, layer, window, rows in blocks:
        masks = b"".join(row.to_bytes(8, "little") for row in rows)
        head = struct.pack("<HHII", group, layer, window, len(rows))
        crc = struct.pack("<I", zlib.crc32(masks, zlib.crc32(head)))
        chain = zlib.crc32(crc, chain)
        data += head + crc + masks
    end = struct.pack("<HHII", 65535, 65535, len({b[2] for b in blocks}), len(blocks))
    path.write_bytes(data + end + struct.pack("<I", zlib.crc32(end, chain)))
    return path


GOOD = {"groups": [{"name": "g", "units": 5}], "layers": 2, "about": {}}
BOTH: list[tuple[int, int, int, list[int]]] = [(0, 0, 0, [1]), (0, 1, 0, [1])]
TWICE = [{"name": "g", "units": 5}, {"name": "g", "units": 5}]


@pytest.mark.parametrize(
    ("header", "blocks", "message"),
    [
        ([GOOD], BOTH, "no JSON object"),
        ({"layers": 2, "about": {}}, BOTH, "no list of groups"),
        ({**GOOD, "groups": []}, BOTH, "no list of groups"),
        ({**GOOD, "groups": [["g", 5]]}, BOTH, "no name of its own"),
        ({**GOOD, "groups": [{"name": "g", "units": "5"}]}, BOTH, "no name of its own"),
        ({**GOOD, "groups": [{"name": "g", "units": 0}]}, BOTH, "no name of its own"),
        ({**GOOD, "groups": [{"name": "g", "units": True}]}, BOTH, "no name of its own"),
        ({**GOOD, "groups": [{"name": 3, "units": 5}]}, BOTH, "no name of its own"),
        ({**GOOD, "groups": TWICE}, BOTH, "no name of its own"),
        ({**GOOD, "layers": "2"}, BOTH, "layers is"),
        ({**GOOD, "layers": None}, BOTH, "layers is null"),
        ({**GOOD, "layers": 70_000}, BOTH, "layers is 70000"),
        (GOOD, BOTH[:1], "window 0 of group 'g', layer 1 is missing"),
        (GOOD, [*BOTH, BOTH[0]], "is there twice"),
        (GOOD, [(0, 0, 0, [1]), (0, 1, 0, [1, 2])], "has 2 tokens, other blocks of the window 1"),
        (GOOD, [(0, 0, 0, []), (0, 1, 0, [])], "has no tokens"),
        (GOOD, [(0, 0, 1, [1]), (0, 1, 1, [1])], "counted from 0, one is 1"),
        (GOOD, [], "it has no windows"),
    ],
)
def test_what_another_writer_gets_wrong_is_one_sentence(
    tmp_path: Path, header: object, blocks: list[Any], message: str
) -> None:
    path = by_hand(tmp_path / "t.trace", header, blocks)
    with pytest.raises(SimulatorError, match=re.escape(message)) as caught:
        TraceFile(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("about", [None, "words", [1]])
def test_what_a_trace_is_about_is_free(tmp_path: Path, about: object) -> None:
    header = {k: v for k, v in GOOD.items() if k != "about"} | ({"about": about} if about else {})
    with TraceFile(by_hand(tmp_path / "t.trace", header, BOTH)) as file:
        assert file.about == {}
        assert file.load().tokens == 1
