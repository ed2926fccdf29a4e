"""What becomes of a tiny model of a family: it goes through the door as a user's folder does.

runs      the product has the model's own logits, and methods at density 1 have them too
routed    a mixture of experts: the model's own logits through the view of its experts, where rules
          choose these, and bytes for each of its weights
dense     the model runs as it is; methods are refused, by a sentence that names the reason
refused   no sweep runs on it, and the plan says why
no twin   the family has no tiny instance here, so nothing is said of it

Of what runs, the bytes that the simulator counts are those of the model's parameters, and greedy
continuations are those of transformers' `generate`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.zoo import tiny
from tests.zoo.tiny import run

RUNS, ROUTED, DENSE, REFUSED, NO_TWIN = "runs", "routed", "dense", "refused", "no twin"
CLOSE = 2e-4
"""Largest difference of logits at density 1, over the largest logit: rounding in another order."""
CONTINUED = 6
"""Tokens of a continuation."""

FAST = ("llama", "phi3", "gemma2", "qwen3", "falcon_h1", "gpt_neox", "mixtral", "lfm2", "doge")
"""Families that the quick test looks at."""

_GENERATES_NOTHING = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
"""What `generate` of transformers raises on families that it does not know how to call."""


@dataclass(frozen=True, slots=True)
class Found:
    """What became of a family; `generates` is whether transformers itself continues a text with a
    model of it that runs."""

    family: str
    outcome: str
    reason: str = ""
    attention: str = ""
    generates: bool = True


def families() -> list[str]:
    """Model types of transformers' causal language models."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def look_at_all(kinds: list[str]) -> Iterator[Found]:
    """Each family in turn, in a folder of its own."""
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder:
            try:
                yield look(kind, Path(folder))
            except Exception as error:
                raise AssertionError(f"{kind}: {_first_line(error)}") from error


def look(kind: str, folder: Path) -> Found:
    """What becomes of a tiny model of the family; `folder` is empty."""
    if kind in tiny.WITHOUT:
        return Found(kind, NO_TWIN, tiny.WITHOUT[kind])
    reason = ""
    for left_out in tiny.LEFT_OUT:
        place = folder / str(len(left_out))
        try:
            own = tiny.saved(kind, place, left_out)
        except Exception as error:  # whatever a family needs that is not known here
            reason = reason or _first_line(error)
            continue
        found = _through_the_door(kind, place, own)
        if found.outcome in (RUNS, DENSE):
            _tied_sizes(kind, folder / "tied", left_out)
        return found
    return Found(kind, NO_TWIN, reason)


def _through_the_door(kind: str, folder: Path, own: Any) -> Found:
    from sweep.errors import InputError
    from sweep.inputs import model_trial, models

    ref = str(folder)
    sizes = _refused_sizes(ref)
    try:
        verdict = model_trial.verdict(ref)
        model_trial.check(ref, pruned=False)
        model = models.load(ref)
    except InputError as error:
        return Found(kind, REFUSED, sizes or _without(str(error), ref))
    dense = _checked_logits(kind, model, run(own))
    if not sizes and _has_routed_experts(ref):
        _check_experts(kind, ref, model, dense)
        generates = _checked_continuation(kind, model, own)
        return Found(kind, ROUTED, "", verdict.attention, generates)
    refusal = pruned(kind, model, dense)
    if refusal or verdict.methods:
        _agree(kind, verdict.methods, refusal)
    if sizes:
        return Found(kind, REFUSED, sizes)
    check_sizes(kind, ref, model)
    generates = _checked_continuation(kind, model, own)
    outcome = DENSE if refusal else RUNS
    return Found(kind, outcome, verdict.methods, verdict.attention, generates)


def _refused_sizes(ref: str) -> str:
    """Why a plan refuses the model, before anything is loaded; empty if it does not."""
    from sweep.errors import InputError
    from sweep.inputs import model_sizes

    try:
        model_sizes.geometry(ref)
    except InputError as error:
        return _without(str(error), ref)
    return ""


def _agree(kind: str, before: str, loaded: str) -> None:
    """What is said before the run must be what the loaded model would say, and the reverse."""
    if not before or not loaded:
        raise AssertionError(f"{kind}: said before the run: {before!r}; when loaded: {loaded!r}")


# -- logits ----------------------------------------------------------------------------------


def _checked_logits(kind: str, model: Any, logits: Any) -> Any:
    """The model's logits, which must be those of the one that was saved."""
    import torch

    loaded = run(model)
    if not torch.equal(loaded, logits):
        largest = float((loaded - logits).abs().max() / logits.abs().max())
        if largest > CLOSE:
            raise AssertionError(f"{kind}: logits differ by {largest:.2g} after loading")
    return loaded


