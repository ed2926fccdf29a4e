"""Route traces of others: which experts each token of a run used, as files, and as a `Trace`.

    trace = read_routes(path, "jsonl")      # then `simulate_trace`, `simulate_pool`, `event_counts`
    write_routes(trace, path, "jsonl")

`jsonl` has one JSON object a line, {"token": 0, "layer": 3, "experts": [5, 17]}; `step` is another
name of token, and `window` or `request` tells texts apart. `colibri` is the stream that colibrì's
engines write (`ROUTE_TRACE`): call, row, layer, then expert:gate. `moe-cache-eval` is a folder
with manifest.json and events.safetensors (arXiv 2608.07911); an event of several tokens counts as
one, of the union of their experts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from simulator.errors import SimulatorError, unknown
from simulator.experts import GROUP
from simulator.packing import pack, unpack
from simulator.trace import Trace

EVENTS = "events.safetensors"
MANIFEST = "manifest.json"
_SCHEMA = 1
_DTYPES: Mapping[str, str] = {
    "I16": "<i2",
    "I32": "<i4",
    "I64": "<i8",
    "U8": "u1",
    "F32": "<f4",
}


@dataclass(frozen=True, slots=True)
class Use:
    """Experts that one token uses in one layer; `window` and `token` count in order of the file."""

    window: Any
    token: Any
    layer: int
    experts: tuple[int, ...]


def read_routes(path: Path, form: str, experts: int | None = None) -> Trace:
    """The trace in a file of that form, with one group `expert`.

    Layers are those of the file, numbered from 0. `experts` is how many a layer has, where the file
    does not say; else as many as its largest number needs. Raises SimulatorError, with the line,
    for what is not of the form.
    """
    if form not in FORMS:
        raise unknown("form of route traces", form, FORMS)
    uses, said = FORMS[form](path)
    return _trace(path, uses, experts or said)


def write_routes(trace: Trace, path: Path, form: str) -> None:
    """Write a trace with a group `expert` as `jsonl` or `moe-cache-eval`."""
    if GROUP not in trace.units:
        raise SimulatorError(f"a trace of {', '.join(trace.units)} has no experts to be written")
    if form == "jsonl":
        _write_lines(trace, path)
    elif form == "moe-cache-eval":
        _write_events(trace, path)
    else:
        raise unknown("form to write route traces in", form, ("jsonl", "moe-cache-eval"))


def _trace(path: Path, uses: list[Use], experts: int | None) -> Trace:
    if not uses:
        raise SimulatorError(f"{path} has no routes")
    layers = {layer: i for i, layer in enumerate(sorted({use.layer for use in uses}))}
    most = max((max(use.experts) for use in uses if use.experts), default=0)
    units = experts or most + 1
    if most >= units:
        raise SimulatorError(f"{path} uses expert {most}; a layer has {units}, numbered from 0")
    tokens: dict[Any, dict[Any, int]] = {}
    for use in uses:
        of_window = tokens.setdefault(use.window, {})
        of_window.setdefault(use.token, len(of_window))
    lengths = [len(of_window) for of_window in tokens.values()]
    begins = dict(zip(tokens, np.cumsum([0, *lengths[:-1]]).tolist(), strict=True))
    masks = np.zeros((len(layers), sum(lengths), units), np.bool_)
    for use in uses:
        row = begins[use.window] + tokens[use.window][use.token]
        masks[layers[use.layer], row, list(use.experts)] = True
    packed = np.stack([pack(layer) for layer in masks])
    return Trace({GROUP: units}, len(layers), tuple(lengths), {GROUP: packed})


# -- one JSON object a line ------------------------------------------------------------------


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """(place for an error, text) of each line that is not empty."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SimulatorError(f"{path} cannot be read: {error}") from error
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield f"{path}:{number}", line


def _read_lines(path: Path) -> tuple[list[Use], int | None]:
    return [_use_of(place, line) for place, line in _lines(path)], None


