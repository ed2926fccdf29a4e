"""Downstream tasks on tiny models: what is packed, shared, sharded and resumed changes no score."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from methods.apply import applied, weights_replaced
from methods.registry import create
from methods.training import fitted
from sweep.downstream.requests import Prompt, RequestRunner
from sweep.downstream.task import DownstreamTask
from sweep.errors import InputError
from sweep.inputs import models
from sweep.selectors import CacheAwareSelector, Selector, ThresholdSelector, TopKSelector
from sweep.tasks import run as tasks
from sweep.tasks.task import Task
from tests.sweep import tinysweep, tinytasks

SLOTS = {"input": 20, "intermediate": 30}


pytestmark = pytest.mark.usefixtures("one_thread")


def thresholds(scores: torch.Tensor) -> torch.Tensor:
    return scores >= scores.mean(dim=-1, keepdim=True)


class MeanSelector(ThresholdSelector):
    """How many units a token uses varies: those whose score is above the token's mean."""

    def __init__(self) -> None:
        super().__init__(select=None)  # type: ignore[arg-type]
        self._threshold = self  # type: ignore[assignment]

    def mask(self, layer: int, group: str, scores: torch.Tensor, density: float) -> torch.Tensor:
        return thresholds(scores)


SELECTORS: dict[str, Callable[[], Selector | None]] = {
    "dense": lambda: None,
    "topk": TopKSelector,
    "threshold": MeanSelector,
    "cache-aware": lambda: CacheAwareSelector(SLOTS, 0.2, "lfu"),
}


def prompts(seed: int = 0) -> list[Prompt]:
    """Sequences with common beginnings, some short, some equal for several requests."""
    rng = np.random.default_rng(seed)
    shots = rng.integers(1, 250, size=150).tolist()
    made = []
    for i, length in enumerate([20, 40, 33, 65, 5, 17, 90, 34]):
        own = rng.integers(1, 250, size=length).tolist()
        tokens = own if length == 5 else [*shots, *own]
        made.append(Prompt(tuple(tokens), outputs=1 + i % 4, times=1 + i % 2))
    return made


def alone(model: Any, selector: Selector | None, prompt: Prompt) -> torch.Tensor:
    """The plain way: a pass over the whole sequence with the model's own attention."""
    if selector:
        selector.begin_window(len(prompt.tokens))
    return model(input_ids=torch.tensor([prompt.tokens])).logits[0, -prompt.outputs :]


def in_use(model: Any, selector: Selector | None) -> Any:
    return applied(model, create("dip", 0.5), selector) if selector else nullcontext()


@pytest.mark.parametrize("name", SELECTORS)
def test_a_request_gets_what_it_gets_alone(name: str, tiny_llama: Path):
    model, asked = models.load(str(tiny_llama)), prompts()
    single, chosen = SELECTORS[name](), SELECTORS[name]()
    with torch.inference_mode():
        with in_use(model, single):
            expected = [alone(model, single, prompt) for prompt in asked]
        found: dict[int, torch.Tensor] = {}
        with in_use(model, chosen), RequestRunner(model, chosen).open() as sessions:
            sessions.score(asked, found.__setitem__)
    assert model.config._attn_implementation == "sdpa"
    for i, logits in enumerate(expected):
        assert (found[i] - logits).abs().max() < 1e-4
    if single is None:
        return
    reads = single.drain()
    lengths = np.repeat([p.times for p in asked], [len(p.tokens) for p in asked])
    for group, read in reads.items():
        assert sessions.prefill.used[group] == (read.used * lengths).sum()
        if read.hits is not None:
            assert sessions.prefill.hits[group] == (read.hits * lengths).sum()
    assert sessions.prefill.tokens == sum(p.times * len(p.tokens) for p in asked)


