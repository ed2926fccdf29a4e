"""Each method's equation once more, for one token at a time: weights are zeroed by hand.

Nothing of `methods` or `simulator` is used here. All arithmetic of the MLP is in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

FIT_SLOPE, FIT_SHIFT = 0.98499307, 0.29976478  # Figure 12 of the paper

Equation = Callable[["PlainMLP", Tensor], Tensor]
"""equation(mlp, x [hidden]) -> [hidden]."""


@dataclass
class PlainMLP:
    """The three matrices and biases of one layer's MLP, and its activation."""

    gate: Tensor  # [intermediate, hidden]
    up: Tensor  # [intermediate, hidden]
    down: Tensor  # [hidden, intermediate]
    gate_bias: Tensor
    up_bias: Tensor
    down_bias: Tensor
    act: Callable[[Tensor], Tensor]

    @classmethod
    def of(cls, module: Any, activation: str, dtype: torch.dtype = torch.float64) -> PlainMLP:
        if hasattr(module, "gate_up_proj"):
            intermediate = module.gate_up_proj.weight.shape[0] // 2
            gate, up = module.gate_up_proj.weight.split(intermediate)
            biases = [None, None]
        else:
            gate, up = module.gate_proj.weight, module.up_proj.weight
            biases = [module.gate_proj.bias, module.up_proj.bias]
        down = module.down_proj.weight
        given = [*biases, module.down_proj.bias]
        sizes = [len(gate), len(up), len(down)]
        gate_bias, up_bias, down_bias = (
            torch.zeros(size, dtype=dtype) if bias is None else bias.to(dtype)
            for bias, size in zip(given, sizes, strict=True)
        )
        matrices = gate.to(dtype), up.to(dtype), down.to(dtype)
        return cls(*matrices, gate_bias, up_bias, down_bias, _activation(activation))

    @property
    def sizes(self) -> tuple[int, int]:
        return self.gate.shape[1], self.gate.shape[0]

    def gate_of(self, x: Tensor) -> Tensor:
        return self.act(self.gate @ x + self.gate_bias)

    def up_of(self, x: Tensor) -> Tensor:
        return self.up @ x + self.up_bias

    def only(self, rows: set[int], columns: set[int]) -> PlainMLP:
        """The same MLP with other rows of gate and up, and other columns of down, set to 0."""
        _, intermediate = self.sizes
        keep_row = _indicator(rows, intermediate, self.gate.dtype)
        keep_column = _indicator(columns, intermediate, self.gate.dtype)
        return PlainMLP(
            self.gate * keep_row[:, None],
            self.up * keep_row[:, None],
            self.down * keep_column[None, :],
            self.gate_bias,
            self.up_bias,
            self.down_bias,
            self.act,
        )

    def dense(self, x: Tensor) -> Tensor:
        """Eq. 1 and 2."""
        return self.down @ (self.up_of(x) * self.gate_of(x)) + self.down_bias


def _activation(name: str) -> Callable[[Tensor], Tensor]:
    if name == "silu":
        return lambda v: v / (1 + torch.exp(-v))
    if name == "gelu_pytorch_tanh":
        root = math.sqrt(2 / math.pi)
        return lambda v: 0.5 * v * (1 + torch.tanh(root * (v + 0.044715 * v**3)))
    raise ValueError(name)


def _indicator(kept: set[int], units: int, dtype: torch.dtype) -> Tensor:
    return torch.tensor([float(unit in kept) for unit in range(units)], dtype=dtype)


def largest(scores: Sequence[float], k: int) -> set[int]:
    """The k largest, ties to the lower index."""
    return set(sorted(range(len(scores)), key=lambda unit: (-scores[unit], unit))[:k])


def kept(density: float, units: int) -> int:
    """SEMANTICS 2: floor(density * units + 1e-9), at least 1."""
    return max(1, math.floor(density * units + 1e-9))


def dip_densities(density: float, allocation: str) -> tuple[float, float]:
    """(d_in, d_mid) of DIP."""
    if allocation == "uniform" or density == 1:
        return density, density
    logit = FIT_SLOPE * math.log(density / (1 - density)) + FIT_SHIFT
    d_in = 1 / (1 + math.exp(-logit))
    return d_in, 3 * density - 2 * d_in


def equation(method: str, density: float, **parameters: Any) -> Equation:
    """The method's equation at a density, as a function of one token."""
    if method == "dense":
        return PlainMLP.dense
    if method == "dip":
        d_in, d_mid = dip_densities(density, parameters.get("allocation", "paper"))
        return lambda mlp, x: _dip(mlp, x, kept(d_in, mlp.sizes[0]), kept(d_mid, mlp.sizes[1]))
    own: dict[str, tuple[float, Callable[[PlainMLP, Tensor, int], Tensor]]] = {
        "glu": (3 * density - 2, _glu),
        "glu-oracle": (density, _neurons),
        "gate": ((3 * density - 1) / 2, _gate),
        "up": ((3 * density - 1) / 2, _up),
    }
    share, formula = own[method]
    return lambda mlp, x: formula(mlp, x, kept(share, mlp.sizes[1]))


def _glu(mlp: PlainMLP, x: Tensor, k: int) -> Tensor:
    """Eq. 4: columns of W_down."""
    glu = mlp.up_of(x) * mlp.gate_of(x)
    columns = largest(glu.abs().tolist(), k)
    return mlp.only(set(range(mlp.sizes[1])), columns).dense(x)


