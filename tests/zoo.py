"""`python -m tests.zoo` writes docs/models.md: what becomes of each decoder family.

A tiny random model of every family that transformers has for causal language modelling, made from
its configuration class, goes through the door as a user's folder does. Each is one of these:

runs      the product has the model's own logits, and methods at density 1 have them too
dense     the model runs as it is; methods are refused, by a sentence that names the reason
refused   the product does not load it, and says why
no twin   the family has no tiny instance here, so nothing is said of it
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
FILES = Path(__file__).with_name("models_and_files.md")
"""The part of the page that is written by hand."""
RUNS, DENSE, REFUSED, NO_TWIN = "runs", "dense", "refused", "no twin"
MOST_PARAMETERS = 20_000_000
TOKENS = 24
CLOSE = 2e-4
"""Largest difference of logits at density 1, over the largest logit: rounding in another order."""

VOCABULARY = 264
SIZES: Mapping[str, Any] = {
    **dict.fromkeys(("vocab_size",), VOCABULARY),
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embedding_dim"), 64),
    **dict.fromkeys(
        ("intermediate_size", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim", "n_inner"), 96
    ),
    **dict.fromkeys(
        (
            "num_hidden_layers",
            "n_layer",
            "n_layers",
            "num_layers",
            "decoder_layers",
            "encoder_layers",
        ),
        4,
    ),
    **dict.fromkeys(
        (
            "num_attention_heads",
            "n_head",
            "n_heads",
            "num_heads",
            "decoder_attention_heads",
            "encoder_attention_heads",
        ),
        4,
    ),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "kv_n_heads"), 2),
    **dict.fromkeys(("head_dim", "global_head_dim", "v_head_dim", "attention_head_dim"), 16),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"), 256),
    **dict.fromkeys(("sliding_window", "attention_window_size", "window_size"), 8),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_k", "moe_topk", "top_k_experts"), 2),
    **dict.fromkeys(
        ("moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size"), 32
    ),
    **dict.fromkeys(("n_shared_experts", "n_group", "topk_group", "num_shared_experts"), 1),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "lora_rank"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "index_head_dim"), 8),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads"), 8),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim", "mamba_d_state", "ssm_state_size"), 16),
    **dict.fromkeys(("mamba_n_groups", "n_groups", "mamba_ngroups"), 1),
    **dict.fromkeys(("mamba_chunk_size", "chunk_size"), 32),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 4),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 16),
    **dict.fromkeys(("hidden_size_per_layer_input", "lru_width", "word_embed_proj_dim"), 64),
    "mamba_d_ssm": 128,
    "vocab_size_per_layer_input": VOCABULARY,
    "first_k_dense_replace": 1,
    "block_multiple_of": 16,
    "rotary_dim": 8,
    "state_size": 16,
    "num_kv_shared_layers": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
"""Small sizes under every name that families have for them; each gets those that it knows."""

EXTRA: Mapping[str, Mapping[str, Any]] = {
    "falcon_h1": {"mlp_multipliers": [0.884, 0.586]},
    "gemma4_text": {
        "num_kv_shared_layers": 2,
        "use_double_wide_mlp": True,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
    "lfm2": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
}
"""What makes a family itself, or makes it possible, beside small sizes."""

LEFT_OUT: tuple[tuple[str, ...], ...] = (
    (),
    ("head_dim",),
    ("head_dim", "num_key_value_heads", "num_kv_heads"),
    ("max_position_embeddings",),
)
"""Sizes that are left to the family, tried in turn until one makes a model that runs."""

FAST = ("llama", "phi3", "gemma2", "qwen3", "falcon_h1", "gpt_neox", "mixtral", "lfm2")
"""Families that the quick test looks at."""


@dataclass(frozen=True, slots=True)
class Found:
    """What became of a family."""

    family: str
    model: str
    outcome: str
    reason: str = ""
    attention: str = ""


def families() -> dict[str, str]:
    """Model types of transformers' causal language models, and the name of each class."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return {kind: str(name) for kind, name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items()}


def look(kind: str, folder: Path) -> Found:
    """What becomes of a tiny model of the family; `folder` is empty."""
    name = families()[kind]
    reason = ""
    for left_out in LEFT_OUT:
        try:
            logits = _saved(kind, name, folder, left_out)
        except Exception as error:  # whatever a family needs that is not known here
            reason = reason or _first_line(error)
        else:
            return _through_the_door(kind, name, folder, logits)
    return Found(kind, name, NO_TWIN, reason)


