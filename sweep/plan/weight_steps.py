"""What must be done to a model's weights before a point can be evaluated; planning, without torch.

Another activation is learnt first; then

quant         static method   steps
none          –               none
q             –               q
none          p               p
q             p               q, then p on the quantised weights: kept ones stay in the format
gptq          sparsegpt       one step: sparsegpt changes kept weights, so it rounds on the way
rtn, gptvq    sparsegpt       refused
none, q       dsnot           as p, but for a training task in place of a step
q             (la-rosa)       none: its training rotates weights, then does what q says
q             losa            refused
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any, cast

from methods.names import Swap
from methods.registry import create, method_class
from methods.static import quantiser as quantisers
from methods.static.pruning import StaticPruning
from methods.static.quantiser import Quantiser
from sweep.plan.point import Quant
from sweep.spec import values as fields
from sweep.spec.names import DEFAULT_BITS, FILE_BITS

if TYPE_CHECKING:
    from methods.static.coded import Coded
    from sweep.plan.point import MethodTraits, Point
    from sweep.spec.entries import QuantEntry


@dataclass(frozen=True, slots=True)
class Step:
    """One transform task: its recipe, and what it works from."""

    recipe: dict[str, Any]
    windows: int
    """Windows of the calibration text that it asks for; 0 if it needs no data."""
    random: bool
    """Whether the seed can change its result."""
    modules: tuple[str, ...]
    """Modules of the methods that it runs."""
    label: str
    learns: bool = False
    """Whether it trains the weights for another activation."""


LEARNING = "methods.activation_training"
"""The module that `sweep.tasks.transform` runs for it."""
HELD_WINDOWS = 8
"""Windows of which nothing is learnt, and the divergence is told."""


def quantiser(quant: Quant) -> Quantiser | None:
    """The quantiser of a point; None for weights that stay as they are."""
    if quant.method == "none":
        return None
    parameters = dict(quant.parameters)
    return quantisers.create(quant.method, quant.bits, quant.group_size, parameters)


def refusal(quant: Quant, method: MethodTraits) -> str:
    """Why a method cannot follow a quantisation; empty if it can."""
    if method.coded:
        code = cast("type[Coded]", method_class(method.name))
        return code.refusal(quant.method, quant.of_file)
    by = quantiser(quant)
    if method.rotates and (by is not None or quant.of_file) and not _follows(quant, method):
        return f"{method.name} rotates weights, and quantised ones are none any more after that"
    if by is None or not method.updates:
        return ""
    if method.trained:
        return f"{method.name} trains the weights that it keeps, and does not round them"
    if by.on_the_way:
        return ""
    return f"{method.name} changes kept weights, and only gptq rounds on the way"


def _follows(quant: Quant, method: MethodTraits) -> bool:
    """Whether a quantisation comes after the rotation of a method, and not before it."""
    return method.quantised_after and quant.method != "none"


def before_rotation(point: Point) -> Point:
    """The point; of one whose weights are quantised as they are rotated, with its own weights."""
    return replace(point, quant=Quant()) if _follows(point.quant, point.traits) else point


def rounding(point: Point) -> Step | None:
    """What the training of a point does to the weights that it rotates; None for nothing."""
    follows = _follows(point.quant, point.traits)
    return _step(None, quantiser(point.quant)) if follows else None


def steps(point: Point, pruned: bool) -> tuple[Step, ...]:
    """From the model's own weights to those that the point runs on; `pruned` by its own method,
    unless a training does that."""
    learnt = _learning(point.swap, point.accuracy.window_tokens) if point.swap else ()
    return (*learnt, *_changes(point, pruned))


def _learning(swap: Swap, window_tokens: int) -> tuple[Step, ...]:
    if not swap.tokens:
        return ()
    windows = max(1, round(swap.tokens / window_tokens)) + HELD_WINDOWS
    recipe = {"activation": swap.activation, "tokens": swap.tokens, "held": HELD_WINDOWS}
    return (Step(recipe, windows, True, (LEARNING,), f"learn {swap}", learns=True),)


def _changes(point: Point, pruned: bool) -> tuple[Step, ...]:
    by = quantiser(point.quant)
    method = create(point.method, point.density, **dict(point.parameters)) if pruned else None
    if not isinstance(method, StaticPruning) or method.trained:
        return (_step(None, by),) if by else ()
    if by is None or method.updates:
        return (_step(method, by),)
    return _step(None, by), _step(method, None)


def _step(pruning: StaticPruning | None, by: Quantiser | None) -> Step:
    parts: tuple[Any, ...] = tuple(part for part in (pruning, by) if part is not None)
    data = [part.calibration_windows for part in parts if part.needs != "nothing"]
    return Step(
        recipe={
            "prune": pruning and _parts(pruning, density=pruning.density),
            "quant": by and _parts(by, bits=by.bits, group_size=by.group_size),
        },
        windows=max(data, default=0),
        random=by is not None and by.random,
        modules=tuple(type(part).__module__ for part in parts),
        label=" ".join(_label(part) for part in parts),
    )


def _parts(part: Any, **sizes: Any) -> dict[str, Any]:
    """What can change a result: of the windows asked for, those that there are."""
    parameters = {k: v for k, v in part.parameters().items() if k != "calibration_windows"}
    return {"method": part.name, **sizes, "parameters": parameters}


def _label(part: StaticPruning | Quantiser) -> str:
    if isinstance(part, Quantiser):
        return quant_label(part.name, part.bits, part.group_size, part.parameters())
    return f"{part.name} {part.density:g} {part.pattern}"


def quant_label(method: str, bits: float, group_size: int, parameters: Mapping[str, Any]) -> str:
    """Quantisation in words: `gptq 3 bit`, or `4 bit`; with what is unusual of it, as its group
    size and `act_order`, so that different weights have different words."""
    words = [] if method == "none" else [method]
    if bits == FILE_BITS:
        return "bits of the file"
    words += [f"{bits:g} bit"] + ([] if group_size == 128 else [f"g{group_size}"])
    for name, value in parameters.items():
        if value != getattr(quantisers.quantiser_class(method), name):
            words.append(name if value is True else f"{name}={value}")
    return " ".join(words)


def quants_of(entries: Iterable[QuantEntry], come_quantised: bool) -> list[Quant]:
    """Of weights that come quantised, those that nothing is done to keep the bits of the file."""
    quants = []
    for entry in entries:
        choices = list(product(*entry.parameters.values()))
        for method, group_size, embedding, values in product(
            entry.method, entry.group_size, entry.embedding_bits, choices
        ):
            as_in_file = come_quantised and method == "none"
            written = dict(zip(entry.parameters, values, strict=True))
            quants += [
                _quant(method, fields.plain(bits), group_size, fields.plain(embedding), written)
                for bits in entry.bits or ((FILE_BITS,) if as_in_file else DEFAULT_BITS)
            ]
    return list(dict.fromkeys(quants))


def _quant(
    method: str, bits: float, group_size: int, embedding_bits: float, written: Mapping[str, object]
) -> Quant:
    """With the quantiser's defaults, so that writing a default changes nothing."""
    by = quantiser(Quant(method, bits, group_size, embedding_bits, tuple(written.items())))
    parameters = tuple(sorted(by.parameters().items())) if by else ()
    return Quant(method, bits, group_size, embedding_bits, parameters)
