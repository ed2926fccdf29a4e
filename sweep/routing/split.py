"""A dense model with its MLPs split into experts, as a folder that transformers loads.

    split_model("smollm2-135m", Path("moe"), Shape(4, 12, 6))

The family is `glm4_moe`, whose attention is Llama's and whose routers score by sigmoids: routers
whose logits are near 0 mix all chosen experts with weight 1. So with all experts on it is the dense
model again. Only routers learn.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from methods.apply import run_layers
from methods.base import MethodError
from methods.experts.splitting import Shape, SplitMLP, split
from methods.experts.view import RoutedLayer, model_type, routed_layers
from methods.matrices import weight
from methods.mlp import GatedMLP, gated_mlps
from sweep.errors import InputError
from sweep.files.cache import staged
from sweep.inputs import models, texts

FAMILIES = ("llama",)
WINDOW = 512
"""Tokens of a window of calibration text."""
FITTED = 8
"""Windows that experts and routers are fitted on."""
RATE = 0.02
"""Highest step of a router's weights, over their own size."""


def split_model(
    ref: str,
    out: Path,
    shape: Shape,
    *,
    calibration: str = "embedded-c4",
    tokens: int = 0,
    seed: int = 0,
    notify: Callable[[str], None] = print,
) -> float:
    """Write the split model of a dense one to a new folder; routers then learn on `tokens` of the
    calibration text to give what the dense model gives. Returns the share of the energy of routed
    neurons that the chosen experts have.

    Raises InputError for a folder that is there, for a model of another family than Llama's, and
    for a shape that does not fit.
    """
    if out.exists():
        raise InputError(f"{out} exists already")
    dense = models.load(ref)
    if model_type(dense) not in FAMILIES:
        raise InputError(
            f"model {ref} is of family {model_type(dense)}; {', '.join(FAMILIES)} can be split"
        )
    views = gated_mlps(dense)
    try:
        shape.width(views[0].intermediate)
    except MethodError as error:
        raise InputError(f"model {ref}: {error}") from None
    windows = texts.windows(calibration, ref, WINDOW, True, texts.FIRST_WINDOW, slice(0, FITTED))
    splits = []
    for view, x in inputs_of(dense, views, torch.from_numpy(windows)):
        splits.append(split(view, x, shape, seed))
        notify(f"layer {view.layer}: the chosen experts have {splits[-1].share:.0%} of the rest")
    with staged(out) as folder:
        folder.mkdir()
        _write(dense, views, splits, shape, models.prepare(ref), folder)
        if tokens:
            _taught(dense, folder, ref, calibration, tokens, notify)
    return sum(one.share for one in splits) / len(splits)


def inputs_of(
    model: nn.Module, views: list[GatedMLP], windows: Tensor
) -> Iterator[tuple[GatedMLP, Tensor]]:
    """Each MLP with its inputs [tokens, hidden] on the windows [windows, tokens]."""
    seen: dict[int, list[Tensor]] = {}

    def keep(layer: int) -> Callable[..., None]:
        return lambda _module, args: seen.setdefault(layer, []).append(args[0].detach()[0])

    hooks = [view.module.register_forward_pre_hook(keep(view.layer)) for view in views]
    try:
        with torch.inference_mode():
            for window in windows:
                run_layers(model, window[None])
    finally:
        for hook in hooks:
            hook.remove()
    for view in views:
        yield view, torch.cat(seen.pop(view.layer))


# -- the folder ------------------------------------------------------------------------------


def _write(
    model: Any,
    views: list[GatedMLP],
    splits: list[SplitMLP],
    shape: Shape,
    source: Path,
    folder: Path,
) -> None:
    from safetensors.torch import save_file

    tensors = {
        name: value.detach().clone()
        for name, value in model.state_dict().items()
        if ".mlp." not in name and not (name == "lm_head.weight" and _is_tied(model))
    }
    for view, one in zip(views, splits, strict=True):
        tensors |= _layer(view, one)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = _config(model, shape, views[0].intermediate)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    for path in sorted(source.glob("*token*")):
        shutil.copy(path, folder / path.name)


