"""Shards of downstream tasks: by task of lm-eval and by range of documents, keyed by content."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sweep.downstream.cards import own_code, version
from sweep.downstream.task import Asked, shards_of

_NOT_OURS = ("text", "window_tokens")


def shards(
    evaluation: Mapping[str, Any], one: Asked, card: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Payloads of all shards of a task, for the model, method and selector of an evaluation.

    Few-shot examples, generation settings and documents are in the hash of the prompts.
    """
    base = {k: v for k, v in evaluation.items() if k not in _NOT_OURS}
    if "scope" in base["selector"]:
        base["selector"] = {**base["selector"], "scope": "window"}
    for name, leaf in card["leaves"].items():
        ranges = shards_of(leaf["documents"], one.shard)
        for (begin, end), prompts in zip(ranges, leaf["prompts"], strict=True):
            yield base | {
                "task": name,
                "documents": [begin, end],
                "prompts": prompts,
                "settings": leaf["settings"],
                "task_code": own_code(one),
                "max_length": one.max_length,
                "lm_eval": version(),
            }


def place(one: Asked) -> dict[str, str]:
    """Where a worker finds the task, in one text."""
    return {"asked": json.dumps(one.to_json())}


def shard_label(payload: Mapping[str, Any]) -> str:
    begin, end = payload["documents"]
    return f"{payload['task']} {begin}-{end - 1}"
