"""From a decoder's parts and its config to the geometry, and to the bits that its file has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from simulator.geometry import FileBits, Geometry, KVLayers, merged_rows
from sweep.sizes import kv
from sweep.sizes.defaults import completed, kind_of
from sweep.sizes.parts import Parts, width
from sweep.sizes.tensor import SizesError, Tensor

Config = Mapping[str, Any]


def of_config(config: Config, name: str) -> Geometry:
    """The geometry as far as config.json and the defaults of its class tell it.

    Raises SimulatorError where a size is missing, SizesError where the MLP is another.
    """
    complete = completed(config)
    refusal = kind_of(complete)
    if refusal:
        raise SizesError(refusal)
    if isinstance(complete.get("intermediate_size"), list):
        complete["intermediate_size"] = _same(complete["intermediate_size"])
    plain = Geometry.from_config(complete, name)
    return _simplest(plain, None, kv.of_config(complete), 0)


def of_parts(parts: Parts, config: Config, name: str, tied: bool) -> Geometry:
    """The geometry by names and shapes of tensors; heads and windows by the config.

    Raises SizesError where layers differ in width or a part cannot be told.
    """
    complete = completed(config)
    mixers = [tensor for layer in parts.layers for of in layer.mixers.values() for tensor in of]
    intermediate, hidden = width(parts), parts.layers[0].mlp["down"].rows
    complete |= {
        "num_hidden_layers": len(parts.layers),
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "vocab_size": parts.embedding.rows,
        "tie_word_embeddings": tied,
    }
    if parts.embedding.length != hidden:
        raise SizesError(
            f"{parts.embedding.name} has rows of {parts.embedding.length}, the MLPs {hidden} inputs"
        )
    complete.setdefault("num_attention_heads", 1)
    plain = Geometry.from_config(complete, name)
    rows = merged_rows((tensor.length, tensor.rows) for tensor in mixers)
    further = sum(tensor.weights for tensor in parts.others)
    return _simplest(plain, rows, kv.of_parts(parts, complete), further)


def bits_of(parts: Parts, tied: bool) -> FileBits:
    """Bits of a weight by kind, so that times weights they are the file's bytes."""
    mlps = [layer.mlp for layer in parts.layers]
    mixers = [tensor for layer in parts.layers for of in layer.mixers.values() for tensor in of]
    return FileBits(
        mixers=_bits(mixers),
        gate=_bits(mlp.get("gate") or mlp["gate_up"] for mlp in mlps),
        up=_bits(mlp.get("up") or mlp["gate_up"] for mlp in mlps),
        down=_bits(mlp["down"] for mlp in mlps),
        embedding=_bits([parts.embedding]),
        head=_bits([] if parts.head is None or tied else [parts.head]),
        other=_bits(parts.others),
    )


def _bits(tensors: Iterable[Tensor]) -> float:
    members = list(tensors)
    weights = sum(tensor.weights for tensor in members)
    return 8 * sum(tensor.bytes for tensor in members) / weights if weights else 0.0


def _simplest(
    plain: Geometry,
    mixers: tuple[tuple[int, int], ...] | None,
    caches: tuple[KVLayers, ...],
    further: int,
) -> Geometry:
    """With no more than what a plain decoder's sizes do not say."""
    usual = (KVLayers(plain.layers, 2 * plain.kv_heads * plain.head_dim),)
    return Geometry.load(
        plain.to_mapping()
        | {
            "mixers": None if mixers in (None, plain.mixer_rows) else mixers,
            "kv": None if caches == usual else [vars_of(cached) for cached in caches],
            "other_embeddings": further,
        }
    )


def vars_of(layers: KVLayers) -> dict[str, int | None]:
    """The fields of KVLayers as a mapping."""
    return {"layers": layers.layers, "values": layers.values, "window": layers.window}


def _same(sizes: list[int]) -> int:
    usual = max(sizes, key=sizes.count)
    other = [i for i, size in enumerate(sizes) if size != usual]
    if other:
        raise SizesError(
            f"layers {', '.join(map(str, other[:6]))} have another intermediate size than the "
            f"others ({usual}); one size for all layers is needed"
        )
    return int(usual)
