"""A downstream task as a sweep asks for it: what can change its prompts, and where it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

FEWSHOT_SEED = 1234
"""lm-eval's own seed for drawing few-shot examples, for seed 0 of a sweep."""

Settings = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class DownstreamTask:
    """An entry of `tasks:`, resolved. Equal ones give equal prompts, where the data is equal."""

    name: str
    """Of its column, `acc_<name>`."""
    task: str
    wanted: str
    """The task, group or tag that lm-eval is asked for."""
    source: str
    """`file`: task files of the user's own; `local`: data on this machine; `hub`."""
    folder: str
    """Of the user's own task files."""
    data: str
    """A folder with the data of a task of lm-eval's, in place of the hub."""
    shots: int | None
    limit: int | None
    shard: int
    metric: str
    generation: Settings
    max_length: int | None
    seed: int
    place: str
    """Where the entry is written, for messages."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> DownstreamTask:
        generation = dict(value["generation"])
        return cls(**{**value, "generation": frozen(generation)})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def identity(self) -> dict[str, Any]:
        """What can change the prompts and how they are answered; not where files lie."""
        names = ("wanted", "shots", "limit", "shard", "generation", "max_length", "seed")
        return {name: asdict(self)[name] for name in names}


def frozen(settings: Mapping[str, Any]) -> Settings:
    """Settings that can be hashed, in the order of their names."""
    return tuple(
        (key, tuple(value) if isinstance(value, list) else value)
        for key, value in sorted(settings.items())
    )


def shards_of(documents: int, size: int) -> list[tuple[int, int]]:
    """Ranges [first, after the last] of documents."""
    return [(i, min(i + size, documents)) for i in range(0, documents, size)]
