"""lm-evaluation-harness: its tasks, prompts, filters and metrics, on sparse models.

The only file that imports lm_eval. A task is looked at once before a sweep (`look`), and scored in
shards of documents (`sweep.tasks.score`); `sweep.downstream.merge` puts the shards together.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from functools import lru_cache
from pathlib import Path
from typing import Any

import lm_eval
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

from sweep.downstream import data as taskdata
from sweep.downstream.local_datasets import local_data
from sweep.downstream.requests import Prompt, RequestRunner
from sweep.downstream.task import FEWSHOT_SEED, DownstreamTask, shards_of
from sweep.errors import InputError
from sweep.keys import digest
from sweep.messages import nearest

STOCK = Path(lm_eval.__file__).parent / "tasks"
_GREEDY = {"until", "max_gen_toks", "do_sample", "temperature"}
"""Generation settings that are understood: all of greedy decoding."""


# -- a task before it is run -----------------------------------------------------------------


def look(entry: DownstreamTask) -> dict[str, Any]:
    """What a plan must know of a task: its leaves, their documents, prompts and metrics, as JSON.

    Raises InputError if there is no such task, or its data is not here and cannot be had.
    """
    with redirect_stderr(io.StringIO()):  # bars, and advice for authors of tasks
        return _looked(entry)


def _looked(entry: DownstreamTask) -> dict[str, Any]:
    loaded = load(entry)
    leaves = {}
    for name, task in loaded["tasks"].items():
        documents = _documents(task, entry.limit)
        by_document = built(entry, name)
        leaves[name] = {
            "documents": documents,
            "prompts": [
                digest([arguments(by_document[i]) for i in range(*shard)])
                for shard in shards_of(documents, entry.shard)
            ],
            "metrics": metrics(task),
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
    return {"leaves": leaves, "groups": groups, "top": _top(entry, leaves, groups)}


def _top(entry: DownstreamTask, leaves: Mapping[str, Any], groups: Mapping[str, Any]) -> str:
    """The task or group whose score is the entry's; empty for a tag, which is a mere list."""
    inside = {leaf for group in groups.values() for leaf in group["leaves"]}
    if entry.wanted in groups or entry.wanted in leaves:
        return entry.wanted
    if len(groups) + len(leaves) == 1:
        return next(iter(leaves))
    outer = [name for name in groups if set(groups[name]["leaves"]) == inside == set(leaves)]
    return outer[-1] if outer else ""


def metrics(task: Any) -> dict[str, str]:
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
def load(entry: DownstreamTask) -> Any:
    """lm-eval's tasks and groups of an entry, with its settings; the last ones are kept."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    with _explained(entry), local_data(entry.data or None):
        manager = _manager(entry)
        if entry.wanted not in manager.all_tasks:
            names = manager.all_tasks
            raise InputError(
                f"{entry.place}: no task {entry.wanted!r}{nearest(entry.wanted, names)}"
            )
        loaded = manager.load([entry.wanted])
    for name, task in loaded["tasks"].items():
        if task.OUTPUT_TYPE == "loglikelihood_rolling" or not metrics(task):
            raise InputError(f"{entry.place}: {name} has no accuracy; `text:` measures perplexity")
        _configure(entry, name, task)
    return loaded


def _manager(entry: DownstreamTask) -> TaskManager:
    """Looks only where the task is, so that lm-eval does not read its thousands of files."""
    if entry.source == "file":
        return TaskManager(include_path=entry.folder, include_defaults=False)
    if entry.task in taskdata.KNOWN:
        folder = STOCK / taskdata.KNOWN[entry.task].folder
        return TaskManager(include_path=str(folder), include_defaults=False)
    return _every_task()


@lru_cache(maxsize=1)
def _every_task() -> TaskManager:
    return TaskManager()


def _configure(entry: DownstreamTask, name: str, task: Any) -> None:
    """Shots, generation settings and seed, as lm-eval's own command would set them."""
    default = task.get_config("num_fewshot")
    if entry.shots is not None and default != 0:
        task.set_config(key="num_fewshot", value=entry.shots)
    elif default is None:
        task.set_config(key="num_fewshot", value=0)
    if entry.generation and task.OUTPUT_TYPE == "generate_until":
        settings = {k: list(v) if isinstance(v, tuple) else v for k, v in entry.generation}
        task.set_config(key="generation_kwargs", value=settings, update=True)
    task.set_fewshot_seed(seed=FEWSHOT_SEED + entry.seed)
    if task.get_config("num_fewshot") and not len(task.sampler.df):
        raise InputError(
            f"{entry.place}: the data that is here has no examples to show before a question of "
            f"{name}; ask for shots: 0, or give data with them (data:)"
        )


