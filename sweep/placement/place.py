"""The model of a task on the GPUs of its process: on the first one, or its layers over several.

Weights go from the files straight to the GPU of their layer. What a layer is given comes to its
GPU first, by hooks that run before those of methods, and what leaves the last layer goes back to
the first GPU. The process keeps the model as it keeps one that lies on a single GPU.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from methods.mlp import UnsupportedModelError, decoder_layers
from sweep.errors import ResourceError
from sweep.inputs import models
from sweep.inputs.model_ref import fingerprint, generation_fingerprint
from sweep.placement.layers import ITEM, Need, logit_bytes, refusal, split, widths, window_bytes

_MIXED = "on the same device"
"""In torch's error of an operation on tensors of different devices."""

_fitting: set[tuple[tuple[str, str, str], bool]] = set()
"""Models that were found to fit, without and with changed weights beside their own."""


@contextmanager
def placed(where: Mapping[str, str], payload: Mapping[str, Any], device: str) -> Iterator[None]:
    """Within, `models.loaded` finds the task's model where it fits.

    Raises ResourceError before a weight is read where it does not fit, and for a method that does
    not run on a model over several GPUs.
    """
    if device != "cuda" or "model" not in where or "dtype" not in payload:
        yield
        return
    spread = _place(where["model"], payload)
    try:
        yield
    except RuntimeError as error:
        if not spread or _MIXED not in str(error):
            raise
        raise ResourceError(
            f"{payload.get('method', 'this task')} does not run on a model that lies on several "
            "GPUs: give it a GPU that holds the model, or evaluate in bfloat16 or on the CPU"
        ) from error


def _place(ref: str, payload: Mapping[str, Any]) -> bool:
    """Whether the model lies on several GPUs."""
    dtype, changed = payload["dtype"], "weights" in payload.get("inputs", {})
    if models._kept.get(_key(ref, dtype)) is None or (_key(ref, dtype), changed) not in _fitting:
        models.prepare(ref)
        need = need_of(models.skeleton(ref), dtype, payload.get("window_tokens", 1))
        _arrange(ref, dtype, need.with_changed() if changed else need)
        _fitting.add((_key(ref, dtype), changed))
    kept = models._kept.get(_key(ref, dtype))
    return kept is not None and len({weight.device for weight in kept.parameters()}) > 1


def _arrange(ref: str, dtype: str, need: Need) -> None:
    """Load the model over several GPUs where the first does not hold it; else leave that to who
    asks for it."""
    rooms = [total_bytes(gpu) for gpu in range(torch.cuda.device_count())]
    if split(need, rooms[:1]) is not None:
        return
    layout = split(need, rooms)
    if layout is None:
        raise ResourceError(refusal(ref, dtype, need, rooms, "this task"))
    models._kept.clear()
    gpus = [torch.device("cuda", gpu) for gpu in range(len(rooms))]
    spread = load_spread(ref, dtype, device_map(models.skeleton(ref), layout, gpus))
    models._kept[_key(ref, dtype)] = spread


def _key(ref: str, dtype: str) -> tuple[str, str, str]:
    """By which `models.loaded` knows the model of a task on a GPU."""
    return fingerprint(ref) + generation_fingerprint(ref), dtype, "cuda"


def total_bytes(gpu: int) -> int:
    """What this process could take on a GPU if it held nothing there yet."""
    free, _ = torch.cuda.mem_get_info(gpu)
    return free + torch.cuda.memory_reserved(gpu)


def need_of(model: Any, dtype: str, tokens: int) -> Need:
    """Of a model by its modules, which may be on the meta device, for windows of `tokens`."""
    item, seen = ITEM[dtype], set()
    sizes = [_new_weights(layer, seen) * item for layer in _layers(model)[1]]
    others = _new_weights(model, seen) * item
    config = model.config.get_text_config()
    window = window_bytes(*widths(config), tokens, item)
    return Need(tuple(sizes), others, window, logit_bytes(config.vocab_size, tokens))


def _new_weights(module: nn.Module, seen: set[int]) -> int:
    """How many weights a module has that were not counted yet, as those of a tied head were."""
    fresh = {id(weight): weight.numel() for weight in module.parameters() if id(weight) not in seen}
    seen.update(fresh)
    return sum(fresh.values())


def _layers(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The decoder's layers by path; none of a model that has no list of them."""
    try:
        return decoder_layers(model)
    except UnsupportedModelError:
        return "", nn.ModuleList()


def device_map(
    model: nn.Module, layout: tuple[int, ...], gpus: list[torch.device]
) -> dict[str, torch.device]:
    """The device of every module that has weights of its own, and of each layer as a whole."""
    path, _ = _layers(model)
    of_layers = {f"{path}.{number}": gpus[gpu] for number, gpu in enumerate(layout)}
    others = {
        name: gpus[0]
        for name, module in model.named_modules()
        if not name.startswith(f"{path}.") and _has_own(module)
    }
    return others | of_layers


def _has_own(module: nn.Module) -> bool:
    own = (*module.parameters(recurse=False), *module.buffers(recurse=False))
    return len(own) > 0


def load_spread(ref: str, dtype: str, devices: dict[str, torch.device]) -> Any:
    """The model with each module on its device, and its inputs brought there."""
    from accelerate.hooks import remove_hook_from_submodules

    model = models.load(ref, dtype, cast(str, devices))  # as transformers takes it
    remove_hook_from_submodules(model)  # ours run before those that methods add
    bring_inputs(model)
    return model


def bring_inputs(model: nn.Module) -> None:
    """Let what each layer is given come to its device, and what leaves the layers go back to that
    of the embedding."""
    path, layers = _layers(model)
    decoder = model.get_submodule(path.rpartition(".")[0])
    first = next(model.parameters()).device
    for layer in layers:
        _take_to(layer, next(layer.parameters()).device)
    for name, module in decoder.named_children():
        if name != path.rpartition(".")[2] and _has_own(module):
            _take_to(module, first)


def _take_to(module: nn.Module, device: torch.device) -> None:
    def before(_: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        return moved(args, device), moved(kwargs, device)

    module.register_forward_pre_hook(before, with_kwargs=True, prepend=True)


def moved(value: Any, device: torch.device) -> Any:
    """Tensors in tuples, lists and mappings on the device; everything else as it is."""
    if isinstance(value, Tensor):
        return value if value.device == device else value.to(device, non_blocking=True)
    if isinstance(value, tuple | list):
        return type(value)(moved(part, device) for part in value)
    if type(value) is dict:
        return {name: moved(part, device) for name, part in value.items()}
    return value