@pytest.mark.parametrize("name", ["topk", "cache-aware"])
def test_neither_order_nor_company_matters(name: str, tiny_phi3: Path):
    model, asked = models.load(str(tiny_phi3)), prompts(1)
    runs = []
    for order in (range(8), reversed(range(8)), [6]):
        chosen, found = SELECTORS[name](), {}
        order = list(order)
        with (
            torch.inference_mode(),
            in_use(model, chosen),
            RequestRunner(model, chosen).open() as sessions,
        ):
            sessions.score([asked[i] for i in order], found.__setitem__)
        runs.append(found[order.index(6)])
    assert torch.allclose(runs[0], runs[1], atol=1e-5)
    assert torch.allclose(runs[0], runs[2], atol=1e-5)


@pytest.mark.parametrize("name", SELECTORS)
def test_generation_token_by_token_is_that_of_the_whole_sequence(name: str, tiny_llama: Path):
    model = models.load(str(tiny_llama))
    asked = [Prompt(p.tokens) for p in prompts(2)[:4]]
    chosen, single = SELECTORS[name](), SELECTORS[name]()
    made: dict[int, list[int]] = {}
    with torch.inference_mode():
        with in_use(model, chosen), RequestRunner(model, chosen).open() as sessions:
            sessions.generate(asked, [6] * 4, lambda *_: False, made.__setitem__)
        with in_use(model, single):
            for i, prompt in enumerate(asked):
                whole = Prompt((*prompt.tokens, *made[i][:-1]), outputs=6)
                assert alone(model, single, whole).argmax(-1).tolist() == made[i]
    assert sessions.prefill.tokens == sum(len(p.tokens) for p in asked)
    assert sessions.decode.tokens == 4 * 5  # the last token is not read any more
    if name == "topk":
        assert 0.4 < sessions.decode.mlp_density() < 0.6


def test_a_model_that_cannot_be_packed_runs_one_request_after_another(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
):
    model, asked = models.load(str(tiny_llama)), [Prompt(p.tokens) for p in prompts(2)[:2]]
    made: list[dict[int, list[int]]] = []
    for packable in (True, False):
        monkeypatch.setattr(models, "packable", lambda _, answer=packable: answer)
        chosen, found = CacheAwareSelector(SLOTS, 0.2, "lfu"), {}
        with (
            torch.inference_mode(),
            in_use(model, chosen),
            RequestRunner(model, chosen).open() as sessions,
        ):
            sessions.generate(asked, [5, 5], lambda *_: False, found.__setitem__)
        made.append(found)
        assert (sessions.prefill.tokens, sessions.decode.tokens) == (
            sum(len(p.tokens) for p in asked),
            8,
        )
    assert made[0] == made[1]


# -- through lm-eval -------------------------------------------------------------------------


METHODS = ["dense", {"method": "dip", "density": 0.5, "gamma": [1, 0.2]}]


def sweep_of(model: Path, folder: Path, text: str, *entries: Any, methods: Any = METHODS) -> Any:
    return tinysweep.sweep_of(model, folder, text, *methods, tasks=list(entries))


