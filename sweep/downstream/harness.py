"""lm-evaluation-harness: its tasks, prompts, filters and metrics, on sparse models.

The only file that imports lm_eval. A task is looked at once before a sweep (`look`), and scored in
shards of documents (`score`); `sweep.downstream.merge` puts the shards together.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr
from functools import lru_cache
from pathlib import Path
from typing import Any

import lm_eval
import numpy as np
import torch
from lm_eval.api.registry import get_aggregation
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import (
    handle_stop_sequences,
    normalize_gen_kwargs,
    postprocess_generated_text,
)
from lm_eval.tasks import TaskManager
from torch import Tensor

from methods.apply import applied, weights_replaced
from methods.registry import create
from methods.training import fitted
from sweep.downstream import data as taskdata
from sweep.downstream.local_datasets import local_data
from sweep.downstream.requests import Prompt, Sessions
from sweep.downstream.task import FEWSHOT_SEED, Asked, shards_of
from sweep.errors import InputError
from sweep.inputs import models
from sweep.keys import digest
from sweep.messages import nearest
from sweep.selectors import selector

STOCK = Path(lm_eval.__file__).parent / "tasks"
_GREEDY = {"until", "max_gen_toks", "do_sample", "temperature"}
"""Generation settings that are understood: all of greedy decoding."""


# -- a task before it is run -----------------------------------------------------------------


def look(asked: Asked) -> dict[str, Any]:
    """What a plan must know of a task: its leaves, their documents, prompts and metrics, as JSON.

    Raises InputError if there is no such task, or its data is not here and cannot be had.
    """
    with redirect_stderr(io.StringIO()):  # bars, and advice for authors of tasks
        return _looked(asked)


def _looked(asked: Asked) -> dict[str, Any]:
    loaded = _load(asked)
    leaves = {}
    for name, task in loaded["tasks"].items():
        documents = _documents(task, asked.limit)
        by_document = _built(asked, name)
        leaves[name] = {
            "documents": documents,
            "prompts": [
                digest([_arguments(by_document[i]) for i in range(*shard)])
                for shard in shards_of(documents, asked.shard)
            ],
            "metrics": _metrics(task),
            "output": task.OUTPUT_TYPE,
            "shots": task.get_config("num_fewshot") or 0,
            "settings": digest(_settings(task)),
        }
    groups = {
        name: {
            "leaves": [task.task_name for task in group.get_all_tasks()],
            "metrics": [
                {"metric": m.metric, "weight_by_size": m.weight_by_size, "filters": m.filter_list}
                for m in group.aggregate_metric_list or ()
            ],
        }
        for name, group in loaded.get("groups", {}).items()
    }
    return {"leaves": leaves, "groups": groups, "top": _top(asked, leaves, groups)}


def _top(asked: Asked, leaves: Mapping[str, Any], groups: Mapping[str, Any]) -> str:
    """The task or group whose score is the entry's; empty for a tag, which is a mere list."""
    inside = {leaf for group in groups.values() for leaf in group["leaves"]}
    if asked.wanted in groups or asked.wanted in leaves:
        return asked.wanted
    if len(groups) + len(leaves) == 1:
        return next(iter(leaves))
    outer = [name for name in groups if set(groups[name]["leaves"]) == inside == set(leaves)]
    return outer[-1] if outer else ""


def _metrics(task: Any) -> dict[str, str]:
    """Names of the means that the task reports."""
    mean = get_aggregation("mean")
    return {n: "mean" for n, aggregation in task.aggregation().items() if aggregation is mean}


def _settings(task: Any) -> Any:
    """The task's settings without the places of its files."""
    config = {k: v for k, v in task.dump_config().items() if k != "metadata"}
    version = (task.config.metadata or {}).get("version")
    return [_plain(config), version]


def _plain(value: Any) -> Any:
    """As JSON; a function counts by its name, for its prompts are counted by themselves."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items() if k not in ("data_dir", "data_files")}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str) and ("<function" in value or "functools.partial" in value):
        return "function"
    return value if isinstance(value, str | int | float | bool | None) else type(value).__name__


# -- loading ---------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def _load(asked: Asked) -> Any:
    """lm-eval's tasks and groups of an entry, with its settings; the last ones are kept."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    with _explained(asked), local_data(asked.data or None):
        manager = _manager(asked)
        if asked.wanted not in manager.all_tasks:
            known = manager.all_tasks
            raise InputError(
                f"{asked.place}: no task {asked.wanted!r}{nearest(asked.wanted, known)}"
            )
        loaded = manager.load([asked.wanted])
    for name, task in loaded["tasks"].items():
        if task.OUTPUT_TYPE == "loglikelihood_rolling" or not _metrics(task):
            raise InputError(f"{asked.place}: {name} has no accuracy; `text:` measures perplexity")
        _configure(asked, name, task)
    return loaded


