"""What a run will do with the methods and policies of a sweep, tried beforehand on a small model.

Built-in ones are held to their rules by tests; here their parameters are tried where a run makes
them anew, and a user's own are run: masks by top-k or by the threshold that calibration finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sweep import plugins
from sweep.errors import InputError
from sweep.plan.grid import Grid, expand

if TYPE_CHECKING:
    from sweep.plan.point import Point
    from sweep.spec.entries import Sweep

_TOKENS = 40


@dataclass(frozen=True, slots=True)
class _Use:
    """One way in which a sweep uses a method."""

    method: str
    density: float
    parameters: tuple[tuple[str, Any], ...]
    selector: str
    calibrated: bool


def tried(sweep: Sweep) -> Grid:
    """The sweep's points, after every method and policy of theirs did on a small model what a run
    lets it do. Raises InputError that names the first of each that cannot."""
    grid = expand(sweep)
    uses = dict.fromkeys(_use(point) for point in grid.points if _is_masked(point))
    policies = dict.fromkeys(p.policy for p in grid.points if plugins.origin(p.policy, "policies"))
    faults = [
        *filter(None, map(_fault_of_use, uses)),
        *filter(None, map(_fault_of_policy, policies)),
    ]
    if faults:
        where = f"{sweep.source}: sweeps.{sweep.name}: "
        raise InputError("\n".join(f"{where}{fault}" for fault in dict.fromkeys(faults)))
    return grid


def _is_masked(point: Point) -> bool:
    """Whether neurons are pruned; a rule would need a small mixture of experts."""
    return bool(point.traits.groups) and not point.traits.routes


def _use(point: Point) -> _Use:
    from simulator.policies import policy_class

    by_threshold = point.has_thresholds
    ordered = point.cache_start == "hot" or policy_class(point.policy).needs_start
    selector = point.selector.replace("resident", "layer") if by_threshold else "topk"
    what = (point.method, point.density, point.parameters, selector)
    return _Use(*what, calibrated=by_threshold or ordered)


def _fault_of_use(use: _Use) -> str:
    shown = "".join(f", {name} {value}" for name, value in use.parameters)
    doing = (use.calibrated, _calibration, "it cannot be calibrated, which makes it at density 1")
    masking = (plugins.origin(use.method) is not None, _masks, "it cannot be run")
    for applies, do, what in (doing, masking):
        if applies and (reason := _raised(do, use)):
            return f"method {use.method} at density {use.density:g}{shown}: {what}: {reason}"
    return ""


def _raised(do: Callable[[Any], object], what: Any) -> str:
    try:
        do(what)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return ""


def _calibration(use: _Use) -> Any:
    """Statistics of the small model, made as a calibration task makes them."""
    import torch

    from methods.apply import applied
    from methods.registry import create
    from methods.training import fitted
    from sweep.plan.point import MethodTraits
    from sweep.tasks.calibrate import Statistics

    traits, seen = MethodTraits.of(use.method), Statistics()
    counting = {k: v for k, v in use.parameters if k in traits.calibration_parameters}
    method = create(traits.calibrated_as, 1.0, **counting)
    for model in _models():
        arrays = _learnt(model, method)
        with (
            fitted(model, method, arrays) as ready,
            torch.inference_mode(),
            applied(model, ready, seen),
        ):
            model(input_ids=_words())
    return seen.arrays()


def _masks(use: _Use) -> None:
    """Masks and outputs of the small models at the density asked for."""
    import torch

    from methods.apply import applied
    from methods.registry import create
    from methods.training import fitted
    from sweep.make_selector import make_selector

    inputs = {"calibration": _calibration(use)} if use.selector != "topk" else {}
    method = create(use.method, use.density, **dict(use.parameters))
    for model in _models():
        selector = make_selector({"name": use.selector}, inputs)
        with fitted(model, method, _learnt(model, method)) as ready, torch.inference_mode():
            selector.begin_window(_TOKENS)
            with applied(model, ready, selector):
                logits = model(input_ids=_words()).logits
        if not bool(torch.isfinite(logits).all()):
            raise FloatingPointError("what it answers is not finite")
        missing = [group for group in method.groups if group not in selector.units]
        if missing:
            raise ValueError(f"it never asks for a mask of its group {missing[0]!r}")


def _models() -> Iterator[Any]:
    """The small model with separate and with fused projections."""
    from methods.small_model import SMALL_MODELS

    return (make() for make in SMALL_MODELS)


def _learnt(model: Any, method: Any) -> Any:
    """What a trained method learns from a small lesson."""
    from methods.small_model import lesson

    return method.train(model, lesson())[1] if method.trained else None


def _words() -> Any:
    import torch

    return torch.arange(_TOKENS)[None]


def _fault_of_policy(name: str) -> str:
    reason = _raised(_cached, name)
    return f"policy {name} cannot be run: {reason}" if reason else ""


def _cached(name: str) -> None:
    """Masks of a few tokens through the policy, with a start where it needs one."""
    from simulator.cache import simulate
    from simulator.policies import policy_class

    masks = np.random.default_rng(0).random((_TOKENS, 12)) < 0.4
    starts = [np.arange(12)] if policy_class(name).needs_start else [None, np.arange(12)]
    for start in starts:
        for capacity in (0, 5, 12):
            simulate(masks, capacity, name, start)
