"""Fixtures shared by all tests: tiny models saved as a user's folder would be, and where data lies.

Weights are drawn by numpy from a fixed seed, so they are the same with every version of torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is, and nothing about the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

WEIGHT_SCALE = 0.15  # large enough that the layers change the logits, small enough for no overflow

TINY = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch on one thread, where equal bits are asked for; as before afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def own_cache(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Keep quick tests off the user's cache and off the network; slow ones use the real cache."""
    if "slow" not in request.keywords:
        monkeypatch.setenv("SWEEP_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True)
def own_registries() -> Iterator[None]:
    """What a test registers is known to that test alone."""
    from methods import registry
    from simulator import policies

    known: list[Any] = [registry._METHODS, policies._CLASSES, policies.POLICIES]
    before = [dict(names) for names in known]
    yield
    for names, earlier in zip(known, before, strict=True):
        names.clear()
        names.update(earlier)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of reference data that may lie beside a checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the reference data (../shared/data) is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def tiny_text() -> str:
    """About 6,000 characters of made-up English, the same every time."""
    words = re.findall(r"\w+", "the cache of a small model keeps what a token reads, not more")
    rng = np.random.default_rng(7)
    lines = (" ".join(rng.choice(words, size=12)).capitalize() + "." for _ in range(100))
    return "\n\n".join(lines)


@pytest.fixture(scope="session")
def tiny_text_file(tiny_text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "tiny.txt"
    path.write_text(tiny_text, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def save_tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function that saves a tiny model: `save_tiny_model("Llama", hidden_act="gelu")`."""
    saved: dict[str, Path] = {}

    def save(family: str = "Llama", seed: int = 0, **config: Any) -> Path:
        key = f"{family} {seed} {sorted(config.items())}"
        if key not in saved:
            folder = tmp_path_factory.mktemp(f"tiny-{family.lower()}")
            _save(folder, family, seed, {**TINY, **config})
            saved[key] = folder
        return saved[key]

    return save


@pytest.fixture(scope="session")
def tiny_llama(save_tiny_model: Callable[..., Path]) -> Path:
    """Separate gate, up and down projections, SiLU, no bias: 48 inputs, 96 neurons, 2 layers."""
    return save_tiny_model("Llama")


@pytest.fixture(scope="session")
def tiny_phi3(save_tiny_model: Callable[..., Path]) -> Path:
    """Gate and up fused in one matrix, gate half first."""
    return save_tiny_model("Phi3")


@pytest.fixture(scope="session")
def tiny_gelu(save_tiny_model: Callable[..., Path]) -> Path:
    """As tiny_llama, with GELU (tanh) as its activation."""
    return save_tiny_model("Llama", hidden_act="gelu_pytorch_tanh")


@pytest.fixture(scope="session")
def tiny_bias(save_tiny_model: Callable[..., Path]) -> Path:
    """As tiny_llama, with biases on the three MLP projections."""
    return save_tiny_model("Llama", mlp_bias=True)


@pytest.fixture(scope="session")
def tiny_ungated(save_tiny_model: Callable[..., Path]) -> Path:
    """An MLP without a gate, which every method must refuse."""
    return save_tiny_model("Nemotron", norm_eps=1e-5)


def _save(folder: Path, family: str, seed: int, config: dict[str, Any]) -> None:
    import transformers

    tokenizer = _byte_tokenizer()
    config_class = getattr(transformers, f"{family}Config")
    model_class = getattr(transformers, f"{family}ForCausalLM")
    model = model_class(config_class(vocab_size=len(tokenizer), **config))
    _fill(model, seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _fill(model: Any, seed: int) -> None:
    """Normal weights from numpy, one stream a parameter, in order of name; norms stay 1."""
    import torch

    rng = np.random.default_rng(seed)
    for name, parameter in sorted(model.named_parameters()):
        if "norm" not in name:
            drawn = rng.normal(0.0, WEIGHT_SCALE, tuple(parameter.shape)).astype(np.float32)
            parameter.data.copy_(torch.from_numpy(drawn))


def _byte_tokenizer() -> Any:
    """One token a byte (256) and one end-of-text token, which is number 0."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: number for number, symbol in enumerate(["<|end|>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>"
    )