def _neurons(mlp: PlainMLP, x: Tensor, k: int) -> Tensor:
    """The oracle: rows of W_up and W_gate, columns of W_down, by abs(GLU(x))."""
    glu = mlp.up_of(x) * mlp.gate_of(x)
    units = largest(glu.abs().tolist(), k)
    return mlp.only(units, units).dense(x)


def _gate(mlp: PlainMLP, x: Tensor, k: int) -> Tensor:
    """Eq. 5: rows of W_up, columns of W_down; W_gate stays."""
    units = largest(mlp.gate_of(x).abs().tolist(), k)
    sparse = mlp.only(units, units)
    sparse.gate = mlp.gate
    return sparse.dense(x)


def _up(mlp: PlainMLP, x: Tensor, k: int) -> Tensor:
    """Rows of W_gate, columns of W_down; W_up stays."""
    units = largest(mlp.up_of(x).abs().tolist(), k)
    sparse = mlp.only(units, units)
    sparse.up = mlp.up
    return sparse.dense(x)


def _dip(mlp: PlainMLP, x: Tensor, k_in: int, k_mid: int) -> Tensor:
    """Eq. 7 and 8: columns of W_up and W_gate by abs(x), then columns of W_down by abs(GLU~)."""
    return dip_with(mlp, x, largest(x.abs().tolist(), k_in), lambda glu: largest(glu, k_mid))


def dip_with(
    mlp: PlainMLP, x: Tensor, inputs: set[int], choose: Callable[[list[float]], set[int]]
) -> Tensor:
    """DIP for the inputs given and the intermediates that `choose` takes by abs(GLU~)."""
    hidden, intermediate = mlp.sizes
    keep = _indicator(inputs, hidden, x.dtype)[None, :]
    sparse = mlp.only(set(range(intermediate)), set(range(intermediate)))
    sparse.gate, sparse.up = mlp.gate * keep, mlp.up * keep
    glu = sparse.up_of(x) * sparse.gate_of(x)
    columns = _indicator(choose(glu.abs().tolist()), intermediate, x.dtype)[None, :]
    sparse.down = mlp.down * columns
    return sparse.dense(x)


def layers_of(model: nn.Module) -> list[Any]:
    """The MLP modules of a Llama-like model, in order."""
    return [layer.mlp for layer in model.model.layers]  # type: ignore[union-attr]


@contextmanager
def replaced(
    model: nn.Module,
    formula: Callable[[int, PlainMLP, Tensor], Tensor],
    dtype: torch.dtype = torch.float64,
) -> Iterator[None]:
    """Run each MLP token by token through `formula(layer, mlp, x [hidden])`."""
    modules = layers_of(model)
    name: str = model.config.hidden_act  # type: ignore[union-attr, assignment]

    def install(layer: int, module: Any) -> None:
        mlp = PlainMLP.of(module, name, dtype)

        def forward(x: Tensor) -> Tensor:
            rows = [formula(layer, mlp, row.to(dtype)) for row in x.reshape(-1, x.shape[-1])]
            return torch.stack(rows).reshape(x.shape).to(x.dtype)

        module.forward = forward

    for layer, module in enumerate(modules):
        install(layer, module)
    try:
        yield
    finally:
        for module in modules:
            del module.forward


@contextmanager
def whole_windows(
    model: nn.Module, method: str, density: float, **parameters: Any
) -> Iterator[None]:
    """As `replaced` for a Llama's modules, with each product over a whole window, in its dtype."""
    hidden, intermediate = PlainMLP.of(layers_of(model)[0], "silu").sizes
    d_in, d_mid = dip_densities(density, parameters.get("allocation", "paper"))
    dip, share = method == "dip", {"glu": 3 * density - 2, "glu-oracle": density}
    k = kept(d_mid if dip else share.get(method, (3 * density - 1) / 2), intermediate)

    def install(module: Any) -> None:
        def forward(x: Tensor) -> Tensor:
            if dip:
                x = x * _row_masks(x, kept(d_in, hidden))
            gate, up = module.act_fn(module.gate_proj(x)), module.up_proj(x)
            score = {"gate": gate, "up": up}.get(method, gate * up)
            return module.down_proj(gate * up * _row_masks(score, k))

        module.forward = forward

    for module in layers_of(model):
        install(module)
    try:
        yield
    finally:
        for module in layers_of(model):
            del module.forward


def _row_masks(values: Tensor, k: int) -> Tensor:
    """Mask [1, tokens, units] of the k largest absolute values of each token."""
    rows = values.abs().reshape(-1, values.shape[-1])
    masks = [_indicator(largest(row, k), len(row), values.dtype) for row in rows.tolist()]
    return torch.stack(masks).reshape(values.shape)


def window_nll(model: nn.Module, window: Sequence[int]) -> float:
    """Negative log-likelihood of a window's tokens but the first, summed one by one."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([list(window)])).logits[0].double()
    chances = torch.log_softmax(logits, dim=-1)
    return -sum(float(chances[i, window[i + 1]]) for i in range(len(window) - 1))


def perplexity(losses: Sequence[float], windows: Sequence[Sequence[int]]) -> float:
    """exp(sum of losses / number of predictions)."""
    return math.exp(sum(losses) / sum(len(window) - 1 for window in windows))


def sparse_perplexity(
    model: nn.Module,
    windows: Sequence[Sequence[int]],
    formula: Equation,
    dtype: torch.dtype = torch.float64,
) -> float:
    """Perplexity of the model with its MLPs replaced by `formula`, a window at a time."""
    with replaced(model, lambda _, mlp, x: formula(mlp, x), dtype):
        return perplexity([window_nll(model, window) for window in windows], windows)