def their_own(model: Path, folder: Path, name: str) -> Any:
    """What lm-eval says of the dense model, with its own adapter and its own loop."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(folder), include_defaults=False)
    adapter: Any = HFLM
    lm = adapter(pretrained=models.load(str(model)), tokenizer=models.tokenizer(str(model)))
    return lm_eval.simple_evaluate(lm, tasks=[name], task_manager=manager)["results"]  # type: ignore[index]


def test_merged_scores_are_those_of_lm_eval(tiny_llama: Path, tmp_path: Path, tiny_text: str):
    folder = tinytasks.write(tmp_path / "tasks")
    entries = [
        {"task": str(folder / "both.yaml"), "shard": 3},
        {"task": str(folder / "spoken.yaml"), "shard": 4},
        {"task": str(folder / "odd.yaml"), "name": "normed", "metric": "acc_norm", "shard": 2},
    ]
    sweep = sweep_of(tiny_llama, tmp_path, tiny_text, *entries)
    done, table = tinysweep.run(sweep, tmp_path / "run")
    assert done.failed == []
    dense = table[table.method == "dense"].iloc[0]
    theirs = their_own(tiny_llama, folder, "both")
    assert dense.acc_both == theirs["both"]["acc,none"]
    assert dense.acc_both_stderr == theirs["both"]["acc_stderr,none"]
    assert dense.acc_normed == theirs["odd"]["acc_norm,none"]
    assert dense.acc_normed_stderr == theirs["odd"]["acc_norm_stderr,none"]
    detail = json.loads((tmp_path / "run" / "accuracy.json").read_text())[0]["tasks"]
    for leaf in ("even", "odd"):
        assert detail["both"]["leaves"][leaf]["acc,none"]["value"] == theirs[leaf]["acc,none"]
    spoken = their_own(tiny_llama, folder, "spoken")["spoken"]
    assert dense.acc_spoken == spoken["exact_match,none"]
    assert detail["spoken"]["decode"]["tokens"] > 0
    sparse = table[table.method == "dip"]
    assert sparse.acc_both.notna().all()
    assert (sparse.acc_both_dense == dense.acc_both).all()


def test_a_killed_run_goes_on_where_it_was(
    tiny_llama: Path, tmp_path: Path, tiny_text: str, monkeypatch: pytest.MonkeyPatch
):
    folder = tinytasks.write(tmp_path / "tasks")
    entry = {"task": str(folder / "both.yaml"), "shard": 3}
    sweep = sweep_of(tiny_llama, tmp_path, tiny_text, entry)
    original, ran = tasks.run, []

    def run(task: Task, *arguments: Any) -> Any:
        if task.kind == "score" and len(ran) == 4:
            raise KeyboardInterrupt
        ran.extend([task.key] if task.kind == "score" else [])
        return original(task, *arguments)

    monkeypatch.setattr(tasks, "run", run)
    with pytest.raises(KeyboardInterrupt):
        tinysweep.run(sweep, tmp_path / "cut")
    monkeypatch.setattr(
        tasks, "run", lambda task, *a: (ran.append(task.key), original(task, *a))[1]
    )
    _, resumed = tinysweep.run(sweep, tmp_path / "cut")
    scored = [key for key in ran if ran.count(key) > 1]
    assert scored == []
    monkeypatch.setattr(tasks, "run", original)
    _, whole = tinysweep.run(sweep, tmp_path / "whole")
    names = ["acc_both", "acc_both_stderr", "ppl"]
    assert resumed[names].equals(whole[names])


CHANGED = [
    {"method": "dense", "quant": [{"method": "rtn", "bits": 3, "group_size": 16}]},
    {"method": "sparsegpt", "density": 0.5, "calibration_windows": 2},
    {"method": "dejavu", "density": 0.6, **tinysweep.SMALL_DEJAVU},
    {"method": "dip+lora", "density": 0.6, **tinysweep.SMALL_LORA},
]


def test_trained_methods_and_changed_weights_are_scored_as_by_a_plain_loop(
    tiny_llama: Path, tmp_path: Path, tiny_text: str, monkeypatch: pytest.MonkeyPatch
):
    entry = {"task": str(tinytasks.write(tmp_path / "tasks") / "even.yaml"), "limit": 3}
    sweep = sweep_of(tiny_llama, tmp_path, tiny_text, entry, methods=["dense", *CHANGED])
    original, scored = tasks.run, []

    def run(task: Task, inputs: tuple[Any, ...], *arguments: Any) -> Any:
        answer = original(task, inputs, *arguments)
        if task.kind == "score":
            given = dict(zip(task.payload.get("inputs", {}), inputs, strict=True))
            scored.append((task.payload | task.where, given, answer[1]))
        return answer

    monkeypatch.setattr(tasks, "run", run)
    done, _ = tinysweep.run(sweep, tmp_path / "run")
    assert done.failed == []
    assert (
        sorted(name for _, inputs, _ in scored for name in inputs)
        == ["trained"] * 2 + ["weights"] * 2
    )
    sums = set()
    for payload, inputs, handed in scored:
        expected = plainly(payload, inputs)
        assert np.abs(handed["loglikelihood"] - expected).max() < 1e-4
        sums.add(round(sum(expected), 3))
    assert len(sums) == len(scored) == 5  # every one of them has a say


def plainly(payload: dict[str, Any], inputs: dict[str, Any]) -> list[float]:
    """Log-likelihoods of a shard's requests, one after the other."""
    from lm_eval.models.huggingface import HFLM

    from sweep.downstream import harness

    adapter: Any = HFLM
    model = models.loaded(payload["model"])
    lm = adapter(pretrained=model, tokenizer=models.tokenizer(payload["model"]))
    instances = harness.requests(
        DownstreamTask.from_json(json.loads(payload["asked"])), payload["task"]
    )
    untrained = create(payload["method"], payload["density"], **payload["parameters"])
    found = []
    with (
        weights_replaced(model, inputs.get("weights", {})),
        fitted(model, untrained, inputs.get("trained")) as method,
        torch.inference_mode(),
        applied(model, method) if method.groups else nullcontext(),
    ):
        for instance in instances:
            context, continuation = lm._encode_pair(*instance.args)
            tokens = torch.tensor([(context + continuation)[:-1]])
            rows = model(input_ids=tokens).logits[0, -len(continuation) :].log_softmax(-1)
            found.append(float(rows.gather(1, torch.tensor(continuation)[:, None]).sum()))
    return found


