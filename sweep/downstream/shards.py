"""Shards of downstream tasks: by task of lm-eval and by range of documents, keyed by content."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sweep.downstream.cards import own_code, version
from sweep.downstream.task import DownstreamTask, shards_of


def shards(entry: DownstreamTask, card: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """All shards of a task, as their payloads say which they are, and the kind of their answers.

    Few-shot examples, generation settings and documents are in the hash of the prompts.
    """
    for name, leaf in card["leaves"].items():
        ranges = shards_of(leaf["documents"], entry.shard)
        for (begin, end), prompts in zip(ranges, leaf["prompts"], strict=True):
            yield {
                "task": name,
                "output": leaf["output"],
                "documents": [begin, end],
                "prompts": prompts,
                "settings": leaf["settings"],
                "task_code": own_code(entry),
                "max_length": entry.max_length,
                "lm_eval": version(),
            }


def place(entry: DownstreamTask) -> dict[str, str]:
    """Where a worker finds the task, in one text."""
    return {"asked": json.dumps(entry.to_json())}


def shard_label(shard: Mapping[str, Any]) -> str:
    """Task and documents of a shard."""
    begin, end = shard["documents"]
    return f"{shard['task']} {begin}-{end - 1}"
