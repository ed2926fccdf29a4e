"""Which part of a decoder a tensor is, by its name: MLP, mixer, embedding or head.

Layers are told by a number in the name; towers for pictures and sound are left out. A part that
cannot be told is refused by name, for nobody would know what it costs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sweep.sizes.tensor import SizesError, Tensor

_LAYER = re.compile(r"^(?P<prefix>(?:.*?\.)?)(?:layers|h|blocks)\.(?P<layer>\d+)\.(?P<rest>.+)$")
_OTHER_TOWER = re.compile(
    r"vision|visual|image|audio|speech|encoder|vit\b|mtp|projector|multi_modal|vq|perceiver", re.I
)
_MLPS = ("mlp", "feed_forward", "ffn", "block_sparse_moe", "moe", "shared_mlp", "shared_expert")
_UNGATED = ("fc1", "fc2")
_EXPERTS = re.compile(r"expert|router|block_sparse_moe|(^|\.)moe\.|mlp\.gate\.|ffn_gate_inp|_exps")
_GATES = {
    **dict.fromkeys(("gate_proj", "w1"), "gate"),
    **dict.fromkeys(("up_proj", "w3"), "up"),
    **dict.fromkeys(("down_proj", "w2"), "down"),
    "gate_up_proj": "gate_up",
}
_EMBEDDINGS = ("embed_tokens", "wte", "tok_embeddings", "word_embeddings", "embed_in", "embeddings")
_HEADS = ("lm_head", "output", "embed_out")
NO_CACHE = ("conv", "short_conv", "mamba", "linear_attn", "linear_attention")
"""Mixers that keep a state of fixed size in place of a KV cache."""
_BESIDE_MIXERS = ("per_layer_input_gate", "per_layer_projection", "altup", "laurel")
"""Matrices of a layer that mix no tokens and are used whole: they count as the mixers do."""


@dataclass(slots=True)
class Layer:
    """The matrices of one layer: the MLP's by gate, up, down or gate_up, and those of mixers."""

    mlp: dict[str, Tensor] = field(default_factory=dict)
    mixers: dict[str, list[Tensor]] = field(default_factory=dict)
    """By the name of their module."""

    @property
    def attention(self) -> dict[str, Tensor]:
        """Matrices of the attention, by the last part of their name."""
        return {
            short_name(matrix): matrix
            for module, matrices in self.mixers.items()
            if is_attention(module)
            for matrix in matrices
        }


@dataclass(frozen=True, slots=True)
class Parts:
    """A decoder's matrices by part."""

    layers: tuple[Layer, ...]
    embedding: Tensor
    head: Tensor | None
    others: tuple[Tensor, ...]
    """Matrices outside of the layers that are neither embedding nor head."""


def is_attention(module: str) -> bool:
    """Whether a module of this name keeps a KV cache."""
    name = module.lower()
    return name not in NO_CACHE and ("attn" in name or "attention" in name or "temporal" in name)


def short_name(tensor: Tensor) -> str:
    """`q_proj` of `….self_attn.q_proj.weight`."""
    return tensor.name.removesuffix(".weight").rpartition(".")[2]


def parts_of(tensors: Iterable[Tensor]) -> Parts:
    """The parts of a decoder. Raises SizesError, naming the part, where they are others."""
    outside: list[Tensor] = []
    towers: dict[str, dict[int, list[tuple[str, Tensor]]]] = {}
    for tensor in tensors:
        match = _LAYER.match(tensor.name)
        if _OTHER_TOWER.search(match["prefix"] if match else tensor.name):
            continue
        if match is None:
            outside.append(tensor)
        else:
            tower = towers.setdefault(match["prefix"], {})
            tower.setdefault(int(match["layer"]), []).append((match["rest"], tensor))
    if len(towers) != 1:
        names = ", ".join(sorted(f"{name}layers" for name in towers)) or "none"
        raise SizesError(f"one decoder with numbered layers was expected; there is {names}")
    ((prefix, layers),) = towers.items()
    if sorted(layers) != list(range(len(layers))):
        lacking = sorted(set(range(max(layers) + 1)) - set(layers))
        raise SizesError(f"{prefix}layers lacks {', '.join(map(str, lacking[:4]))}")
    numbered = tuple(_layer(f"{prefix}layers.{i}", layers[i]) for i in range(len(layers)))
    return _with_outside(numbered, [matrix for matrix in outside if len(matrix.shape) == 2])