def test_more_documents_take_up_the_shards_that_are_done(
    tiny_llama: Path, tmp_path: Path, tiny_text: str
):
    task = {"task": str(tinytasks.write(tmp_path / "tasks") / "even.yaml"), "shard": 2}
    first, _ = tinysweep.run(
        sweep_of(tiny_llama, tmp_path, tiny_text, task | {"limit": 4}, methods=["dense"]),
        tmp_path / "run",
    )
    more, table = tinysweep.run(
        sweep_of(tiny_llama, tmp_path, tiny_text, task | {"limit": 6}, methods=["dense"]),
        tmp_path / "run",
    )
    assert (first.ran, more.ran) == (2 + 2, 1)
    assert table.acc_even.notna().all()


def asked_of(sweep: Any) -> tuple[DownstreamTask, ...]:
    from sweep.downstream.cards import asked

    return asked(sweep)


def test_what_cannot_be_run_is_said_before_anything_starts(
    tiny_llama: Path, tmp_path: Path, tiny_text: str
):
    folder = tinytasks.write(tmp_path / "tasks")

    def refused(*entries: Any) -> str:
        sweep = sweep_of(tiny_llama, tmp_path, tiny_text, *entries, methods=["dense"])
        with pytest.raises(InputError) as caught:
            tinysweep.run(sweep, tmp_path / "run")
        return str(caught.value)

    assert "neither a task file nor a folder" in refused(str(folder / "evn.yaml"))
    twice = refused(str(folder / "even.yaml"), {"task": str(folder / "even.yaml"), "limit": 1})
    assert "give one of them a name" in twice
    assert "only greedy generation" in failure(tiny_llama, tmp_path, tiny_text, folder)
    (folder / "even.jsonl").unlink()
    assert "even.jsonl" in refused(str(folder / "even.yaml"))
    assert not (tmp_path / "run" / "journal.jsonl").exists()


def failure(model: Path, tmp_path: Path, text: str, folder: Path) -> str:
    """The error of a task that asks for what is not done."""
    entry = {"task": str(folder / "spoken.yaml"), "generation": {"do_sample": True}}
    sweep = sweep_of(model, tmp_path, text, entry, methods=["dense"])
    done, table = tinysweep.run(sweep, tmp_path / "sampled")
    assert table.status.tolist() == ["done"]  # perplexity and speed are measured all the same
    assert done.exit_code == 1
    return done.failed[0]


def test_a_folder_is_asked_for_by_its_one_group(tiny_llama: Path, tmp_path: Path, tiny_text: str):
    folder = tinytasks.write(tmp_path / "tasks")
    (one,) = asked_of(sweep_of(tiny_llama, tmp_path, tiny_text, str(folder)))
    assert (one.name, one.wanted, one.source) == ("both", "both", "file")
    (folder / "both.yaml").unlink()
    with pytest.raises(InputError, match="several tasks"):
        asked_of(sweep_of(tiny_llama, tmp_path, tiny_text, str(folder)))
