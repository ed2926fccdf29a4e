"""The contract of a method as rules that anyone can run: `sweep check-method my_method.py`.

Each rule is tried on small models made here, with separate and with fused projections, and says
what is wrong in a sentence. A method that passes works with every selector, cache and model.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from methods.apply import applied
from methods.attention import attentions
from methods.base import Method, MethodError
from methods.contract_trials import (
    BrokenError,
    all_kept,
    every_third,
    into_attention,
    of_mlp,
    overwrite,
    same,
    units,
)
from methods.density import ATTENTION, COVERS, mlp_density
from methods.mlp import gated_mlps
from methods.registry import create, method_class, parameter_names, reachable, summary
from methods.select import topk
from methods.shared import scoring_parameters
from methods.small_model import SMALL_MODELS, lesson, tokens
from methods.training import fitted

SMALL: Mapping[str, Any] = {
    "width": 16,
    "tokens": 128,
    "epochs": 2,
    "rank": 2,
    "steps": 3,
    "cold": 0,
}
"""Values for parameters of that name, so that a method that is trained takes no time here."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one rule."""

    rule: str
    passed: bool
    reason: str = ""


def check(name: str, **parameters: Any) -> list[Verdict]:
    """Every rule, tried on the registered method of that name."""
    subject = subject_of(name, **parameters)
    return [_verdict(rule, subject) for rule in RULES]


def subject_of(name: str, *models: Callable[[], nn.Module], **parameters: Any) -> Subject:
    """The registered method of that name, to be tried on these models or else on small ones."""
    small = {p: SMALL[p] for p in parameter_names(name) if p in SMALL}
    return Subject(name, {**small, **parameters}, models or SMALL_MODELS)


def _verdict(rule: Rule, subject: Subject) -> Verdict:
    text = (rule.__doc__ or "").strip().splitlines()[0].rstrip(".")
    try:
        rule(subject)
    except BrokenError as broken:
        return Verdict(text, False, str(broken))
    except Exception as error:
        return Verdict(text, False, f"{type(error).__name__}: {error}")
    return Verdict(text, True)


@dataclass(slots=True)
class Subject:
    """The method that is tried, and functions that make the models that it is tried on."""

    name: str
    parameters: Mapping[str, Any]
    models: tuple[Callable[[], nn.Module], ...]
    _arrays: dict[int, dict[str, NDArray[Any]]] = field(default_factory=dict)

    def make(self, density: float | None = None) -> Method:
        """The method at a density, by default in the middle of what it reaches."""
        low, high = reachable(self.name, **self.parameters)
        density = (low + high) / 2 if density is None else density
        return create(self.name, density, **self.parameters)

    @contextmanager
    def ready(self, number: int = 0) -> Iterator[tuple[nn.Module, Method]]:
        """The model of that number, made anew, and the method, trained if it has to be."""
        model, method = self.models[number](), self.make()
        if method.trained and number not in self._arrays:
            self._arrays[number] = method.train(model, lesson())[1]
        with torch.no_grad(), fitted(model, method, self._arrays.get(number)) as ready:
            yield model, ready


Rule = Callable[[Subject], None]


def it_says_what_it_is(subject: Subject) -> None:
    """It has a docstring, and groups that exist and share no matrix."""
    if len(summary(subject.name)) < 20:
        raise BrokenError("the first line of its docstring should say what it leaves out")
    groups = subject.make().groups
    unknown = [group for group in groups if group not in COVERS]
    if unknown:
        raise BrokenError(f"group {unknown[0]!r} is none of {', '.join(COVERS)}")
    covered = [matrix for group in groups for matrix in sorted(COVERS[group][0])]
    twice = sorted({matrix for matrix in covered if covered.count(matrix) > 1})
    if twice:
        raise BrokenError(f"groups {', '.join(groups)} prune {twice[0]} twice")


def its_parameters_make_it_again(subject: Subject) -> None:
    """It is a frozen value, made again by its density and parameters, which are JSON."""
    method = subject.make()
    parameters = json.loads(json.dumps(method.parameters()))
    if create(subject.name, method.density, **parameters) != method:
        raise BrokenError(f"{parameters} make another method")
    hash(method)
    if pickle.loads(pickle.dumps(method)) != method:
        raise BrokenError("it is another method after pickling, so in another process")
    try:
        method.density = 1.0  # type: ignore[misc]
    except dataclasses.FrozenInstanceError:
        return
    raise BrokenError("it can be changed: write @dataclass(frozen=True) over its class")