def _use_of(place: str, line: str) -> Use:
    try:
        entry = json.loads(line)
    except ValueError:
        raise SimulatorError(f"{place}: no JSON") from None
    if not isinstance(entry, dict):
        raise SimulatorError(f"{place}: a JSON object is expected")
    fields = cast("dict[str, Any]", entry)
    experts = fields.get("experts")
    if not isinstance(experts, list):
        raise SimulatorError(f"{place}: 'experts' must be a list of numbers")
    numbers = cast("list[Any]", experts)
    token = fields.get("token", fields.get("step"))
    window = fields.get("window", fields.get("request", 0))
    return Use(
        window,
        _number(place, "token", token),
        _number(place, "layer", fields.get("layer")),
        tuple(_number(place, "experts", expert) for expert in numbers),
    )


def _number(place: str, name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise SimulatorError(f"{place}: {name!r} is {value!r}; a whole number from 0 is expected")
    return value


def _write_lines(trace: Trace, path: Path) -> None:
    units = trace.units[GROUP]
    masks = [unpack(trace.masks(GROUP, layer), units) for layer in range(trace.layers)]
    begin = 0
    with path.open("w", encoding="utf-8") as file:
        for window, length in enumerate(trace.lengths):
            for token in range(length):
                for layer in range(trace.layers):
                    experts = np.flatnonzero(masks[layer][begin + token]).tolist()
                    use = {"window": window, "token": token, "layer": layer, "experts": experts}
                    file.write(json.dumps(use) + "\n")
            begin += length


# -- the stream of colibrì -------------------------------------------------------------------


def _read_colibri(path: Path) -> tuple[list[Use], int | None]:
    """A call is one layer of one forward pass; a pass begins where the layer does not go on."""
    uses: list[Use] = []
    base, rows, before = 0, 0, (-1, -1)  # first token of the pass, its tokens, last (call, layer)
    for place, line in _lines(path):
        call, row, layer, experts = _stream_line(place, line)
        if call != before[0] and layer <= before[1]:
            base, rows = base + rows, 0
        before = (call, layer)
        rows = max(rows, row + 1)
        uses.append(Use(0, base + row, layer, experts))
    return uses, None


def _stream_line(place: str, line: str) -> tuple[int, int, int, tuple[int, ...]]:
    parts = line.split()
    try:
        call, row, layer = (int(part) for part in parts[:3])
        experts = tuple(int(part.partition(":")[0]) for part in parts[3:])
    except ValueError:
        raise SimulatorError(f"{place}: call, row, layer and expert:gate are expected") from None
    for name, value in zip(("call", "row", "layer"), (call, row, layer), strict=True):
        _number(place, name, value)
    return call, row, layer, tuple(_number(place, "experts", expert) for expert in experts)


# -- moe-cache-eval --------------------------------------------------------------------------


def _read_events(path: Path) -> tuple[list[Use], int | None]:
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        version = int(manifest["schema_version"])
        count, name = int(manifest["model"]["num_experts"]), manifest["artifacts"]["events"]
        tensors = _read_tensors(path / name["path"], str(name["sha256"]))
        offsets, experts = tensors["offsets"], tensors["expert_ids"]
        columns = [tensors[n] for n in ("request_indices", "scheduler_steps", "forward_cycles")]
        layers = tensors["layer_ids"]
    except SimulatorError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SimulatorError(f"{path} is no event trace of moe-cache-eval: {error}") from error
    if version != _SCHEMA:
        raise SimulatorError(f"{path}: schema {version} of moe-cache-eval; {_SCHEMA} can be read")
    lengths = {len(column) for column in (*columns, layers)} | {len(offsets) - 1}
    if len(lengths) != 1 or (np.diff(offsets) < 0).any() or offsets[-1] != len(experts):
        raise SimulatorError(f"{path}: its arrays differ in length")
    requests, steps, cycles = (column.tolist() for column in columns)
    uses = [
        Use(requests[i], (steps[i], cycles[i]), layer, tuple(experts[begin:end].tolist()))
        for i, (layer, begin, end) in enumerate(
            zip(layers.tolist(), offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
        )
    ]
    return uses, count


def _read_tensors(path: Path, sha256: str) -> dict[str, NDArray[Any]]:
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise SimulatorError(f"{path}: the checksum differs from that of {MANIFEST}")
    size = int.from_bytes(content[:8], "little")
    head = json.loads(content[8 : 8 + size])
    tensors: dict[str, NDArray[Any]] = {}
    for name, about in head.items():
        if name != "__metadata__":
            begin, end = about["data_offsets"]
            data = content[8 + size + begin : 8 + size + end]
            tensors[name] = np.frombuffer(data, _DTYPES[about["dtype"]]).reshape(about["shape"])
    return tensors


def _write_events(trace: Trace, path: Path) -> None:
    """Every token is an event of its own in each layer; gates, which a trace has not, are 0."""
    units = trace.units[GROUP]
    masks = np.stack([unpack(trace.masks(GROUP, i), units) for i in range(trace.layers)], axis=1)
    used = masks.reshape(-1, units)  # [tokens * layers, experts]
    counts = used.sum(axis=1, dtype=np.int64)
    windows = np.repeat(np.arange(len(trace.lengths)), trace.lengths)
    steps = np.repeat(np.arange(trace.tokens), trace.layers)
    experts = np.nonzero(used)[1]
    arrays: dict[str, tuple[str, NDArray[Any]]] = {
        "request_indices": ("I32", np.repeat(windows, trace.layers)),
        "scheduler_steps": ("I32", steps),
        "forward_cycles": ("I32", steps),
        "phases": ("U8", np.ones(len(steps), np.uint8)),
        "layer_ids": ("I16", np.tile(np.arange(trace.layers), trace.tokens)),
        "token_counts": ("I32", np.ones(len(steps), np.int64)),
        "offsets": ("I64", np.concatenate([[0], np.cumsum(counts)])),
        "expert_ids": ("I16", experts),
        "assignment_counts": ("I32", np.ones(len(experts), np.int64)),
        "gate_mass": ("F32", np.zeros(len(experts), np.float32)),
    }
    path.mkdir(parents=True, exist_ok=True)
    content = _tensor_file(arrays)
    (path / EVENTS).write_bytes(content)
    model = {"num_layers": trace.layers, "num_experts": units, "top_k": int(counts.max())}
    events = {
        "path": EVENTS,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
    }
    manifest: dict[str, Any] = {
        "schema_version": _SCHEMA,
        "kind": "decode_event_trace",
        "status": "complete",
        "model": model,
        "counts": {"events": len(steps), "expert_accesses": len(experts)},
        "artifacts": {"events": events},
    }
    (path / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _tensor_file(arrays: Mapping[str, tuple[str, NDArray[Any]]]) -> bytes:
    head: dict[str, Any] = {
        "__metadata__": {"schema": "moe-controller-events", "schema_version": str(_SCHEMA)}
    }
    parts, place = list[bytes](), 0
    for name, (kind, array) in sorted(arrays.items(), key=lambda item: item[1][0]):
        data = array.astype(_DTYPES[kind]).tobytes()
        data_offsets = [place, place + len(data)]
        head[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": data_offsets}
        parts.append(data)
        place += len(data)
    written = json.dumps(head).encode()
    written += b" " * (-len(written) % 8)
    return b"".join([len(written).to_bytes(8, "little"), written, *parts])


FORMS: Mapping[str, Callable[[Path], tuple[list[Use], int | None]]] = {
    "jsonl": _read_lines,
    "colibri": _read_colibri,
    "moe-cache-eval": _read_events,
}
"""Readers by the name of the form: uses in order, and experts of a layer where it says so."""