def _through_the_door(kind: str, name: str, folder: Path, logits: Any) -> Found:
    import torch

    from sweep.errors import InputError
    from sweep.inputs import model_trial, models

    ref = str(folder)
    try:
        verdict = model_trial.verdict(ref)
        model = models.load(ref)
    except InputError as error:
        return Found(kind, name, REFUSED, _without(str(error), ref))
    own = run(model)
    if not torch.equal(own, logits):
        largest = float((own - logits).abs().max() / logits.abs().max())
        if largest > CLOSE:
            raise AssertionError(f"{kind}: logits differ by {largest:.2g} after loading")
    refusal = pruned(kind, model, own)
    if refusal or verdict.methods:
        _agree(kind, verdict.methods, refusal)
        reason = verdict.methods or refusal
        return Found(kind, name, DENSE, reason, verdict.attention)
    return Found(kind, name, RUNS, attention=verdict.attention)


def _agree(kind: str, before: str, loaded: str) -> None:
    """What is said before the run must be what the loaded model would say, and the reverse."""
    if not before or not loaded:
        raise AssertionError(f"{kind}: said before the run: {before!r}; when loaded: {loaded!r}")


def pruned(kind: str, model: Any, dense: Any) -> str:
    """Why methods are refused; empty where they run, with the model's logits at density 1, and
    with others at density 0.5."""
    import methods
    from methods.apply import applied
    from methods.mlp import UnsupportedModelError

    for method in ("dip", "glu"):
        try:
            with applied(model, methods.create(method, 1.0)):
                full = run(model)
        except UnsupportedModelError as error:
            return str(error)
        difference = float((full - dense).abs().max() / dense.abs().max())
        if not difference <= CLOSE:
            raise AssertionError(f"{kind}: {method} at density 1 is off by {difference:.2g}")
    layers = set()

    def every_layer(layer: int, group: str, scores: Any, share: float) -> Any:
        from methods.select import topk

        layers.add(layer)
        return topk(layer, group, scores, share)

    with applied(model, methods.create("dip", 0.5), every_layer) as views:
        half = run(model)
    if layers != {view.layer for view in views} or float((half - dense).abs().max()) == 0:
        raise AssertionError(f"{kind}: at density 0.5 only layers {sorted(layers)} are pruned")
    return ""


# -- a tiny model ----------------------------------------------------------------------------


def run(model: Any) -> Any:
    """Logits [tokens, vocabulary] of a few tokens."""
    import torch

    ids = torch.arange(3, 3 + TOKENS)[None] * 7 % 250 + 3
    with torch.inference_mode():
        return model(input_ids=ids).logits[0].float()


def _saved(kind: str, name: str, folder: Path, left_out: tuple[str, ...]) -> Any:
    """Save a tiny random model with a tokenizer; its logits as transformers alone has them."""
    import torch
    import transformers

    config = small_config(kind, left_out)
    model_class: Any = getattr(transformers, name)
    with torch.device("meta"):
        count = sum(p.numel() for p in model_class(config).parameters())
    if count > MOST_PARAMETERS:
        raise ValueError(f"{count:,} parameters with the sizes that are known here")
    torch.manual_seed(0)
    model = model_class(config).eval()
    _fill(model)
    model.config.use_cache = False
    logits = run(model)
    if not torch.isfinite(logits).all():
        raise ValueError("random weights give no finite logits")
    model.save_pretrained(folder)
    _save_tokenizer(folder)
    return logits


def small_config(kind: str, left_out: tuple[str, ...] = ()) -> Any:
    """The family's configuration with small sizes; of one with several parts, the text's."""
    from transformers import CONFIG_MAPPING

    config_class: Any = CONFIG_MAPPING[kind]
    usual = config_class()
    if getattr(usual, "text_config", None) is not None:
        inner = type(usual.text_config)
        return config_class(text_config=inner(**_known(usual.text_config, left_out)).to_dict())
    return config_class(**_known(usual, left_out), **EXTRA.get(kind, {}))