def _manager(asked: Asked) -> TaskManager:
    """Looks only where the task is, so that lm-eval does not read its thousands of files."""
    if asked.source == "file":
        return TaskManager(include_path=asked.folder, include_defaults=False)
    if asked.task in taskdata.KNOWN:
        folder = STOCK / taskdata.KNOWN[asked.task].folder
        return TaskManager(include_path=str(folder), include_defaults=False)
    return _every_task()


@lru_cache(maxsize=1)
def _every_task() -> TaskManager:
    return TaskManager()


def _configure(asked: Asked, name: str, task: Any) -> None:
    """Shots, generation settings and seed, as lm-eval's own command would set them."""
    default = task.get_config("num_fewshot")
    if asked.shots is not None and default != 0:
        task.set_config(key="num_fewshot", value=asked.shots)
    elif default is None:
        task.set_config(key="num_fewshot", value=0)
    if asked.generation and task.OUTPUT_TYPE == "generate_until":
        settings = {k: list(v) if isinstance(v, tuple) else v for k, v in asked.generation}
        task.set_config(key="generation_kwargs", value=settings, update=True)
    task.set_fewshot_seed(seed=FEWSHOT_SEED + asked.seed)
    if task.get_config("num_fewshot") and not len(task.sampler.df):
        raise InputError(
            f"{asked.place}: the data that is here has no examples to show before a question of "
            f"{name}; ask for shots: 0, or give data with them (data:)"
        )


@contextmanager
def _explained(asked: Asked) -> Iterator[None]:
    """What lm-eval and the hub raise where a task cannot be had, as one sentence."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
        known = "" if asked.source == "file" else taskdata.advice(asked.task)
        raise InputError(
            f"{asked.place}: task {asked.task} cannot be loaded: {reason}{known}"
        ) from (error)


# -- requests --------------------------------------------------------------------------------


def requests(asked: Asked, leaf: str) -> list[Any]:
    """lm-eval's requests of one task of an entry, document after document."""
    return [instance for own in _built(asked, leaf).values() for instance in own]


@lru_cache(maxsize=2)
def _built(asked: Asked, leaf: str) -> dict[int, list[Any]]:
    """lm-eval's requests of a task, by document; few-shot examples are drawn in their order."""
    task = _load(asked)["tasks"][leaf]
    task.set_fewshot_seed(seed=FEWSHOT_SEED + asked.seed)
    task.build_all_requests(limit=asked.limit, rank=0, world_size=1)
    found: dict[int, list[Any]] = {}
    for instance in task.instances:
        found.setdefault(instance.doc_id, []).append(instance)
    return found


def _documents(task: Any, limit: int | None) -> int:
    have = len(task.eval_docs)
    return have if limit is None else min(have, limit)


def _arguments(instances: Sequence[Any]) -> list[Any]:
    return [_plain(list(instance.args)) for instance in instances]


# -- scoring ---------------------------------------------------------------------------------


