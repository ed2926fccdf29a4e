"""The weights of a model in a code of their own: bits of each kind, by what its files hold.

What the matrices hold is read once and kept in the cache folder, under the model's fingerprint.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from methods.base import MethodError
from methods.static.coded import Coded, Matrix
from simulator.geometry import Storage
from sweep.errors import InputError, ResourceError
from sweep.files.cache import cache_dir, staged
from sweep.inputs.model_ref import ModelRef, fingerprint, resolve, weight_files
from sweep.inputs.model_sizes import Files, Stored, files_of
from sweep.sizes import contents as values
from sweep.sizes import decoder, safetensors
from sweep.sizes.parts import Layer, Parts
from sweep.sizes.tensor import SizesError, Tensor

SPARSE = 0.2
"""Share of zeros from which a matrix counts as one that arrives sparse."""
_GLANCE = 32
"""Rows of a matrix that are looked at to tell whether it is sparse."""

Measure = Callable[[Tensor, bool], float]
"""measure(tensor, whether it is of the decoder's linear layers) -> its bytes."""


def stored(ref: str, method: Coded | None, storage: Storage) -> Stored | None:
    """Bits and bytes of the model's weights in the code of a method, or in none; None while they
    are not here.

    `storage` says what a weight takes without it. Raises InputError for files that are no
    safetensors with floats, and for weights that the code is not made for.
    """
    model = resolve(ref)
    if model.path is None:
        return None
    known = contents(ref, method.name) if method else {}
    files = _files(model)

    def measure(tensor: Tensor, linear: bool) -> float:
        dense = dense_bytes(tensor, storage, linear)
        if method is None or not (linear or method.whole):
            return dense
        if tensor.name not in known:
            raise InputError(f"model {ref}: {tensor.name} is stored in another way than as floats")
        try:
            return method.matrix_bytes(known[tensor.name], dense)
        except MethodError as error:
            raise InputError(f"model {ref}: {tensor.name}: {error}") from None

    return measured(files, measure)


def measured(files: Files, measure: Measure) -> Stored:
    """Bits and bytes of a model whose matrices take what `measure` says."""

    def of(linear: bool) -> Callable[[Tensor], Tensor]:
        return lambda tensor: replace(tensor, bytes=measure(tensor, linear))

    parts = files.parts
    layers = tuple(
        Layer(
            {name: of(True)(one) for name, one in layer.mlp.items()},
            {name: [*map(of(True), of_module)] for name, of_module in layer.mixers.items()},
        )
        for layer in parts.layers
    )
    head = None if parts.head is None or files.tied else of(False)(parts.head)
    others = tuple(map(of(False), parts.others))
    made = Parts(layers, of(False)(parts.embedding), head, others)
    linears = [one for layer in layers for one in layer.mlp.values()]
    linears += [one for layer in layers for of_one in layer.mixers.values() for one in of_one]
    every = [*linears, made.embedding, *([head] if head else []), *others]
    return Stored(decoder.bits_of(made, files.tied), sum(one.bytes for one in every))


def dense_bytes(tensor: Tensor, storage: Storage, linear: bool) -> float:
    """Bytes of a matrix with every weight stored, as `storage` says or as the files have it."""
    if storage.file is not None:
        return tensor.bytes
    if linear:
        return storage.linear_bytes(tensor.rows, tensor.length)
    return storage.embedding_bytes(tensor.rows, tensor.length)


def contents(ref: str, wanted: str) -> dict[str, Matrix]:
    """What each matrix in the model's files holds, by name; `wanted` says for what in errors."""
    model = resolve(ref)
    _check_floats(model, ref, wanted)
    place = cache_dir() / "contents" / f"{fingerprint(ref)}.json"
    known = _read(place)
    if known is None:
        known = values.contents(_entries(model))
        text = json.dumps({name: asdict(one) for name, one in known.items()})
        with suppress(OSError, ResourceError), staged(place) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return known


def sparsity_at_a_glance(ref: str) -> tuple[str, float] | None:
    """The name and the share of zeros of a matrix from the middle of the model, by its first rows.

    None where its files have no floats to look at, or are not on this machine.
    """
    try:
        model = resolve(ref)
        if model.path is None or model.is_gguf:
            return None
        entries, files = _entries(model), _files(model)
    except InputError:  # said where the model is asked for
        return None
    name = files.parts.layers[len(files.parts.layers) // 2].mlp["down"].name
    entry = entries.get(name)
    if entry is None or entry.dtype not in ("F64", "F32", "F16", "BF16"):
        return None
    seen = values.matrix(entry, _GLANCE)
    return name, 1 - seen.kept


def _check_floats(model: ModelRef, ref: str, wanted: str) -> None:
    if model.path is None or model.is_gguf:
        what = "a GGUF file" if model.path is not None else "not on this machine"
        raise InputError(f"model {ref} is {what}; {wanted} needs the floats of safetensors files")


def _files(model: ModelRef) -> Files:
    try:
        files = files_of(model)
    except SizesError as error:
        raise InputError(f"model {model.name}: {error}") from None
    assert files is not None  # of a GGUF file alone
    return files


def _entries(model: ModelRef) -> Mapping[str, safetensors.Entry]:
    assert model.path is not None
    return safetensors.entries(weight_files(model.path))


def _read(place: Path) -> dict[str, Matrix] | None:
    try:
        known: dict[str, dict[str, Any]] = json.loads(place.read_text(encoding="utf-8"))
        return {name: _matrix(one) for name, one in known.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _matrix(one: Mapping[str, Any]) -> Matrix:
    told = one["exponents"]
    return Matrix(
        one["rows"], one["length"], one["zeros"], tuple(one["most"]), told and tuple(told)
    )