def its_reach_is_kept(subject: Subject) -> None:
    """A density out of its reach is refused with MethodError."""
    low, high = reachable(subject.name, **subject.parameters)
    for outside in (low - 0.01, high + 0.01):
        try:
            subject.make(outside)
        except MethodError:
            continue
        raise BrokenError(f"density {outside:g} is taken; it reaches {low:g} to {high:g}")


def its_groups_make_its_density(subject: Subject) -> None:
    """The densities of its groups are between 0 and 1 and make the density of the MLP."""
    low, high = reachable(subject.name, **subject.parameters)
    for share in (0.1, 0.5, 0.9, 1.0):
        method = subject.make(low + share * (high - low))
        groups = method.group_densities()
        if tuple(groups) != method.groups:
            raise BrokenError(f"group_densities gives {[*groups]}; groups is {[*method.groups]}")
        if not all(group in COVERS and 0 <= d <= 1 for group, d in groups.items()):
            raise BrokenError(f"at density {method.density:g} the groups have {groups}")
        made = mlp_density(groups) if groups else method.density  # none are pruned as they run
        if abs(made - method.density) > 1e-6:
            raise BrokenError(f"at density {method.density:g} its groups make {made:g}")


def it_asks_once_for_each_group(subject: Subject) -> None:
    """It asks once for each group, in order, with scores that are finite and not negative."""
    with subject.ready() as (model, method):
        calls: list[tuple[str, float]] = []
        view, heads = gated_mlps(model)[0], attentions(model)[0]

        def watch(group: str, scores: Tensor, density: float) -> Tensor:
            count = units(view, group, heads)
            if tuple(scores.shape) != (1, 5, count):
                raise BrokenError(
                    f"scores of {group} are {tuple(scores.shape)}, not [1, 5, {count}]"
                )
            if not bool((torch.isfinite(scores) & (scores >= 0)).all()):
                raise BrokenError(f"scores of {group} must be finite and not negative")
            calls.append((group, density))
            return torch.ones_like(scores)

        method.attention_input(heads, tokens(5, heads.hidden), watch)
        method.attention_output(heads, tokens(5, heads.width), watch)
        out = method.forward(view, tokens(5, view.hidden), watch)
    if calls != list(method.group_densities().items()):
        raise BrokenError(f"it asks {calls}; its groups are {method.group_densities()}")
    if tuple(out.shape) != (1, 5, view.hidden):
        raise BrokenError(f"forward returns {tuple(out.shape)}, not [1, 5, {view.hidden}]")


def with_all_kept_it_is_dense(subject: Subject) -> None:
    """With every unit kept it is the dense MLP and attention, separate or fused, with biases."""
    for number in range(len(subject.models)):
        with subject.ready(number) as (model, method):
            dense = gated_mlps(subject.models[number]() if method.rotates else model)
            for view, before in zip(gated_mlps(model), dense, strict=True):
                x = tokens(4, view.hidden)
                what = f"layer {view.layer}, {type(view.module).__name__}"
                same(method.forward(view, x, all_kept), before.module(x), what)
            for heads in attentions(model):
                for given, made in into_attention(method, heads, all_kept):
                    same(made, given, f"the attention of layer {heads.layer}")


def it_does_not_read_what_it_leaves_out(subject: Subject) -> None:
    """Weights of units that the mask leaves out change nothing."""
    for number in range(len(subject.models)):
        with subject.ready(number) as (model, method):
            view = gated_mlps(model)[1]
            x = tokens(1, view.hidden)
            expected = method.forward(view, x, every_third)
            for group in of_mlp(method):
                overwrite(view, group, torch.arange(units(view, group)) % 3 != 0)
            got = method.forward(view, x, every_third)
            same(got, expected, "after other weights were put into units that are left out")
            pruned = any(group in ATTENTION for group in method.groups)
            for given, made in into_attention(method, attentions(model)[1], every_third):
                left_out = torch.arange(given.shape[-1]) % 3 != 0
                wanted = given.masked_fill(left_out, 0.0) if pruned else given
                same(made, wanted, "what attention gets for units that are left out")


