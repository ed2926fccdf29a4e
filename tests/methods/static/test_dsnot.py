"""DSnoT against its equations worked out weight by weight, and what it does to the tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import methods
from methods.apply import weights_replaced
from methods.base import MethodError
from methods.static.dsnot import DSnoT
from methods.static.inputs import Inputs
from methods.static.stream import decoder_layers
from sweep.inputs import models
from tests.methods.lessons import divergence, lesson, logits, windows_of

COLUMNS = {"unstructured": None, "2:4": 4, "4:8": 8}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def windows(tiny_text: str) -> NDArray[np.int64]:
    return windows_of(tiny_text)[:24]


def create(density: float, **parameters: Any) -> DSnoT:
    method = methods.create("dsnot", density, **parameters)
    assert isinstance(method, DSnoT)
    return method


# -- the equations, one weight at a time -------------------------------------------------------


def plain_mask(
    weight: Tensor, windows: list[Tensor], method: DSnoT
) -> tuple[list[list[bool]], list[float]]:
    """The mask and errors of rows; `windows` are inputs [tokens, columns] in float64."""
    every = torch.cat(windows)
    sums = torch.stack([x.sum(0) for x in windows]).mean(0).tolist()
    norms = every.square().sum(0).sqrt().tolist()
    if method.variant == "code":
        inside = sum(len(x) * x.var(0, unbiased=False) for x in windows)
        variances = (inside / len(every)).tolist()  # type: ignore[operator]
    else:
        variances = every.var(0, unbiased=False).tolist()
    h = every.float().T.double() @ every.float().double()
    h = h + 0.01 * h.diagonal().mean() * torch.eye(len(h)).double()
    root = torch.linalg.cholesky(torch.linalg.inv(h), upper=True).diagonal().tolist()
    masks, errors = [], []
    for row in weight.double().tolist():
        metric = [abs(w) * n for w, n in zip(row, norms, strict=True)]
        scores = {
            "wanda": metric,
            "magnitude": [abs(w) for w in row],
            "sparsegpt": [w**2 / u**2 for w, u in zip(row, root, strict=True)],
        }[method.start]
        given = [w * s for w, s in zip(row, sums, strict=True)]
        growth = [abs(d) / v for d, v in zip(given, variances, strict=True)]
        mask, error = plain_row(scores, metric, given, growth, method)
        masks.append(mask)
        errors.append(error)
    return masks, errors


def plain_row(
    scores: list[float],
    metric: list[float],
    given: list[float],
    growth: list[float],
    method: DSnoT,
) -> tuple[list[bool], float]:
    columns, width = len(scores), COLUMNS[method.pattern]
    blocks = [range(i, i + width) for i in range(0, columns, width)] if width else [range(columns)]
    block_of = {column: block for block in blocks for column in block}
    keep = width // 2 if width else int(method.density * columns)
    kept = {j for b in blocks for j in sorted(b, key=lambda j: -scores[j])[:keep]}
    released, started_kept = method.variant == "code", set(kept)
    moved: set[int] = set()
    by_start = released and width is not None
    cost = scores if by_start else metric
    error = sum(given[j] for j in range(columns) if j not in kept)
    first = error
    for _ in range(method.max_cycles):
        if abs(error) <= method.threshold:
            break
        here = kept & started_kept - moved if released else kept
        prunable = {j for j in here if by_start or given[j] * error < 0}
        growable = {
            j
            for j in set(range(columns)) - kept - (moved | started_kept if released else set())
            if given[j] * error > 0 and (width is None or prunable & set(block_of[j]))
        }
        if not growable or not prunable:
            break
        grown = max(growable, key=lambda j: growth[j])
        among = prunable & set(block_of[grown]) if width else prunable
        pruned = min(among, key=lambda j: cost[j])
        after = error - given[grown] + given[pruned]
        if by_start and np.sign(after) != np.sign(first):
            break
        kept = kept - {pruned} | {grown}
        moved |= {grown, pruned}
        error = after
    return [j in kept for j in range(columns)], error


def inputs_of(windows: list[Tensor]) -> Inputs:
    made = Inputs.none(windows[0].shape[1], True, torch.device("cpu"))
    for x in windows:
        made.add(x)
    return made


@pytest.mark.parametrize("variant", ["paper", "code"])
@pytest.mark.parametrize("start", ["wanda", "sparsegpt", "magnitude"])
@pytest.mark.parametrize("pattern", COLUMNS)
def test_masks_are_those_of_the_plain_equations(variant: str, start: str, pattern: str) -> None:
    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(12, 40, generator=generator)
    shift, scale = torch.randn(40, generator=generator), torch.rand(40, generator=generator)
    windows = [torch.randn(30, 40, generator=generator) * scale + shift for _ in range(5)]
    windows = [x.double() for x in windows]
    density = 0.5 if pattern != "unstructured" else 0.4
    method = create(density, variant=variant, start=start, pattern=pattern, max_cycles=9)
    mask, swaps = method.mask(weight, inputs_of(windows))
    expected, errors = plain_mask(weight, windows, method)
    assert swaps.count > 0
    assert mask.tolist() == expected
    assert swaps.after.tolist() == pytest.approx(errors, rel=1e-4, abs=1e-4)


def test_variants_differ_and_no_cycles_leave_the_start() -> None:
    weight = torch.randn(12, 40, generator=torch.Generator().manual_seed(4))
    x = torch.randn(90, 40, generator=torch.Generator().manual_seed(5)).double() + 0.3
    seen = inputs_of([x[:30], x[30:60] * 3, x[60:]])
    paper, code = (create(0.4, variant=name).mask(weight, seen)[0] for name in ("paper", "code"))
    assert not torch.equal(paper, code)
    still, swaps = create(0.4, threshold=1e9).mask(weight, seen)
    wanda = methods.create("wanda", 0.4)
    assert torch.equal(still * weight, wanda.pruned(weight, seen.squares))  # type: ignore[attr-defined]
    assert swaps.count == 0


def test_inputs_that_are_always_alike_do_no_harm() -> None:
    """A variance of 0 speaks for growing; an input that is always 0 is never swapped."""
    weight = torch.randn(6, 16, generator=torch.Generator().manual_seed(1))
    x = torch.randn(50, 16, generator=torch.Generator().manual_seed(2)).double()
    x[:, 3], x[:, 5] = 0, 0.7
    for variant in ("paper", "code"):
        mask, swaps = create(0.5, variant=variant).mask(weight, inputs_of([x]))
        assert (mask.sum(1) == 8).all()
        assert torch.isfinite(swaps.after).all()


# -- on a model --------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["tiny_llama", "tiny_phi3"])
def test_weights_are_kept_ones_exactly_and_errors_of_rows_fall(
    folder: str, windows: NDArray[np.int64], request: pytest.FixtureRequest
) -> None:
    model = models.load(str(request.getfixturevalue(folder)), "float32")
    method = create(0.4, calibration_windows=16)
    found, arrays = method.train(model, lesson(windows))
    parameters = dict(model.named_parameters())
    kept = 0
    for name, array in arrays.items():
        new, old = torch.from_numpy(array), parameters[name]
        assert torch.equal(new[new != 0], old[new != 0])
        assert ((new != 0).sum(1) == int(0.4 * old.shape[1] + 1e-9)).all()
        kept += int((new != 0).sum())
    before, after = found["row_error"]
    assert after < 0.6 * before
    assert found["mlp_density"] == kept / sum(array.size for array in arrays.values())
    assert all(".mlp." in name for name in arrays)


def test_a_layer_sees_the_refined_layers_below_it(
    tiny_llama: Path, windows: NDArray[np.int64]
) -> None:
    """All refined at once, or the second with the first in its place: the same."""
    model = models.load(str(tiny_llama), "float32")
    method = create(0.5)
    _, arrays = method.train(model, lesson(windows[:6]))
    first = {n: a for n, a in arrays.items() if ".layers.0." in n}
    path = "model.layers.1.mlp.down_proj"
    seen: list[Tensor] = []
    hook = model.get_submodule(path).register_forward_pre_hook(
        lambda module, args: seen.append(args[0].double())
    )
    with weights_replaced(model, first):
        logits(model, windows[:6])
    hook.remove()
    weight = model.get_parameter(f"{path}.weight")
    mask, _ = method.mask(weight, inputs_of([*seen[0]]))
    assert np.mean((arrays[f"{path}.weight"] != 0) == mask.numpy()) > 0.999


@pytest.mark.parametrize("density", [0.3, 0.4])
def test_it_is_nearer_to_the_dense_model_than_wanda(
    tiny_llama: Path, windows: NDArray[np.int64], density: float
) -> None:
    model = models.load(str(tiny_llama), "float32")
    dense = logits(model, windows)
    apart = {}
    for cycles, threshold in ((50, 0.1), (1, 1e9)):  # refined; Wanda as it is
        method = create(density, max_cycles=cycles, threshold=threshold)
        _, arrays = method.train(model, lesson(windows))
        apart[threshold] = divergence(dense, logits(model, windows, method, arrays))
    assert apart[0.1] < apart[1e9]


def test_models_of_every_kind_keep_their_types(tiny_llama: Path, windows: Any) -> None:
    model: nn.Module = models.load(str(tiny_llama), "bfloat16")
    method = create(0.5)
    _, arrays = method.train(model, lesson(windows[:4]))
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.uint16)}
    new = method.weights(model, arrays)
    assert {weight.dtype for weight in new.values()} == {torch.bfloat16}
    linears = {
        f"{p}.weight": m for layer in decoder_layers(model) for p, m in layer.linears.items()
    }
    for name, weight in new.items():
        old = linears[name].weight
        assert torch.equal(weight[weight != 0], old[weight != 0])


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"start": "wandaa"}, "start 'wandaa' of dsnot: wanda or sparsegpt or magnitude"),
        ({"variant": "both"}, "variant 'both' of dsnot: paper or code"),
        ({"max_cycles": 0}, "max_cycles 0 of dsnot: a whole number above 0"),
        ({"threshold": -1}, "threshold -1 of dsnot: a number of at least 0"),
        ({"pattern": "1:4"}, "unknown pattern '1:4' of dsnot"),
        ({"calibration_windows": 0}, "calibration_windows 0 of dsnot"),
        ({"starts": "wanda"}, "no parameter 'starts'"),
    ],
)
def test_what_there_is_not_is_refused(own: dict[str, Any], message: str) -> None:
    with pytest.raises(MethodError, match=message):
        methods.create("dsnot", 0.5, **own)


def test_a_pattern_needs_whole_blocks() -> None:
    x = torch.ones(4, 10).double()
    with pytest.raises(MethodError, match="does not fit a matrix of 10 columns"):
        create(0.5, pattern="2:4").mask(torch.ones(2, 10), inputs_of([x]))
