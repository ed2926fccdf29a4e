"""Sizes of a model, and how many bytes its parts take (SEMANTICS 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from simulator.errors import SimulatorError, check_fields, check_number, unknown


@dataclass(frozen=True, slots=True)
class Storage:
    """How weights and the KV cache are stored.

    A linear weight takes `bits + scale_bits / group_size` bits (4 bit: 4.125); `group_size` 0
    means no scales. The embedding and the head take `embedding_bits`, a key or value of the
    `kv_tokens` cached tokens takes `kv_bits`. Of the MLP weights that every token uses a share
    `mlp_share` is stored; below 1 that is static pruning, which packs what it keeps.
    """

    bits: float = 4
    group_size: int = 128
    scale_bits: float = 16
    embedding_bits: float = 4
    kv_bits: float = 8
    kv_tokens: int = 2048
    mlp_share: float = 1

    def __post_init__(self) -> None:
        for name in ("bits", "embedding_bits", "mlp_share"):
            check_number("storage", name, getattr(self, name), 0, strict=True)
        for name in ("group_size", "scale_bits", "kv_bits", "kv_tokens"):
            check_number("storage", name, getattr(self, name), 0, strict=False)

    @property
    def bits_per_weight(self) -> float:
        """Bits of one linear weight, its share of the group's scale included."""
        return self.bits + (self.scale_bits / self.group_size if self.group_size else 0.0)

    @property
    def bytes_per_weight(self) -> float:
        """Bytes of one linear weight, its share of the group's scale included."""
        return self.bits_per_weight / 8


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes of a decoder with gated MLPs; everything the simulator knows of a model."""

    name: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied_embeddings: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "tied_embeddings":
                right, must = isinstance(value, bool), "true or false"
            elif field.name != "name":
                right, must = _is_size(value), "a whole number of at least 1"
            else:
                continue
            if not right:
                what = f"{field.name} is {value!r}"
                raise SimulatorError(f"geometry {self.name!r}: {what}; it must be {must}")

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
        names = [field.name for field in fields(cls)]
        check_fields("geometry", mapping, names)
        values: dict[str, Any] = {"name": "custom", **mapping}
        missing = [n for n in names if n not in values and n != "tied_embeddings"]
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
        """The fields as a plain mapping; `load` reads it back."""
        return asdict(self)

    @property
    def attention_weights(self) -> int:
        """Weights of the q, k, v and o projections of one layer."""
        return 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)

    @property
    def mlp_weights(self) -> int:
        """Weights of the three MLP matrices of one layer."""
        return 3 * self.hidden * self.intermediate

    @property
    def embedding_weights(self) -> int:
        """Weights of embedding and head together: two matrices, or one if tied."""
        return (1 if self.tied_embeddings else 2) * self.vocabulary * self.hidden

    def kv_bytes(self, storage: Storage) -> float:
        """Bytes of the KV cache of `storage.kv_tokens` tokens."""
        values = 2 * self.layers * self.kv_heads * self.head_dim * storage.kv_tokens
        return values * storage.kv_bits / 8


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
