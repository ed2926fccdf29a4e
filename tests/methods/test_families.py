"""Every model family on a tiny random instance: the view of its MLP, and all methods on it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import methods
from methods.apply import applied, weights_replaced
from methods.experts.rules import Rule
from methods.mlp import UnsupportedModelError, gated_mlps
from methods.registry import method_class
from methods.static.pruning import StaticPruning
from methods.static.recipe import Recipe, changed_weights
from methods.static.stream import changed_layers, decoder_layers

HIDDEN, INTERMEDIATE, LAYERS, TOKENS = 32, 64, 3, 24

SIZES = {
    "vocab_size": 96,
    "hidden_size": HIDDEN,
    "intermediate_size": INTERMEDIATE,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
GEMMA = {"head_dim": 8, "sliding_window": 8}  # shorter than the text, so that masks differ by layer
FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Mistral": {"sliding_window": 8},
    "Phi3": {"sliding_window": 8},
    "Qwen2": {},
    "Qwen3": {"head_dim": 8},
    "Gemma2": GEMMA,
    "Gemma3": {
        **GEMMA,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "Gemma3Multimodal": {},
    "Olmo2": {},
    "SmolLM3": {"no_rope_layers": [1, 1, 0]},
    "Glm4": {"head_dim": 8},
}
FUSED = ("Phi3", "Glm4")
STATIC = ("magnitude", "wanda", "sparsegpt")
LEARNT = ("dsnot", "losa")
DENSE = {"dense", "packed", "dfloat11"}
DYNAMIC = ("glu", "glu-oracle", "gate", "up", "dip", "dip-split", "teal", "wina", "was")


@cache
def made(family: str) -> nn.Module:
    import transformers

    config = dict(FAMILIES[family])
    if family == "Gemma3Multimodal":
        model = transformers.Gemma3ForConditionalGeneration(_multimodal())
    else:
        name = "Gemma3Text" if family == "Gemma3" else family
        shape = getattr(transformers, f"{name}Config")(**SIZES, **config)
        model = getattr(transformers, f"{family}ForCausalLM")(shape)
    _fill(model)
    model.config.use_cache = False
    return model.eval().requires_grad_(False)


def _multimodal() -> Any:
    import transformers

    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    text = SIZES | FAMILIES["Gemma3"]
    return transformers.Gemma3Config(
        text_config=text, vision_config=vision, mm_tokens_per_image=4, image_token_index=95
    )


def _fill(model: nn.Module) -> None:
    rng = np.random.default_rng(0)
    for name, parameter in sorted(model.named_parameters()):
        if "norm" not in name:
            drawn = rng.normal(0.0, 0.15, tuple(parameter.shape)).astype(np.float32)
            parameter.data.copy_(torch.from_numpy(drawn))


def window(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, 90, (1, TOKENS), generator=generator)


def logits(model: nn.Module) -> Tensor:
    with torch.inference_mode():
        return model(input_ids=window()).logits


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def model(family: str) -> nn.Module:
    return made(family)


# -- the view --------------------------------------------------------------------------------


def test_dense_patched_equals_unpatched_exactly(model: nn.Module) -> None:
    before = logits(model)
    with applied(model, methods.create("dense")):
        assert torch.equal(logits(model), before)
    assert torch.equal(logits(model), before)


def test_view_has_the_sizes_and_layers_of_the_text_decoder(model: nn.Module, family: str) -> None:
    views = gated_mlps(model)
    assert [view.layer for view in views] == list(range(LAYERS))
    assert {(view.hidden, view.intermediate) for view in views} == {(HIDDEN, INTERMEDIATE)}
    assert not any("vision" in view.path for view in views)
    names = {name for name, _ in views[0].module.named_children()}
    assert ("gate_up_proj" in names) == (family in FUSED)


def test_view_is_the_equation_of_the_gated_mlp(model: nn.Module, family: str) -> None:
    """W_down (W_up x * act(W_gate x)), with gate and up taken from the weights by name."""
    view = gated_mlps(model)[1]
    parts = dict(view.module.named_parameters())
    if family in FUSED:
        gate, up = parts["gate_up_proj.weight"].chunk(2)  # the gate half is first
    else:
        gate, up = parts["gate_proj.weight"], parts["up_proj.weight"]
    x = torch.randn(1, 5, HIDDEN, generator=torch.Generator().manual_seed(3))
    expected = (view.act(x @ gate.T) * (x @ up.T)) @ parts["down_proj.weight"].T
    assert torch.allclose(view.down(view.glu(x)), expected, atol=1e-6)
    assert torch.allclose(view.module(x), expected, atol=1e-6)


@pytest.mark.parametrize("name", DYNAMIC)
def test_each_method_changes_the_output_and_leaves_the_model(model: nn.Module, name: str) -> None:
    before = logits(model)
    with applied(model, methods.create(name, 0.75)):
        sparse = logits(model)
    assert torch.isfinite(sparse).all()
    assert not torch.equal(sparse, before)
    with applied(model, methods.create(name, 1.0)):
        assert torch.allclose(logits(model), before, atol=1e-5)
    assert torch.equal(logits(model), before)


def test_attention_of_each_family_is_pruned(model: nn.Module) -> None:
    """With all kept it is dense, with a half it is not, and the model is as before."""
    before = logits(model)
    with applied(model, methods.create("active-flow", 1.0)):
        assert torch.allclose(logits(model), before, atol=1e-5)
    with applied(model, methods.create("teal", 1.0, attention=0.5)):
        assert not torch.equal(logits(model), before)
    assert torch.equal(logits(model), before)


# -- changed weights -------------------------------------------------------------------------


def recipe(prune: str = "", quant: str = "", density: float = 0.5) -> Recipe:
    given: dict[str, Any] = {}
    if prune:
        given["prune"] = {"method": prune, "density": density, "parameters": {}}
    if quant:
        given["quant"] = {"method": quant, "bits": 2, "group_size": 16, "parameters": {}}
    return Recipe.load(given)


def changed(model: nn.Module, what: Recipe) -> dict[str, Tensor]:
    return dict(changed_weights(model, [window(1), window(2)], what))


@pytest.mark.parametrize("name", STATIC)
def test_static_pruning_reaches_the_mlps_alone_and_exactly(
    model: nn.Module, family: str, name: str
) -> None:
    before = logits(model)
    what = recipe(prune=name)
    new = changed(model, what)
    assert len(new) == LAYERS * (2 if family in FUSED else 3)
    assert all(".mlp." in parameter for parameter in new)
    zeros = sum(int((weight == 0).sum()) for weight in new.values())
    assert zeros == LAYERS * 3 * HIDDEN * INTERMEDIATE // 2
    assert what.mlp_density(model) == 0.5
    assert torch.equal(logits(model), before)
    with weights_replaced(model, new):
        assert torch.isfinite(logits(model)).all()
        assert not torch.equal(logits(model), before)


@pytest.mark.parametrize("name", ["rtn", "gptq", "gptvq"])
def test_quantisers_reach_every_linear_layer_of_the_decoder(model: nn.Module, name: str) -> None:
    before = logits(model)
    new = changed(model, recipe(quant=name))
    expected = {f"{path}.weight" for layer in decoder_layers(model) for path in layer.linears}
    assert set(new) == expected
    assert all(kind in "".join(new) for kind in ("attn", "mlp"))
    assert not any("vision" in n or "lm_head" in n or "embed" in n for n in new)
    with weights_replaced(model, new):
        assert torch.isfinite(logits(model)).all()
    assert torch.equal(logits(model), before)


def test_layers_are_streamed_as_the_model_runs_them(model: nn.Module) -> None:
    """What reaches each linear layer in the stream is what reaches it in one forward pass."""
    seen: dict[str, Tensor] = {}
    streamed: dict[str, Tensor] = {}

    paths = [path for layer in decoder_layers(model) for path in layer.linears]
    with taken_down(model, paths, seen):
        logits_of(model, [window(1), window(2)])

    def change(layer: Any, path: str, statistic: Tensor | None) -> None:
        assert statistic is not None
        streamed[path] = statistic

    assert list(changed_layers(model, [window(1), window(2)], lambda *_: "moments", change)) == []
    assert list(streamed) == paths
    for path in paths:
        assert torch.equal(streamed[path], seen[path]), path


@contextlib.contextmanager
def taken_down(model: nn.Module, paths: list[str], sums: dict[str, Tensor]) -> Iterator[None]:
    def hook(path: str) -> Any:
        def add(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            x = args[0].reshape(-1, args[0].shape[-1])
            sums[path] = sums.get(path, 0) + x.T @ x

        return add

    handles = [model.get_submodule(p).register_forward_pre_hook(hook(p)) for p in paths]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def logits_of(model: nn.Module, windows: list[Tensor]) -> None:
    with torch.inference_mode():
        for ids in windows:
            model(input_ids=ids)


def test_a_layer_sees_the_changed_layers_below_it() -> None:
    """Quantised as a whole or with its first layer quantised before: the second is the same."""
    model, what = made("Llama"), recipe(quant="gptq")
    new = changed(model, what)
    first = {name: weight for name, weight in new.items() if ".layers.0." in name}
    with weights_replaced(model, first):
        seen: dict[str, Tensor] = {}
        path = "model.layers.1.mlp.down_proj"
        with taken_down(model, [path], seen):
            logits_of(model, [window(1), window(2)])
        quantiser = what.quantiser
        assert quantiser is not None
        weight = model.get_parameter(f"{path}.weight")
        expected = quantiser.quantised(weight, seen[path], 0)
    assert torch.equal(new[f"{path}.weight"], expected)


# -- refusals --------------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "Nemotron": ({"norm_eps": 1e-5}, r"NemotronMLP\) is not a gated MLP"),
    "OPT": ({"ffn_dim": 64, "word_embed_proj_dim": HIDDEN}, r"OPT"),
    "GPT2": ({"n_embd": HIDDEN, "n_layer": 2, "n_head": 4}, r"GPT2"),
    "GPTNeoX": ({}, r"GPTNeoXMLP\) is not a gated MLP"),
    "Mixtral": ({"num_local_experts": 2}, r"mixture of experts"),
    "Qwen2Moe": (
        {"num_experts": 2, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16},
        r"mixture of experts",
    ),
    "BitNet": ({}, r"inner norm"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_unsupported_kinds_are_refused_by_name(kind: str) -> None:
    import transformers

    extra, message = REFUSED[kind]
    config = getattr(transformers, f"{kind}Config")
    head = {"OPT": "OPTForCausalLM", "GPT2": "GPT2LMHeadModel"}.get(kind, f"{kind}ForCausalLM")
    with torch.device("meta"):
        model = getattr(transformers, head)(config(**{**SIZES, **extra}))
    with pytest.raises(UnsupportedModelError, match=message):
        gated_mlps(model)
    with pytest.raises(UnsupportedModelError), applied(model, methods.create("dense")):
        pass
    with pytest.raises(UnsupportedModelError):
        list(changed_weights(model, [], recipe(quant="rtn")))


def test_every_method_of_the_registry_is_known_here() -> None:
    trained = {"dejavu", "cats", "cats+lora", "dip+lora", "dip+lozo", "cett", "scap", "r-sparse"}
    trained |= {"hire", "la-rosa", "shadow-llm", "ffn-skip", "dip-shares"}
    attending = {"active-flow"}  # it needs attention with a view
    static = {n for n in methods.names() if isinstance(methods.create(n, 1.0), StaticPruning)}
    assert static == {*STATIC, *LEARNT}
    rules = {n for n in methods.names() if issubclass(method_class(n), Rule)}
    assert set(methods.names()) - static - trained - attending - rules - DENSE == set(DYNAMIC)
