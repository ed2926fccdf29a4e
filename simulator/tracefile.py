"""Traces as files: bit-packed, checksummed, written and read as a stream (docs/trace-format.md)."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NoReturn, Self, TypeGuard, cast

import numpy as np
from numpy.typing import NDArray

from simulator.arguments import whole
from simulator.errors import SimulatorError, unknown
from simulator.packing import check_packed, pack, words_for
from simulator.trace import Trace

MAGIC = b"FSTRACE1"
_HEAD = struct.Struct("<II")  # length and CRC-32 of the header
_BLOCK = struct.Struct("<HHII")  # group, layer, window, tokens; then a CRC-32
_CRC = struct.Struct("<I")
_END = 0xFFFF  # group and layer of the last record


class TraceWriter:
    """Writes a trace block by block, in any order; the file appears when all is written.

    Use as a context manager: on leaving it, the file is completed and renamed from a temporary
    name, or removed after an error. Memory does not grow with the number of tokens.
    """

    def __init__(
        self,
        path: str | Path,
        units: Mapping[str, int],
        layers: int,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.path, self.units = Path(path), dict(units)
        self.layers = whole("layers", layers, 1, _END - 1)
        self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        self._lengths: dict[int, int] = {}
        self._written: set[tuple[str, int, int]] = set()
        self._chain = 0
        groups = [{"name": n, "units": whole("units", u, 1)} for n, u in self.units.items()]
        header = {"groups": groups, "layers": layers, "about": dict(about or {})}
        text = json.dumps(header, sort_keys=True).encode()
        self._file: BinaryIO = self._temporary.open("wb")
        self._file.write(MAGIC + _HEAD.pack(len(text), zlib.crc32(text)) + text)

    def add(self, layer: int, group: str, masks: NDArray[Any], window: int) -> None:
        """Append the masks of one window: bool `[tokens, units]`, or packed uint64."""
        if group not in self.units:
            raise unknown("group of the trace", group, self.units)
        units, masks = self.units[group], np.asarray(masks)
        if masks.dtype == np.bool_ and masks.shape[-1:] != (units,):
            raise SimulatorError(f"masks have shape {masks.shape}; {group!r} has {units} units")
        words = pack(masks) if masks.dtype == np.bool_ else check_packed(masks, units)
        window = whole("window", window, 0, 2**32 - 2)
        key = (group, whole("layer", layer, 0, self.layers - 1), window)
        length = self._lengths.setdefault(window, len(words))
        if words.ndim != 2 or not len(words) or length != len(words) or key in self._written:
            raise SimulatorError(
                f"window {window} of group {group!r}, layer {layer} has {len(words)} tokens or is "
                f"written twice; it must come once, with the {length} tokens of the window"
            )
        self._written.add(key)
        self._record(list(self.units).index(group), layer, window, words.astype("<u8").tobytes())

    def _record(self, group: int, layer: int, window: int, payload: bytes) -> None:
        tokens = len(payload) // (8 * words_for(list(self.units.values())[group]))
        head = _BLOCK.pack(group, layer, window, tokens)
        crc = zlib.crc32(payload, zlib.crc32(head))
        self._chain = zlib.crc32(_CRC.pack(crc), self._chain)
        self._file.write(head + _CRC.pack(crc) + payload)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._file.close()
            self._temporary.unlink(missing_ok=True)

    def _finish(self) -> None:
        windows = len(self._lengths)
        expected = windows * self.layers * len(self.units)
        if len(self._written) != expected or any(w >= windows for w in self._lengths):
            raise SimulatorError(
                f"the trace has {len(self._written)} blocks; {windows} windows, {self.layers} "
                f"layers and {len(self.units)} groups make {expected}, windows counted from 0"
            )
        head = _BLOCK.pack(_END, _END, windows, expected)
        self._file.write(head + _CRC.pack(zlib.crc32(head, self._chain)))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._temporary.rename(self.path)


def _block_head(record: bytes) -> tuple[int, int, int, int]:
    """Group, layer, window and tokens of a block."""
    return _BLOCK.unpack_from(record)


class TraceFile:
    """A trace on disk; every block is read and checked when it is asked for.

    Opening it reads the header and finds the blocks; a file that is cut short, altered or no trace
    at all raises SimulatorError, here or when the damaged block is read. Has the interface of
    `Trace`: `units`, `layers`, `lengths`, `tokens` and `masks`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise SimulatorError(f"trace file {str(path)!r} does not exist")
        try:
            self._file = self.path.open("rb")
        except OSError as error:
            raise SimulatorError(f"trace file {str(path)!r}: {error.strerror}") from None
        try:
            header = self._header()
            self.units, self.layers = self._groups(header), self._layers(header)
            about = header.get("about")
            self.about: dict[str, Any] = about if isinstance(about, dict) else {}
            self._places: dict[tuple[str, int, int], tuple[int, int]] = {}
            self.lengths = self._index()
        except BaseException:
            self._file.close()
            raise

    def masks(self, group: str, layer: int, window: int | None = None) -> NDArray[np.uint64]:
        """Packed masks `[tokens, words]` of one window, or of all, one after the other."""
        if group not in self.units:
            raise unknown("group of the trace", group, self.units)
        whole("layer", layer, 0, self.layers - 1)
        if window is not None:
            whole("window", window, 0, len(self.lengths) - 1)
            return self._block(group, layer, window)
        windows = range(len(self.lengths))
        return np.concatenate([self._block(group, layer, w) for w in windows])

    @property
    def tokens(self) -> int:
        """Tokens of all windows."""
        return sum(self.lengths)

    def load(self) -> Trace:
        """The whole trace in memory."""
        trace = Trace.empty(self.units, self.layers, self.lengths)
        for group, layer, window in self._places:
            trace.add(layer, group, self._block(group, layer, window), window)
        return trace

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _header(self) -> dict[str, Any]:
        start = self._file.read(len(MAGIC) + _HEAD.size)
        if start[: len(MAGIC)] != MAGIC:
            raise SimulatorError(
                f"{str(self.path)!r} is no trace file: it does not begin {MAGIC!r}"
            )
        if len(start) < len(MAGIC) + _HEAD.size:
            self._damaged("it ends within the header")
        length, crc = _HEAD.unpack(start[len(MAGIC) :])
        if length > self.path.stat().st_size:
            self._damaged("it ends within the header")
        text = self._file.read(length)
        if zlib.crc32(text) != crc:
            self._damaged("the header does not match its checksum")
        try:
            header = cast("dict[str, Any] | None", json.loads(text))
        except (ValueError, RecursionError):
            header = None
        if not isinstance(header, dict):
            self._wrong("its header is no JSON object")
        return header

    def _groups(self, header: dict[str, Any]) -> dict[str, int]:
        """Units by group, as the header has them: whatever wrote it, they are names and numbers."""
        groups: list[Any] = header.get("groups") or []
        if type(groups) is not list or not groups:
            self._wrong("its header has no list of groups")
        units: dict[str, int] = {}
        for group in groups:
            entry = cast("dict[str, Any]", group) if _is_object(group) else {}
            name, count = entry.get("name"), entry.get("units")
            if not isinstance(name, str) or not _is_count(count) or name in units:
                shown = json.dumps(group)[:80]
                self._wrong(f"group {shown} is no name of its own with a whole number of units")
            units[name] = count
        return units

    def _layers(self, header: dict[str, Any]) -> int:
        layers = header.get("layers")
        if not _is_count(layers) or layers >= _END:
            self._wrong(f"layers is {json.dumps(layers)[:80]}, no number from 1 to {_END - 1}")
        return layers

    def _index(self) -> tuple[int, ...]:
        offset, size, chain = self._file.tell(), self.path.stat().st_size, 0
        groups, lengths = list(self.units.items()), dict[int, int]()
        while True:
            record = self._read(offset, _BLOCK.size + _CRC.size)
            group, layer, window, tokens = _block_head(record)
            offset += len(record)
            if group == _END and layer == _END:
                break
            if group >= len(groups) or layer >= self.layers:
                self._damaged(f"the block before byte {offset} is of no group and layer")
            name, units = groups[group]
            self._check_block((name, layer, window), tokens, lengths.setdefault(window, tokens))
            self._places[name, layer, window] = (offset, tokens)
            chain = zlib.crc32(record[_BLOCK.size :], chain)
            offset += tokens * words_for(units) * 8
            if offset > size:
                self._damaged("it ends within a block")
        crc = _CRC.unpack_from(record, _BLOCK.size)[0]
        whole_file = window == len(lengths) and tokens == len(self._places) and offset == size
        if not whole_file or crc != zlib.crc32(record[: _BLOCK.size], chain):
            self._damaged("its last record does not match its blocks")
        self._check_complete(lengths)
        return tuple(lengths[w] for w in range(window))

    def _check_block(self, block: tuple[str, int, int], tokens: int, length: int) -> None:
        group, layer, window = block
        name = f"window {window} of group {group!r}, layer {layer}"
        if block in self._places:
            self._wrong(f"{name} is there twice")
        if not tokens:
            self._wrong(f"{name} has no tokens")
        if tokens != length:
            self._wrong(f"{name} has {tokens} tokens, other blocks of the window {length}")

    def _check_complete(self, lengths: Mapping[int, int]) -> None:
        """Every window, counted from 0, has a block of each group and layer."""
        if not lengths:
            self._wrong("it has no windows")
        beyond = [window for window in lengths if window >= len(lengths)]
        if beyond:
            self._wrong(f"of its {len(lengths)} windows, counted from 0, one is {max(beyond)}")
        if len(self._places) == len(lengths) * self.layers * len(self.units):
            return
        every = product(self.units, range(self.layers), range(len(lengths)))
        group, layer, window = next(block for block in every if block not in self._places)
        self._wrong(f"window {window} of group {group!r}, layer {layer} is missing")

    def _block(self, group: str, layer: int, window: int) -> NDArray[np.uint64]:
        offset, tokens = self._places[group, layer, window]
        words = words_for(self.units[group])
        before = _BLOCK.size + _CRC.size
        data = self._read(offset - before, before + tokens * words * 8)
        payload = memoryview(data)[before:]
        crc = _CRC.unpack_from(data, _BLOCK.size)[0]
        if zlib.crc32(payload, zlib.crc32(data[: _BLOCK.size])) != crc:
            self._damaged(f"window {window} of group {group!r}, layer {layer} is altered")
        masks = np.frombuffer(payload, "<u8").reshape(tokens, words)
        return check_packed(masks.astype(np.uint64, copy=False), self.units[group])

    def _read(self, offset: int, length: int) -> bytes:
        data = os.pread(self._file.fileno(), length, offset)
        if len(data) < length:
            self._damaged(f"it ends at byte {offset + len(data)}, before its last record")
        return data

    def _damaged(self, what: str) -> NoReturn:
        raise SimulatorError(f"trace file {str(self.path)!r} is damaged: {what}")

    def _wrong(self, what: str) -> NoReturn:
        """Of a file that is what its writer wrote: that is no trace (docs/trace-format.md)."""
        raise SimulatorError(f"trace file {str(self.path)!r} is no trace: {what}")


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def write_trace(trace: Trace, path: str | Path, about: Mapping[str, Any] | None = None) -> None:
    """Write a whole trace; `about` is kept in the header (any JSON)."""
    with TraceWriter(path, trace.units, trace.layers, about) as writer:
        for group, layer, window, masks in trace.blocks():
            writer.add(layer, group, masks, window)


def read_trace(path: str | Path) -> Trace:
    """The trace in a file, every block checked."""
    with TraceFile(path) as file:
        return file.load()