def _with_outside(layers: tuple[Layer, ...], outside: list[Tensor]) -> Parts:
    embedding = next((t for t in outside if short_name(t) in _EMBEDDINGS), None)
    if embedding is None:
        raise SizesError("no embedding of tokens is among its tensors")
    head = next((t for t in outside if short_name(t) in _HEADS), None)
    others = tuple(t for t in outside if t not in (embedding, head))
    return Parts(layers, embedding, head, others)


def _layer(path: str, members: list[tuple[str, Tensor]]) -> Layer:
    layer = Layer()
    for rest, tensor in members:
        module = rest.partition(".")[0]
        if _EXPERTS.search(rest) and module not in _BESIDE_MIXERS:  # AltUp has a router, too
            raise SizesError(
                f"{path}.{module} is a mixture of experts: its sizes are not those of a dense "
                "gated MLP"
            )
        if module in _MLPS:
            _add_to_mlp(layer, f"{path}.{module}", tensor)
        elif module in _UNGATED:
            raise SizesError(f"{path} has an MLP without a gate: {module}")
        elif _is_matrix(f"{path}.{rest}", tensor):
            if not (is_attention(module) or module in (*NO_CACHE, *_BESIDE_MIXERS)):
                raise SizesError(
                    f"{path}.{module} is no part that is known: whether it keeps a KV cache, and "
                    "what it costs, cannot be told"
                )
            layer.mixers.setdefault(module, []).append(tensor)
    if not ({"gate", "up", "down"} <= set(layer.mlp) or {"gate_up", "down"} <= set(layer.mlp)):
        has = ", ".join(sorted(layer.mlp)) or "none of them"
        raise SizesError(f"{path} has no gated MLP: needed are gate, up and down, it has {has}")
    return layer


def _add_to_mlp(layer: Layer, path: str, tensor: Tensor) -> None:
    if not _is_matrix(tensor.name, tensor):
        return
    name = short_name(tensor)
    if name not in _GATES:
        raise SizesError(f"{path} is not a gated MLP: {name} is none of its gate, up and down")
    layer.mlp[_GATES[name]] = tensor


def _is_matrix(name: str, tensor: Tensor) -> bool:
    """Whether its weights count; norms, biases and the kernels of convolutions do not."""
    if len(tensor.shape) > 2 and 1 not in tensor.shape[1:]:
        raise SizesError(f"{name} has {len(tensor.shape)} dimensions: what it costs is not known")
    return len(tensor.shape) == 2


def width(parts: Parts) -> int:
    """The intermediate size of all layers. Raises SizesError where they differ."""
    by_width: dict[int, list[int]] = {}
    for i, layer in enumerate(parts.layers):
        by_width.setdefault(layer.mlp["down"].length, []).append(i)
    usual, *rest = sorted(by_width, key=lambda size: -len(by_width[size]))
    if rest:
        raise SizesError(_other_widths(by_width, usual))
    return usual


def _other_widths(by_width: Mapping[int, list[int]], usual: int) -> str:
    other = [i for size, layers in by_width.items() if size != usual for i in layers]
    sizes = ", ".join(str(size) for size in sorted(by_width) if size != usual)
    which = f"layer {other[0]} has" if len(other) == 1 else f"layers {_listed(other)} have"
    return (
        f"{which} another intermediate size ({sizes}) than the others ({usual}); one size for all "
        "layers is needed"
    )


def _listed(layers: list[int]) -> str:
    if len(layers) > 6:
        return f"{', '.join(map(str, layers[:5]))} and {len(layers) - 5} more"
    return f"{', '.join(map(str, layers[:-1]))} and {layers[-1]}"
