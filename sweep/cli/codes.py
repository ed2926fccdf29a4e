"""`sweep size MODEL --codes`: what zeros of the weights and exponents of bfloat16 save."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from methods.base import MethodError

WIDTHS = (32, 16, 8, 4)
"""Bits of a weight whose bytes are told apart: of a float, of half of it, and rounded."""


def codes(ref: str) -> dict[str, Any]:
    """Bytes of all weights in each code, from floats of 32 bits down, as JSON.

    Weights of 8 and 4 bits have scales, as in a sweep. Raises InputError for files without floats.
    """
    from methods.static.dfloat11 import DFloat11
    from methods.static.packed import Packed
    from simulator import Storage
    from sweep.errors import InputError
    from sweep.inputs import coded

    known, packed = coded.contents(ref, "--codes"), Packed()
    rows: list[dict[str, Any]] = []
    for bits in WIDTHS:
        group = 128 if bits < 16 else 0
        storage = Storage(bits=bits, embedding_bits=bits, group_size=group)
        for method in (None, packed):
            stored = coded.stored(ref, method, storage)
            assert stored is not None  # or its contents had not been read
            code = method.name if method else "dense"
            rows.append({"code": code, "bits": bits, "bytes": stored.bytes})
    try:
        lossless = coded.stored(ref, DFloat11(), Storage())
        rows.append({"code": "dfloat11", "bits": 16, "bytes": lossless.bytes if lossless else 0})
    except (InputError, MethodError):  # not bfloat16
        lossless = None
    full = rows[0]["bytes"]
    every = sum(matrix.weights for matrix in known.values())
    return {
        "zeros": sum(matrix.zeros for matrix in known.values()) / every,
        "patterns": _patterns(known),
        "exponent_entropy": _entropy(known) if lossless else None,
        "stored": [row | {"of_32_bit": row["bytes"] / full} for row in rows],
    }


def lines(about: Mapping[str, Any]) -> Iterator[str]:
    """The same for a reader: factors one after another."""
    patterns = ", ".join(f"{count} in {name}" for name, count in about["patterns"].items())
    yield f"  {about['zeros']:.1%} of the weights are 0; smallest code of matrices: {patterns}"
    yield f"  {'code':12} {'bits':>7} {'MB':>10} {'of 32 bit':>10}"
    for row in about["stored"]:
        size = f"{row['bytes'] / 1e6:10,.1f} {row['of_32_bit']:9.1%}"
        yield f"  {row['code']:12} {row['bits']:7} {size}"
    if about["exponent_entropy"]:
        yield f"  exponents of bfloat16 hold {about['exponent_entropy']:.2f} bits a weight"


def _patterns(known: Mapping[str, Any]) -> dict[str, int]:
    """Matrices by the code that is smallest at 16 bits."""
    from methods.static.packed import Packed

    found = Counter(Packed().code(one, 2.0 * one.weights) for one in known.values())
    return dict(found.most_common())


def _entropy(known: Mapping[str, Any]) -> float:
    """Bits of information of an exponent, each matrix by itself, in the mean over weights."""
    from methods.static.huffman import entropy

    parts = [(one.weights, entropy(one.exponents)) for one in known.values()]
    return sum(n * bits for n, bits in parts) / sum(n for n, _ in parts)
