"""What is done to the weights of a model, and doing it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from methods.base import MethodError
from methods.registry import create as create_method
from methods.static import quantiser as quantisers
from methods.static.pruning import StaticPruning
from methods.static.quantiser import Quantiser, Statistic
from methods.static.sparsegpt import SparseGPT
from methods.static.stream import Layer, changed_layers, decoder_layers


@dataclass(frozen=True, slots=True)
class Recipe:
    """Pruning of the MLPs, quantisation of all linear layers of the decoder, or both at once."""

    pruning: StaticPruning | None
    quantiser: Quantiser | None
    seed: int = 0

    @classmethod
    def load(cls, mapping: Mapping[str, Any], seed: int = 0) -> Recipe:
        """The recipe that a task's payload describes. Raises MethodError if there is none."""
        prune, quant = mapping.get("prune"), mapping.get("quant")
        return cls(_pruning(prune) if prune else None, _quantiser(quant) if quant else None, seed)

    def needs(self, in_mlp: bool) -> Statistic:
        """What must be known of the inputs of a linear layer."""
        if in_mlp and self.pruning:
            return self.pruning.needs
        return self.quantiser.needs if self.quantiser else "nothing"

    def changed(self, weight: Tensor, statistic: Tensor | None, in_mlp: bool) -> Tensor | None:
        """The new weight [rows, columns] of a linear layer; None if it stays as it is."""
        if in_mlp and self.pruning:
            return self._pruned(weight, statistic, self.pruning)
        if self.quantiser:
            return self.quantiser.quantised(weight, statistic, self.seed)
        return None

    def mlp_density(self, model: nn.Module) -> float:
        """Share of the MLP weights of `model` that pruning keeps, by number and exactly."""
        if self.pruning is None:
            return 1.0
        shapes = [
            linear.weight.shape
            for layer in decoder_layers(model)
            for path, linear in layer.linears.items()
            if layer.in_mlp(path)
        ]
        kept = sum(self.pruning.kept(*shape) for shape in shapes)
        return kept / sum(rows * columns for rows, columns in shapes)

    def _pruned(self, weight: Tensor, statistic: Tensor | None, by: StaticPruning) -> Tensor:
        if self.quantiser is None:
            return by.pruned(weight, statistic)
        if not isinstance(by, SparseGPT):
            raise MethodError(f"{by.name} prunes quantised weights; it does not round on the way")
        return by.pruned(weight, statistic, self.quantiser)


def _pruning(given: Mapping[str, Any]) -> StaticPruning:
    method = create_method(given["method"], given["density"], **given["parameters"])
    if not isinstance(method, StaticPruning):
        raise MethodError(f"{method.name} does not prune weights once")
    return method


def _quantiser(given: Mapping[str, Any]) -> Quantiser:
    return quantisers.create(
        given["method"], given["bits"], given["group_size"], given["parameters"]
    )


def changed_weights(
    model: nn.Module, windows: Sequence[Tensor], recipe: Recipe
) -> Iterator[tuple[str, Tensor]]:
    """(parameter name, new weight) of every weight that the recipe changes, layer by layer.

    `windows` are token ids [1, tokens]; none are needed where no statistic is. The equations are
    worked out in float32, whatever the type of the model, and the weights returned in its type.
    """

    def needs(layer: Layer, path: str) -> Statistic:
        return recipe.needs(layer.in_mlp(path))

    def change(layer: Layer, path: str, statistic: Tensor | None) -> Tensor | None:
        old = layer.linears[path].weight
        new = recipe.changed(old.float(), statistic, layer.in_mlp(path))
        return None if new is None else new.to(old.dtype)

    yield from changed_layers(model, windows, needs, change)
    if recipe.quantiser and recipe.quantiser.embedding_bits:
        for name, weight in _ends(model):
            new = recipe.quantiser.quantised_embedding(weight.detach().float())
            yield name, new.to(weight.dtype)


def _ends(model: Any) -> list[tuple[str, Tensor]]:
    """Embedding and head by parameter name; one where they are tied."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    weights = [end.weight for end in ends if end is not None]
    return [
        (name, parameter)
        for name, parameter in model.named_parameters()
        if any(parameter is weight for weight in weights)
    ]