@contextmanager
def _explained(entry: DownstreamTask) -> Iterator[None]:
    """What lm-eval and the hub raise where a task cannot be had, as one sentence."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
        advice = "" if entry.source == "file" else taskdata.advice(entry.task)
        raise InputError(
            f"{entry.place}: task {entry.task} cannot be loaded: {reason}{advice}"
        ) from (error)


# -- requests --------------------------------------------------------------------------------


def requests(entry: DownstreamTask, leaf: str) -> list[Any]:
    """lm-eval's requests of one task of an entry, document after document."""
    return [instance for of_document in built(entry, leaf).values() for instance in of_document]


@lru_cache(maxsize=2)
def built(entry: DownstreamTask, leaf: str) -> dict[int, list[Any]]:
    """lm-eval's requests of a task, by document; few-shot examples are drawn in their order."""
    task = load(entry)["tasks"][leaf]
    task.set_fewshot_seed(seed=FEWSHOT_SEED + entry.seed)
    task.build_all_requests(limit=entry.limit, rank=0, world_size=1)
    by_document: dict[int, list[Any]] = {}
    for instance in task.instances:
        by_document.setdefault(instance.doc_id, []).append(instance)
    return by_document


def _documents(task: Any, limit: int | None) -> int:
    have = len(task.eval_docs)
    return have if limit is None else min(have, limit)


def arguments(instances: Sequence[Any]) -> list[Any]:
    return [_plain(list(instance.args)) for instance in instances]


# -- the model ------------------------------------------------------------------------------

_Adapter: Any = HFLM  # its registration hides its type


class SparseLM(_Adapter):
    """lm-eval's own adapter, for its tokens and truncation, each pass made by `RequestRunner`."""

    def __init__(
        self, model: Any, tokenizer: Any, runner: RequestRunner, max_length: int | None = None
    ) -> None:
        super().__init__(pretrained=model, tokenizer=tokenizer, max_length=max_length)
        self.runner = runner

    def _loglikelihood_tokens(
        self, requests: Any, disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """(log-likelihood, is greedy) of (_, context, continuation) requests, in their order.

        Requests whose inputs are equal, as those of answers of one token, are one prompt.
        """
        by_input: dict[tuple[int, ...], list[int]] = {}
        for i, (_, context, continuation) in enumerate(requests):
            self._check_fits(context, continuation)
            tokens = (list(context) + list(continuation))[-(self.max_length + 1) :][:-1]
            by_input.setdefault(tuple(tokens), []).append(i)
        answers: list[Any] = [None] * len(requests)
        members = list(by_input.values())
        prompts = [
            Prompt(tokens, max(len(requests[i][2]) for i in same_input), len(same_input))
            for tokens, same_input in by_input.items()
        ]

        def take(index: int, logits: Tensor) -> None:
            log_shares = torch.log_softmax(logits, dim=-1)
            greedy = log_shares.argmax(dim=-1)
            for i in members[index]:
                targets = torch.tensor(requests[i][2], device=log_shares.device)
                rows = log_shares[-len(targets) :]
                total = rows.gather(1, targets[:, None])[:, 0].sum()
                answers[i] = float(total), bool((greedy[-len(targets) :] == targets).all())

        self.runner.score(prompts, take)
        return answers

    def _check_fits(self, context: Sequence[int], continuation: Sequence[int]) -> None:
        """What lm-eval asserts: of an answer that is cut, the rest would be scored."""
        if not context or not continuation:
            raise InputError(f"{'an answer' if context else 'a prompt'} of the task has no tokens")
        if len(continuation) > self.max_length:
            start = self.tok_decode(list(continuation[:12]))
            raise InputError(
                f"the answer {start!r}… has {len(continuation)} tokens, which do not fit the "
                f"model's context of {self.max_length}"
            )

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

        def ended(index: int, tokens: list[int]) -> bool:
            text = self.tok_decode(tokens) if tokens[-1] not in ends else ""
            return tokens[-1] in ends or any(stop and stop in text for stop in stops[index])

        def take(index: int, tokens: list[int]) -> None:
            text = self.tok_decode(tokens)
            answers[index] = postprocess_generated_text(text, stops[index], None)

        self.runner.generate(prompts, most, ended, take)
        return answers


def _check_greedy(settings: Mapping[str, Any]) -> None:
    unknown = sorted(settings.keys() - _GREEDY)
    if settings.get("do_sample") or settings.get("temperature") or unknown:
        what = ", ".join(unknown) or "do_sample and temperature"
        raise InputError(f"only greedy generation is done here; the task asks for {what}")


def _end_tokens(model: Any, eos: int) -> set[int]:
    """Tokens at which transformers would end a generation."""
    ends = getattr(model.generation_config, "eos_token_id", None)
    return {eos, *(ends if isinstance(ends, list) else [] if ends is None else [ends])}
