"""Sizes of a model, and how many bytes its parts take (SEMANTICS 5)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Any

from simulator.errors import SimulatorError, check_fields, check_number, unknown
from simulator.experts import Experts


@dataclass(frozen=True, slots=True)
class FileBits:
    """Bits of a weight as a file has them, scales included: a mean over the layers for each kind.

    `mixers` are attention and whatever else mixes tokens; `head` counts where it is no part of the
    embedding, `other` where there are further embeddings.
    """

    mixers: float
    gate: float
    up: float
    down: float
    embedding: float
    head: float = 0
    other: float = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            check_number("file bits", field.name, getattr(self, field.name), 0, strict=False)


@dataclass(frozen=True, slots=True)
class Storage:
    """How weights and the KV cache are stored.

    A linear weight takes `bits`, and each `group_size` of a row's weights, the last ones too if the
    row's length cuts their group, a scale of `scale_bits` (4 bit: 4.125 where nothing is cut);
    `group_size` 0 means no scales. The embedding and the head take `embedding_bits`, with scales
    where `embedding_group` is not 0; a key or value of the `kv_tokens` cached tokens takes
    `kv_bits`. Of the MLP weights that every token uses a share `mlp_share` is stored; below 1 that
    is static pruning, which packs what it keeps. `file` takes the place of all bits of weights.
    """

    bits: float = 4
    group_size: int = 128
    scale_bits: float = 16
    embedding_bits: float = 4
    kv_bits: float = 8
    kv_tokens: int = 2048
    mlp_share: float = 1
    embedding_group: int = 0
    file: FileBits | None = None

    def __post_init__(self) -> None:
        for name in ("bits", "embedding_bits", "mlp_share"):
            check_number("storage", name, getattr(self, name), 0, strict=True)
        for name in ("group_size", "scale_bits", "kv_bits", "kv_tokens", "embedding_group"):
            check_number("storage", name, getattr(self, name), 0, strict=False)

    @property
    def bits_per_weight(self) -> float:
        """Bits of one weight of an MLP, its share of the group's scale included."""
        if self.file is not None:
            return (self.file.gate + self.file.up + self.file.down) / 3
        return self.bits + (self.scale_bits / self.group_size if self.group_size else 0.0)

    @property
    def bytes_per_weight(self) -> float:
        """Bytes of one weight of an MLP, its share of the group's scale included."""
        return self.bits_per_weight / 8

    def linear_bytes(self, rows: float, length: int) -> float:
        """Bytes of `rows` rows of `length` linear weights, the scales of cut groups included."""
        scales = math.ceil(length / self.group_size) if self.group_size else 0
        return rows * (length * self.bits + scales * self.scale_bits) / 8

    def embedding_bytes(self, rows: float, length: int) -> float:
        """Bytes of `rows` rows of `length` weights of embedding or head."""
        scales = math.ceil(length / self.embedding_group) if self.embedding_group else 0
        return rows * (length * self.embedding_bits + scales * self.scale_bits) / 8


@dataclass(frozen=True, slots=True)
class KVLayers:
    """Layers whose caches are alike: `values` numbers for each token, of at most `window` tokens.

    Layers that share the cache of another, and those that keep a state of fixed size in place of
    one, are in none.
    """

    layers: int
    values: int
    window: int | None = None

    def values_of(self, tokens: float) -> float:
        """Numbers that the caches hold after so many tokens."""
        held = tokens if self.window is None else min(tokens, self.window)
        return self.layers * self.values * held