def score(
    payload: dict[str, Any], inputs: dict[str, Any], device: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metrics of each document of a shard, and what was read; hands over what each request got.

    The input `weights` takes the place of the model's own, `trained` is what the training made.
    """
    torch.set_num_threads(payload["threads"])
    asked, leaf = Asked.from_json(json.loads(payload["asked"])), payload["task"]
    task, documents = _load(asked)["tasks"][leaf], _built(asked, leaf)
    begin, end = payload["documents"]
    instances = [instance for i in range(begin, end) for instance in documents[i]]
    if digest([_arguments(documents[i]) for i in range(begin, end)]) != payload["prompts"]:
        raise InputError(f"the data of {leaf} is not what it was when the sweep was planned")
    model = models.loaded(payload["model"], payload["dtype"], device)
    untrained = create(payload["method"], payload["density"], **payload["parameters"])
    chosen = selector(payload["selector"], inputs) if untrained.groups else None
    with (
        weights_replaced(model, inputs.get("weights", {})),
        fitted(model, untrained, inputs.get("trained")) as method,
        torch.inference_mode(),
        applied(model, method, chosen) if chosen else nullcontext(),
        Sessions(model, chosen, share=payload.get("share", True)).open() as sessions,
    ):
        lm = SparseLM(model, models.tokenizer(payload["model"]), sessions, asked.max_length)
        _answer(lm, instances)
    values = _values(task, instances)
    prefill, decode = sessions.prefill, sessions.decode
    result = {
        "values": values,
        "documents": end - begin,
        "prefill": prefill.to_json() | {"mlp_density": prefill.mlp_density()},
        "decode": decode.to_json() | {"mlp_density": decode.mlp_density()},
        "device": device,
    }
    return result, _handover(instances)


def _answer(lm: SparseLM, instances: Sequence[Any]) -> None:
    """Let the model answer all requests, repeated ones as often as is asked."""
    kinds = dict.fromkeys(instance.request_type for instance in instances)
    for kind in kinds:
        own = [i for i in instances if i.request_type == kind]
        requests = [instance for instance in own for _ in range(instance.repeats or 1)]
        for instance in own:
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
    means = _metrics(task)
    values: dict[str, list[float]] = {}
    for name in instances[0].filtered_resps:
        for own in documents.values():
            own.sort(key=lambda instance: instance.idx)
            answers = [instance.filtered_resps[name] for instance in own]
            for metric, value in task.process_results(own[0].doc, answers).items():
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


_Adapter: Any = HFLM  # its registration hides its type


class SparseLM(_Adapter):
    """lm-eval's own adapter, for its tokens and truncation, with every pass made by `Sessions`."""

    def __init__(
        self, model: Any, tokenizer: Any, sessions: Sessions, max_length: int | None = None
    ) -> None:
        super().__init__(pretrained=model, tokenizer=tokenizer, max_length=max_length)
        self.sessions = sessions

    def _loglikelihood_tokens(
        self, requests: Any, disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """(log-likelihood, is greedy) of (_, context, continuation) requests, in their order.

        Requests whose inputs are equal, as those of answers of one token, are one prompt.
        """
        by_input: dict[tuple[int, ...], list[int]] = {}
        for i, (_, context, continuation) in enumerate(requests):
            tokens = (list(context) + list(continuation))[-(self.max_length + 1) :][:-1]
            by_input.setdefault(tuple(tokens), []).append(i)
        answers: list[Any] = [None] * len(requests)
        members = list(by_input.values())
        prompts = [
            Prompt(tokens, max(len(requests[i][2]) for i in own), len(own))
            for tokens, own in by_input.items()
        ]

        def take(place: int, logits: Tensor) -> None:
            found = torch.log_softmax(logits, dim=-1)
            greedy = found.argmax(dim=-1)
            for i in members[place]:
                wanted = torch.tensor(requests[i][2], device=found.device)
                rows = found[-len(wanted) :]
                total = rows.gather(1, wanted[:, None])[:, 0].sum()
                answers[i] = float(total), bool((greedy[-len(wanted) :] == wanted).all())

        self.sessions.score(prompts, take)
        return answers

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        """The greedy continuation of each request up to a stop sequence, in their order."""
        eos = self.tok_decode([self.eot_token_id], skip_special_tokens=False)
        prompts, most, stops = [], [], []
        for context, settings in (request.args for request in requests):
            kwargs: Any = normalize_gen_kwargs(settings, self.max_gen_toks)
            _check_greedy(kwargs)
            stops.append(handle_stop_sequences(kwargs["until"], eos=eos))
            most.append(kwargs["max_gen_toks"])
            room = self.max_length - most[-1]
            if room <= 0:
                raise InputError(
                    f"max_gen_toks {most[-1]} leaves no room for a prompt in the model's "
                    f"{self.max_length} tokens"
                )
            ids, _ = self.tok_batch_encode([context], left_truncate_len=room)
            prompts.append(Prompt(tuple(ids[0].tolist())))
        answers = [""] * len(prompts)
        ends = _end_tokens(self.model, self.eot_token_id)

        def ended(place: int, tokens: list[int]) -> bool:
            text = self.tok_decode(tokens) if tokens[-1] not in ends else ""
            return tokens[-1] in ends or any(stop and stop in text for stop in stops[place])

        def take(place: int, tokens: list[int]) -> None:
            text = self.tok_decode(tokens)
            answers[place] = postprocess_generated_text(text, stops[place], None)

        self.sessions.generate(prompts, most, ended, take)
        return answers


def _check_greedy(settings: Mapping[str, Any]) -> None:
    unknown = sorted(settings.keys() - _GREEDY)
    if settings.get("do_sample") or settings.get("temperature") or unknown:
        what = ", ".join(unknown) or "do_sample and temperature"
        raise InputError(f"only greedy generation is done here; the task asks for {what}")


def _end_tokens(model: Any, eos: int) -> set[int]:
    """Tokens at which transformers would end a generation."""
    given = getattr(model.generation_config, "eos_token_id", None)
    return {eos, *(given if isinstance(given, list) else [] if given is None else [given])}