def pruned(kind: str, model: Any, dense: Any) -> str:
    """Why methods are refused; empty where they run, with the model's logits at density 1, and
    with others at density 0.5."""
    import methods
    from methods.apply import applied
    from methods.mlp import UnsupportedModelError

    for method in ("dip", "glu"):
        try:
            with applied(model, methods.create(method, 1.0)):
                full = run(model)
        except UnsupportedModelError as error:
            return str(error)
        difference = float((full - dense).abs().max() / dense.abs().max())
        if not difference <= CLOSE:
            raise AssertionError(f"{kind}: {method} at density 1 is off by {difference:.2g}")
    layers = set()

    def every_layer(layer: int, group: str, scores: Any, share: float) -> Any:
        from methods.select import topk

        layers.add(layer)
        return topk(layer, group, scores, share)

    with applied(model, methods.create("dip", 0.5), every_layer) as views:
        half = run(model)
    if layers != {view.layer for view in views} or float((half - dense).abs().max()) == 0:
        raise AssertionError(f"{kind}: at density 0.5 only layers {sorted(layers)} are pruned")
    return ""


def _has_routed_experts(ref: str) -> bool:
    from sweep.inputs import model_sizes

    return model_sizes.geometry(ref).experts is not None


def _check_experts(kind: str, ref: str, model: Any, dense: Any) -> None:
    """The router's own choice through the view gives the model's logits, fewer experts others, and
    the geometry has every matrix."""
    import torch

    from methods.experts.apply import routed
    from sweep.inputs import model_sizes

    with routed(model, lambda event: event.stock.clone()):
        stock = run(model)
    with routed(model, lambda event: event.scores == event.scores.amax(-1, keepdim=True)):
        one = run(model)
    if not torch.equal(stock, dense) or torch.equal(one, dense):
        raise AssertionError(f"{kind}: experts are not routed as they are by the model")
    matrices = [
        p.numel()
        for name, p in model.named_parameters()
        if (p.dim() > 1 and not name.endswith("_proj_bias")) or name.endswith("router.bias")
    ]
    if model_sizes.geometry(ref).weights != sum(matrices):
        raise AssertionError(f"{kind}: {model_sizes.geometry(ref).weights} of {sum(matrices)}")


# -- sizes -----------------------------------------------------------------------------------


def check_sizes(kind: str, ref: str, model: Any) -> None:
    """The simulator's bytes, at the bits of the files, must be those of the loaded model's
    matrices, those of embedding and head once where they are one (SEMANTICS 5 leaves out norms)."""
    from simulator import Storage
    from simulator.footprint import weight_bytes
    from sweep.inputs import model_sizes

    stored, geometry = model_sizes.stored(ref), model_sizes.geometry(ref)
    assert stored is not None
    matrices = text_matrices(model)
    right = sum(one.numel() * one.element_size() for one in matrices.values())
    counted = weight_bytes(geometry, Storage(file=stored.bits))
    weights = sum(one.numel() for one in matrices.values())
    have = (stored.bytes, round(sum(counted.values()), 3), geometry.weights)
    if have != (right, right, weights):
        raise AssertionError(f"{kind}: {have} bytes, bytes and weights; right are {right, weights}")


def text_matrices(model: Any) -> dict[str, Any]:
    """The matrices of the text model by name, as `named_parameters` has them: once if shared."""
    towers = ("vision", "audio", "image", "multi_modal", "vq", "sam", "projector")
    return {
        name: one
        for name, one in model.named_parameters()
        if one.dim() == 2 and not any(tower in name for tower in towers)
    }


def _tied_sizes(kind: str, folder: Path, left_out: tuple[str, ...]) -> None:
    """A twin with one embedding for both ends, where the family can have one."""
    from sweep.inputs import models

    model = tiny.saved(kind, folder, left_out, tied=True)
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is not None and head.weight is embedding.weight:
        check_sizes(f"{kind}, tied", str(folder), models.load(str(folder)))


# -- generation ------------------------------------------------------------------------------


def _checked_continuation(kind: str, model: Any, own: Any) -> bool:
    """The product's greedy continuation must be that of `generate`; False if that fails."""
    import torch

    tokens = tiny.prompt()
    try:
        made = own.generate(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=CONTINUED,
            do_sample=False,
            use_cache=True,
            pad_token_id=0,
        )
    except _GENERATES_NOTHING:
        return False
    right = made[0, tokens.shape[1] :].tolist()
    have = continuation(model, tokens[0].tolist())
    if have != right:
        raise AssertionError(f"{kind}: continued with {have}; generate makes {right}")
    return True


def continuation(model: Any, tokens: list[int]) -> list[int]:
    """As a downstream task continues a prompt."""
    from sweep.downstream import packed
    from sweep.downstream.requests import Prompt, RequestRunner

    packed.prove(model)
    given = model.generation_config.eos_token_id
    ends = set(given) if isinstance(given, list) else {given}
    answers: dict[int, list[int]] = {}
    runner = RequestRunner(model, None)
    with runner.open():
        runner.generate(
            [Prompt(tuple(tokens))],
            [CONTINUED],
            lambda _, new: new[-1] in ends,
            answers.__setitem__,
        )
    return answers[0]


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def _without(text: str, ref: str) -> str:
    return text.replace(f"model {ref}: ", "").replace(f"model {ref}", "the model").replace(ref, "…")