Rows = tuple[tuple[int, int], ...]
"""((length of a row, number of rows), …) of matrices, lengths in ascending order."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes of a decoder with gated MLPs; everything the simulator knows of a model.

    Of a plain decoder the first nine fields are all. What is otherwise says `mixers`, the matrices
    of all layers that are no MLP's, `kv`, the layers that have a KV cache, and `other_embeddings`,
    the weights of embeddings beside that of the tokens. With `experts`, `intermediate` is the width
    of the MLPs in layers that have none.
    """

    name: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied_embeddings: bool = False
    mixers: Rows | None = None
    kv: tuple[KVLayers, ...] | None = None
    other_embeddings: int = 0
    experts: Experts | None = None

    def __post_init__(self) -> None:
        checked = dict.fromkeys(_SIZES, _is_size) | {"tied_embeddings": _is_flag}
        for name, is_right in checked.items():
            value = getattr(self, name)
            if not is_right(value):
                must = "true or false" if is_right is _is_flag else "a whole number of at least 1"
                what = f"{name} is {value!r}"
                raise SimulatorError(f"geometry {self.name!r}: {what}; it must be {must}")
        if self.experts is not None and self.experts.layers > self.layers:
            raise SimulatorError(
                f"geometry {self.name!r}: {self.experts.layers} layers have experts, and there are "
                f"{self.layers}"
            )

    @staticmethod
    def names() -> tuple[str, ...]:
        """Names of the built-in geometries."""
        return tuple(sorted(_BUILT_IN))

    @classmethod
    def load(cls, source: str | Mapping[str, Any] | Geometry) -> Geometry:
        """A built-in geometry by name, or one from a mapping of its fields."""
        if isinstance(source, Geometry):
            return source
        if isinstance(source, Mapping):
            return cls._from_mapping(source)
        if source not in _BUILT_IN:
            raise unknown("geometry", source, _BUILT_IN)
        return _BUILT_IN[source]

    @classmethod
    def _from_mapping(cls, mapping: Mapping[str, Any]) -> Geometry:
        check_fields("geometry", mapping, [field.name for field in fields(cls)])
        values: dict[str, Any] = {"name": "custom", **mapping}
        missing = [n for n in _SIZES if n not in values]
        if values.get("mixers") is not None:
            values["mixers"] = tuple((int(a), int(b)) for a, b in values["mixers"])
        if values.get("kv") is not None:
            values["kv"] = tuple(KVLayers(**layers) for layers in values["kv"])
        values["experts"] = Experts.load(values.get("experts"))
        if missing:
            raise SimulatorError(f"geometry {values['name']!r} lacks {', '.join(missing)}")
        return cls(**values)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], name: str) -> Geometry:
        """The geometry in a transformers `config.json` (a nested `text_config` is followed)."""
        config = config.get("text_config") or config
        try:
            hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
            return cls(
                name=name,
                layers=int(config["num_hidden_layers"]),
                hidden=hidden,
                intermediate=int(config["intermediate_size"]),
                heads=heads,
                kv_heads=int(config.get("num_key_value_heads") or heads),
                head_dim=int(config.get("head_dim") or hidden // heads),
                vocabulary=int(config["vocab_size"]),
                tied_embeddings=bool(config.get("tie_word_embeddings", False)),
            )
        except (KeyError, TypeError) as error:
            raise SimulatorError(f"config of {name!r} gives no geometry: {error}") from error

    def to_mapping(self) -> dict[str, Any]:
        """The fields as a plain mapping, without what a plain decoder leaves out; `load` reads it
        back."""
        left_out = (None, 0)
        return {k: v for k, v in asdict(self).items() if k not in _EXACT or v not in left_out}

    @property
    def is_plain(self) -> bool:
        """Whether the first nine fields are all that there is to say."""
        further = (self.mixers, self.kv, self.experts)
        return further == (None, None, None) and not self.other_embeddings

    @property
    def mixer_rows(self) -> Rows:
        """Matrices of all layers that are no MLP's: if plain, the q, k, v and o projections."""
        if self.mixers is not None:
            return self.mixers
        width = self.heads * self.head_dim
        rows = self.layers * self.head_dim * (self.heads + 2 * self.kv_heads)
        return merged_rows(((self.hidden, rows), (width, self.layers * self.hidden)))

    @property
    def attention_width(self) -> int:
        """Inputs of W_o: heads times the size of a head."""
        return self.heads * self.head_dim

    @property
    def attention_rows(self) -> Mapping[str, tuple[int, int]]:
        """(length of a row, number of rows) of W_q, W_k, W_v and W_o of one layer.

        Raises SimulatorError where the layers mix tokens by other matrices than these.
        """
        query, key = self.attention_width, self.kv_heads * self.head_dim
        rows = {
            "q": (self.hidden, query),
            "k": (self.hidden, key),
            "v": (self.hidden, key),
            "o": (query, self.hidden),
        }
        plain = merged_rows((length, self.layers * count) for length, count in rows.values())
        if self.mixer_rows != plain:
            raise SimulatorError(
                f"geometry {self.name!r} mixes tokens by more than W_q, W_k, W_v and W_o of one "
                "size in every layer; groups of attention have no bytes there"
            )
        return rows

    @property
    def attention_weights_of(self) -> Mapping[str, int]:
        """Weights of the groups of attention in one layer; raises as `attention_rows` does."""
        sizes = {name: length * count for name, (length, count) in self.attention_rows.items()}
        return {"attn-input": sizes["q"] + sizes["k"] + sizes["v"], "attn-output": sizes["o"]}

    @property
    def mixer_weights(self) -> int:
        """Weights of all matrices of `mixer_rows`."""
        return sum(length * rows for length, rows in self.mixer_rows)

    @property
    def attention_weights(self) -> int | Fraction:
        """Weights of the mixers of one layer, the mean where layers differ: `layers` times it is
        `mixer_weights`, exactly."""
        mean = Fraction(self.mixer_weights, self.layers)
        return mean.numerator if mean.denominator == 1 else mean

    @property
    def dense_layers(self) -> int:
        """Layers whose MLP is a plain one."""
        return self.layers - (self.experts.layers if self.experts else 0)

    @property
    def mlp_weights(self) -> int:
        """Weights of the three MLP matrices of one layer, of one without experts."""
        return 3 * self.hidden * self.intermediate

    @property
    def expert_weights(self) -> int:
        """Weights of all routed experts."""
        return self.experts.weights(self.hidden) if self.experts else 0

    @property
    def static_mlp_weights(self) -> int:
        """Weights of all MLPs that are no routed experts, routers among them."""
        shared = self.experts.static_weights(self.hidden) if self.experts else 0
        return self.dense_layers * self.mlp_weights + shared

    @property
    def embedding_rows(self) -> int:
        """Rows of embedding and head together: of two matrices, or of one if tied."""
        return (1 if self.tied_embeddings else 2) * self.vocabulary

    @property
    def embedding_weights(self) -> int:
        """Weights of embedding and head together, further embeddings included."""
        return self.embedding_rows * self.hidden + self.other_embeddings

    @property
    def weights(self) -> int:
        """All weights that bytes are counted for."""
        mlps = self.static_mlp_weights + self.expert_weights
        return self.mixer_weights + mlps + self.embedding_weights

    def kv_bytes(self, storage: Storage) -> float:
        """Bytes of the KV cache after `storage.kv_tokens` tokens."""
        kv = self.kv
        if kv is None:
            kv = (KVLayers(self.layers, 2 * self.kv_heads * self.head_dim),)
        return sum(layers.values_of(storage.kv_tokens) for layers in kv) * storage.kv_bits / 8


def merged_rows(matrices: Iterable[tuple[int, int]]) -> Rows:
    """(length, rows) of matrices as `Rows`."""
    rows: dict[int, int] = {}
    for length, count in matrices:
        rows[length] = rows.get(length, 0) + count
    return tuple(sorted(rows.items()))


_SIZES = (
    *("layers", "hidden", "intermediate", "heads", "kv_heads", "head_dim"),
    "vocabulary",
)
_EXACT = ("mixers", "kv", "other_embeddings", "experts")


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


_BUILT_IN = {
    geometry.name: geometry
    for geometry in (
        Geometry("phi-3-medium", 40, 5120, 17920, 40, 10, 128, 32064),
        Geometry("phi-3-mini", 32, 3072, 8192, 32, 32, 96, 32064),
        Geometry("llama-3-8b", 32, 4096, 14336, 32, 8, 128, 128256),
        Geometry("mistral-7b", 32, 4096, 14336, 32, 8, 128, 32000),
        Geometry("llama-2-7b", 32, 4096, 11008, 32, 32, 128, 32000),
        Geometry("relu-llama-7b", 32, 4096, 11008, 32, 32, 128, 32000),
        Geometry("turbosparse-mistral-7b", 32, 4096, 14336, 32, 8, 128, 32064),
        Geometry("smollm2-135m", 30, 576, 1536, 9, 3, 64, 49152, tied_embeddings=True),
    )
}