def _known(usual: Any, left_out: tuple[str, ...]) -> dict[str, Any]:
    names = set(vars(usual)) | set(usual.attribute_map) | set(usual.to_dict())
    known = names - {*left_out, *EXTRA.get(usual.model_type, ())}
    return {name: value for name, value in SIZES.items() if name in known}


def _fill(model: Any) -> None:
    import torch

    generator = torch.Generator().manual_seed(0)
    for key, parameter in sorted(model.named_parameters()):
        if parameter.dim() > 1 and "norm" not in key:
            values = torch.randn(parameter.shape, generator=generator) * 0.1
            parameter.data.copy_(values)


def _save_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(BPE(vocab={name: i for i, name in enumerate(names)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    ).save_pretrained(folder)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:120]}" if lines else type(error).__name__


def _without(text: str, ref: str) -> str:
    return text.replace(f"model {ref}", "the model").replace(ref, "…")


# -- the page --------------------------------------------------------------------------------


def look_at_all(kinds: list[str]) -> Iterator[Found]:
    """Each family in turn, in a folder of its own."""
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder:
            try:
                yield look(kind, Path(folder))
            except Exception as error:
                raise AssertionError(f"{kind}: {_first_line(error)}") from error


def page(found: list[Found]) -> str:
    """docs/models.md."""
    import transformers

    counts = {outcome: sum(f.outcome == outcome for f in found) for outcome in MEANINGS}
    lines = [HEAD.format(version=transformers.__version__, total=len(found), **_plain(counts))]
    for outcome, meaning in MEANINGS.items():
        rows = [f for f in found if f.outcome == outcome]
        if rows:
            lines += [f"\n## {meaning[0]} ({len(rows)})\n\n{meaning[1]}\n"]
            lines += _table(outcome, rows)
    return "\n".join(lines) + "\n\n" + FILES.read_text(encoding="utf-8")


def _plain(counts: Mapping[str, int]) -> dict[str, int]:
    return {outcome.replace(" ", "_"): count for outcome, count in counts.items()}


def _table(outcome: str, rows: list[Found]) -> list[str]:
    if outcome == RUNS:
        eager = [f"`{f.family}`" for f in rows if f.attention == "eager"]
        names = ", ".join(f"`{f.family}`" for f in rows)
        return [names + "." + (f"\n\nWith eager attention: {', '.join(eager)}." if eager else "")]
    head = ["| family | why |", "| --- | --- |"]
    return head + [f"| `{f.family}` | {f.reason.replace('|', '/')} |" for f in rows]


HEAD = """# Models and files

## Which families run

A tiny random model of every decoder family of transformers {version}, {total} of them, made from
its configuration class, goes through the same door as yours: `python -m tests.zoo` writes this
page, and a test holds it to what comes out. {runs} run with every method, {dense} run densely
alone, {refused} are refused, and of {no_twin} there is no tiny instance here, so nothing is said
of them. A model of yours is asked again before a run: one MLP of each kind is filled with random
values and compared with `W_down (W_up x * act(W_gate x))`, and the loaded one once more.
"""
MEANINGS: Mapping[str, tuple[str, str]] = {
    RUNS: (
        "Families that run with every method",
        """The logits are the model's own; `dip` and `glu` at density 1 have them too, and at
density 0.5 every layer is pruned.""",
    ),
    DENSE: (
        "Families that run densely alone",
        """`dense` has the model's own logits. Methods are refused, before anything runs, with
these words.""",
    ),
    REFUSED: ("Families that are refused", "Nothing runs; these words say why."),
    NO_TWIN: (
        "Families without a tiny instance",
        "What is needed to make one is not known here; such a model is asked when it is loaded.",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="keep what was found here, and go on from it")
    arguments = parser.parse_args()
    found = _kept(arguments.json)
    known = {f.family for f in found}
    for one in look_at_all([kind for kind in families() if kind not in known]):
        found.append(one)
        print(one.family, one.outcome, one.reason[:100], flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps([asdict(f) for f in found]), encoding="utf-8")
    PAGE.write_text(page(sorted(found, key=lambda f: f.family)), encoding="utf-8")


def _kept(path: Path | None) -> list[Found]:
    if path is None or not path.is_file():
        return []
    return [Found(**one) for one in json.loads(path.read_text(encoding="utf-8"))]


if __name__ == "__main__":
    main()