def _is_tied(model: Any) -> bool:
    return bool(model.config.tie_word_embeddings)


def _layer(view: GatedMLP, one: SplitMLP) -> dict[str, Tensor]:
    """Tensors of one MLP under the names that the family's files have."""
    matrices = {name: weight(view, name).detach() for name in ("gate", "up", "down")}
    experts = {"shared_experts": one.shared} | {
        f"experts.{i}": neurons for i, neurons in enumerate(one.routed)
    }
    tensors = {
        f"{view.path}.{place}.{name}_proj.weight": (
            matrix[:, neurons] if name == "down" else matrix[neurons]
        ).contiguous()
        for place, neurons in experts.items()
        for name, matrix in matrices.items()
    }
    tensors[f"{view.path}.gate.weight"] = one.router.contiguous()
    tensors[f"{view.path}.gate.e_score_correction_bias"] = one.bias.contiguous()
    return tensors


_COPIED = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "hidden_act", "max_position_embeddings", "rms_norm_eps"),
    *("attention_bias", "bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings"),
)


def _config(model: Any, shape: Shape, intermediate: int) -> dict[str, Any]:
    dense = model.config.to_dict()
    head = dense.get("head_dim") or dense["hidden_size"] // dense["num_attention_heads"]
    rope = dict(dense.get("rope_parameters") or {"rope_type": "default", "rope_theta": 10000.0})
    return {name: dense.get(name) for name in _COPIED} | {
        "architectures": ["Glm4MoeForCausalLM"],
        "model_type": "glm4_moe",
        "head_dim": head,
        "intermediate_size": intermediate,
        "moe_intermediate_size": shape.width(intermediate),
        "n_routed_experts": shape.routed,
        "n_shared_experts": shape.shared,
        "num_experts_per_tok": shape.chosen,
        "n_group": 1,
        "topk_group": 1,
        "norm_topk_prob": False,
        "routed_scaling_factor": 2.0,
        "first_k_dense_replace": 0,
        "num_nextn_predict_layers": 0,
        "use_qk_norm": False,
        "rope_parameters": rope | {"partial_rotary_factor": 1.0},
        "dtype": "float32",
    }


# -- learning --------------------------------------------------------------------------------


def _taught(
    dense: Any,
    folder: Path,
    ref: str,
    calibration: str,
    tokens: int,
    notify: Callable[[str], None],
) -> None:
    """Adam on KL(dense || split) of the next token, routers alone, one window a step; the written
    files get what they have learnt."""
    from safetensors.torch import load_file, save_file

    model: Any = models.load(str(folder))
    layers = routed_layers(model)
    for layer in layers:
        _weight(layer).requires_grad_(True)
    steps = -(-tokens // WINDOW)
    have = texts.count(calibration, ref, WINDOW, True, make=True, bos=texts.FIRST_WINDOW) or 1
    optimiser = torch.optim.Adam([_weight(layer) for layer in layers])
    size = float(torch.cat([_weight(layer).detach().reshape(-1) for layer in layers]).std())
    for step in range(steps):
        number = (FITTED + step) % have
        window = texts.windows(calibration, ref, WINDOW, True, texts.FIRST_WINDOW, [number])
        ids = torch.from_numpy(window)
        with torch.no_grad():
            wanted = dense(input_ids=ids, use_cache=False).logits.float().log_softmax(dim=-1)
        given = model(input_ids=ids, use_cache=False).logits.float().log_softmax(dim=-1)
        loss = (wanted.exp() * (wanted - given)).sum(dim=-1).mean()
        for group in optimiser.param_groups:
            group["lr"] = RATE * size * (1 - step / steps)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        notify(f"step {step + 1} of {steps}: KL to the dense model {float(loss.detach()):.4f} nats")
    path = folder / "model.safetensors"
    learnt = {f"{layer.path}.gate.weight": _weight(layer).detach() for layer in layers}
    tensors = load_file(path) | {name: value.contiguous() for name, value in learnt.items()}
    save_file(tensors, path, metadata={"format": "pt"})


def _weight(layer: RoutedLayer) -> Tensor:
    weight: Any = layer.router.weight
    return weight
