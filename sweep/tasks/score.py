"""Scoring tasks: a shard of a downstream task, its requests answered by a sparse model.

Prompts, filters and metrics are lm-eval's own (`sweep.downstream.harness`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from methods.registry import create
from sweep.downstream import harness, packed
from sweep.downstream.requests import RequestRunner
from sweep.downstream.task import DownstreamTask
from sweep.errors import InputError
from sweep.inputs import models
from sweep.keys import digest
from sweep.make_selector import make_selector
from sweep.tasks.prelude import sparse_model

if TYPE_CHECKING:
    from sweep.tasks.payloads import Score, ScoreWhere


def score(
    payload: Score, where: ScoreWhere, inputs: dict[str, Any], device: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metrics of each document of a shard, and what was read; hands over what each request got.

    The input `weights` takes the place of the model's own, `trained` is what the training made.
    """
    entry, leaf = DownstreamTask.from_json(json.loads(where["asked"])), payload["task"]
    task, documents = harness.load(entry)["tasks"][leaf], harness.built(entry, leaf)
    begin, end = payload["documents"]
    instances = [instance for i in range(begin, end) for instance in documents[i]]
    prompts = digest([harness.arguments(documents[i]) for i in range(begin, end)])
    if prompts != payload["prompts"]:
        raise InputError(f"the data of {leaf} is not what it was when the sweep was planned")
    method = create(payload["method"], payload["density"], **payload["parameters"])
    selector = make_selector(payload["selector"], inputs) if method.groups else None
    packed.prove(models.loaded(where["model"], payload["dtype"], device))
    with (
        sparse_model(payload, where, inputs, device, method, selector) as model,
        RequestRunner(model, selector, share=payload.get("share", True)).open() as runner,
    ):
        tokenizer = models.tokenizer(where["model"])
        _answer(harness.SparseLM(model, tokenizer, runner, entry.max_length), instances)
    values = _values(task, instances)
    prefill, decode = runner.prefill, runner.decode
    result = {
        "values": values,
        "documents": end - begin,
        "prefill": prefill.to_json() | {"mlp_density": prefill.mlp_density()},
        "decode": decode.to_json() | {"mlp_density": decode.mlp_density()},
        "device": device,
    }
    return result, _handover(instances)


def _answer(lm: harness.SparseLM, instances: Sequence[Any]) -> None:
    """Let the model answer all requests, repeated ones as often as is asked."""
    kinds = dict.fromkeys(instance.request_type for instance in instances)
    for kind in kinds:
        of_kind = [instance for instance in instances if instance.request_type == kind]
        requests = [instance for instance in of_kind for _ in range(instance.repeats or 1)]
        for instance in of_kind:
            instance.resps, instance.filtered_resps = [], {}
        for instance, answer in zip(requests, getattr(lm, kind)(requests), strict=True):
            instance.resps.append(answer)


def _values(task: Any, instances: Sequence[Any]) -> dict[str, list[float]]:
    """Per-document values of the task's means, as `metric,filter`, in the order of documents."""
    task._instances = list(instances)
    task.apply_filters()
    documents: dict[int, list[Any]] = {}
    for instance in instances:
        documents.setdefault(instance.doc_id, []).append(instance)
    means = harness.metrics(task)
    values: dict[str, list[float]] = {}
    for name in instances[0].filtered_resps:
        for requests in documents.values():
            requests.sort(key=lambda instance: instance.idx)
            answers = [instance.filtered_resps[name] for instance in requests]
            for metric, value in task.process_results(requests[0].doc, answers).items():
                if metric in means:
                    values.setdefault(f"{metric},{name}", []).append(_number(value))
    return values


def _number(value: Any) -> float | int:
    """As lm-eval has it, so that sums are the same: a whole number stays one."""
    return value if type(value) in (int, float) else np.asarray(value).item()


def _handover(instances: Sequence[Any]) -> dict[str, Any]:
    """What each request got: log-likelihood and whether it is greedy, or the text."""
    arrays: dict[str, Any] = {
        "document": np.array([i.doc_id for i in instances], np.int64),
        "request": np.array([i.idx for i in instances], np.int64),
    }
    first = [instance.resps[0] for instance in instances]
    if isinstance(first[0], str):
        return arrays | {"text": np.array(first, np.str_)}
    arrays["loglikelihood"] = np.array([answer[0] for answer in first], np.float64)
    arrays["greedy"] = np.array([answer[1] for answer in first], np.bool_)
    return arrays
