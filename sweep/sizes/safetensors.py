"""Tensors of safetensors files, from their heads alone.

A file starts with the length of its head (u64, little-endian) and the head, JSON: by name the
dtype, shape and place of each tensor. Weights that GPTQ, AWQ or compressed-tensors packed into
integers are given unpacked; what they store beside them (scales, zero-points, orders) counts as
bytes of theirs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.sizes.tensor import SizesError, Tensor

_PACKED = ("qweight", "weight_packed")
_BESIDE = re.compile(
    r"(qzeros|scales|g_idx|weight_(scale|scale_inv|scale_2|shape|zero_point|global_scale|g_idx)"
    r"|input_(scale|global_scale)|(weight\.)?(absmax|quant_map|nested_absmax|nested_quant_map"
    r"|quant_state\..*))$"
)
_MOST = 1 << 28
_SAMPLE = 1 << 16


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor as it lies in a file: its bytes from `start` on, `size` of them."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


def entries(files: Iterable[Path]) -> dict[str, Entry]:
    """Every tensor of the files by name. Raises SizesError for a file that is no safetensors."""
    by_name: dict[str, Entry] = {}
    for path in files:
        try:
            by_name |= _entries(path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise SizesError(f"{path} is cut off or is no safetensors file") from None
    return by_name


def _entries(path: Path) -> dict[str, Entry]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length < _MOST:
            raise ValueError(length)
        head: dict[str, Any] = json.loads(file.read(length))
    return {
        name: Entry(
            path, description["dtype"], tuple(description["shape"]), 8 + length + begin, end - begin
        )
        for name, description in head.items()
        if name != "__metadata__"
        for begin, end in (description["data_offsets"],)
    }


def tensors(by_name: Mapping[str, Entry], quantisation: Mapping[str, Any] | None) -> list[Tensor]:
    """The tensors with packed ones unpacked; `quantisation` is the config's quantization_config.

    Raises SizesError for weights packed in a way that does not say how many there are.
    """
    beside: dict[str, int] = {}
    for name, entry in by_name.items():
        if _BESIDE.search(name) and quantisation:
            module = _module(name)
            beside[module] = beside.get(module, 0) + entry.size
    weights = {n: e for n, e in by_name.items() if not (quantisation and _BESIDE.search(n))}
    unpacked = []
    for name, entry in weights.items():
        module, _, kind = name.rpartition(".")
        extra = beside.get(module, 0) if kind in ("weight", *_PACKED) else 0
        shape = _shape(name, entry, quantisation or {})
        weight = f"{module}.weight" if kind in _PACKED else name
        unpacked.append(Tensor(weight, shape, entry.size + extra))
    return unpacked


def _module(name: str) -> str:
    """The module that a scale belongs to: what stands before it."""
    return _BESIDE.sub("", name).removesuffix(".").removesuffix(".weight")


def _shape(name: str, entry: Entry, quantisation: Mapping[str, Any]) -> tuple[int, ...]:
    kind, shape = name.rpartition(".")[2], entry.shape
    whole = entry.dtype[0] in "IU" and len(shape) == 2
    if kind not in _PACKED:
        if whole and quantisation and entry.dtype == "U8":
            raise SizesError(f"{name} is packed in a way that does not say how many weights it has")
        return shape
    per = int(entry.dtype[1:]) // packed_bits(quantisation)
    if kind == "weight_packed":
        return shape[0], shape[1] * per
    if str(quantisation.get("quant_method")) == "awq":
        return shape[1] * per, shape[0]
    return shape[1], shape[0] * per


def packed_bits(quantisation: Mapping[str, Any]) -> int:
    """Bits of a packed weight, as the config says. Raises SizesError where it does not."""
    groups = quantisation.get("config_groups") or {}
    numbers = [group.get("weights", {}).get("num_bits") for group in groups.values()]
    bits = quantisation.get("bits") or quantisation.get("w_bit") or next(iter(numbers), None)
    if not isinstance(bits, int) or not 1 <= bits <= 8:
        raise SizesError("its quantization_config does not say how many bits a packed weight has")
    return bits


def same_content(first: Entry, other: Entry) -> bool:
    """Whether two tensors look like copies of each other: beginning, middle and end are equal."""
    if (first.dtype, first.shape, first.size) != (other.dtype, other.shape, other.size):
        return False
    middle = first.size // 2
    places = sorted({0, middle, max(0, first.size - _SAMPLE)})
    return all(_read(first, offset) == _read(other, offset) for offset in places)


def _read(entry: Entry, offset: int) -> bytes:
    with entry.path.open("rb") as file:
        file.seek(entry.start + offset)
        return file.read(min(_SAMPLE, entry.size - offset))