def it_reads_what_it_keeps(subject: Subject) -> None:
    """Weights of units that the mask keeps are read, of each of its groups."""
    for number, group in product(range(len(subject.models)), of_mlp(subject.make())):
        with subject.ready(number) as (model, method):
            view = gated_mlps(model)[1]
            x = tokens(1, view.hidden)
            before = method.forward(view, x, every_third)
            overwrite(view, group, torch.arange(units(view, group)) % 3 == 0)
            if torch.allclose(method.forward(view, x, every_third), before, atol=1e-2):
                raise BrokenError(f"other weights in the units of {group} change nothing")


def calibration_can_make_it(subject: Subject) -> None:
    """Its parameters make it at density 1, where calibration counts its scores for thresholds."""
    low, high = reachable(subject.name, **subject.parameters)
    for density in (low + 0.1 * (high - low), (low + high) / 2, high):
        method = subject.make(density)
        name = method.calibrated_as or subject.name
        counting = scoring_parameters(method_class(name))
        given = {k: v for k, v in method.parameters().items() if k in counting}
        try:
            create(name, 1.0, **given)
        except (MethodError, TypeError, ValueError) as error:
            raise BrokenError(f"with the parameters of density {density:g}: {error}") from None


def tokens_do_not_meet(subject: Subject) -> None:
    """A token's output is the same alone as among others."""
    with subject.ready() as (model, method):
        view = gated_mlps(model)[0]
        x = tokens(6, view.hidden)

        def chosen(group: str, scores: Tensor, density: float) -> Tensor:
            return topk(0, group, scores, density)

        together = method.forward(view, x, chosen)
        alone = [method.forward(view, x[:, i : i + 1], chosen) for i in range(6)]
        same(together, torch.cat(alone, dim=1), "tokens one by one")


def it_keeps_the_type(subject: Subject) -> None:
    """It works in bfloat16 and returns what it was given."""
    with subject.ready() as (model, method):
        view = gated_mlps(model.to(torch.bfloat16))[0]
        out = method.forward(view, tokens(3, view.hidden).to(torch.bfloat16), all_kept)
    if out.dtype != torch.bfloat16:
        raise BrokenError(f"it returns {out.dtype}")


def it_leaves_the_model_as_it_was(subject: Subject) -> None:
    """A model that it was applied to is as before."""
    ids = torch.arange(8)[None]
    with subject.ready() as (model, method):
        before, dense = copy.deepcopy(model.state_dict()), model(input_ids=ids).logits
        with applied(model, method):
            model(input_ids=ids)
        same(model(input_ids=ids).logits, dense, "the dense model afterwards", 0.0)
        after = model.state_dict()
    changed = [name for name, value in before.items() if not torch.equal(after[name], value)]
    if changed or set(after) != set(before):
        raise BrokenError(f"{(changed or [*set(after) ^ set(before)])[0]} has changed")


def training_gives_the_same_twice(subject: Subject) -> None:
    """What it is trained to depends on the lesson alone, and leaves the model as it was."""
    method = subject.make()
    if not method.trained:
        return
    model = subject.models[0]()
    before = copy.deepcopy(model.state_dict())
    first, second = (method.train(model, lesson())[1] for _ in range(2))
    other = [name for name in first if not np.array_equal(first[name], second[name])]
    if other or set(first) != set(second):
        raise BrokenError(f"{(other or ['the set of arrays'])[0]} differs the second time")
    after = model.state_dict()
    if set(after) != set(before) or any(not torch.equal(after[n], v) for n, v in before.items()):
        raise BrokenError("it changed the model")


ON_MODELS: tuple[Rule, ...] = (
    it_asks_once_for_each_group,
    with_all_kept_it_is_dense,
    it_does_not_read_what_it_leaves_out,
    it_reads_what_it_keeps,
    tokens_do_not_meet,
    it_keeps_the_type,
    it_leaves_the_model_as_it_was,
    training_gives_the_same_twice,
)
RULES: tuple[Rule, ...] = (
    it_says_what_it_is,
    its_parameters_make_it_again,
    its_reach_is_kept,
    its_groups_make_its_density,
    calibration_can_make_it,
    *ON_MODELS,
)
