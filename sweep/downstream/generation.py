"""Greedy continuation by transformers' own `generate`: for models that a plain argmax is not it.

`generate` decides what a model is called with, token after token: positions, the kind of cache, and
for LongRoPE when the past is computed anew. And the model's `generation_config.json` may ask for
more than the largest logit, such as a penalty of repeated tokens. lm-eval calls it too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from sweep.errors import InputError

_NAMES = """
    bos_token_id eos_token_id pad_token_id decoder_start_token_id max_length max_new_tokens
    do_sample temperature top_k top_p top_h min_p typical_p epsilon_cutoff eta_cutoff
    early_stopping length_penalty use_cache cache_implementation cache_config transformers_version
    _from_model_config return_dict_in_generate output_attentions output_hidden_states
    output_scores output_logits disable_compile compile_config max_time low_memory
    diversity_penalty num_assistant_tokens num_assistant_tokens_schedule
    assistant_confidence_threshold assistant_early_exit assistant_lookbehind target_lookbehind
    max_matching_ngram_size num_beam_groups is_assistant
"""
_HARMLESS = frozenset(_NAMES.split())
"""Settings that change no token of greedy decoding by themselves."""
_NEUTRAL: dict[str, Any] = {
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "guidance_scale": 1.0,
    "num_beams": 1,
    "num_return_sequences": 1,
    "token_healing": False,
}


def asked(model: Any) -> dict[str, Any]:
    """What the model's generation settings ask for beside the largest logit."""
    settings = model.generation_config.to_dict() if model.generation_config is not None else {}
    return {
        name: value
        for name, value in settings.items()
        if name not in _HARMLESS
        and value not in (None, 0, "", [], {})
        and (name not in _NEUTRAL or value != _NEUTRAL[name])
    }


def check(model: Any) -> None:
    """Raise InputError where the settings ask for more than one sequence at a time."""
    for name in ("num_beams", "num_return_sequences"):
        if asked(model).get(name):
            text = f"{name} {asked(model)[name]}; one sequence at a time is generated here"
            raise InputError(f"the model's generation_config.json asks for {text}")


def continued(
    model: Any, tokens: Sequence[int], most: int, ended: Callable[[list[int]], bool]
) -> tuple[list[int], list[int]]:
    """The greedy continuation of a prompt, and how many tokens each pass of the model took.

    It ends with the token after which `ended` of all new tokens is true, or after `most`.
    """
    ids = torch.tensor([list(tokens)], device=next(model.parameters()).device)

    def stop(output: torch.Tensor, _scores: Any, **_: Any) -> torch.Tensor:
        over = ended(output[0, len(tokens) :].tolist())
        return torch.tensor([over], device=output.device)

    with _lengths(model) as lengths:
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=most,
            do_sample=False,
            use_cache=True,
            disable_compile=True,
            pad_token_id=_padding(model),
            stopping_criteria=[stop],
        )
    return output[0, len(tokens) :].tolist(), lengths


def _padding(model: Any) -> int:
    """Of one sequence nothing is padded, but `generate` warns where no token is given for it."""
    token = getattr(model.generation_config, "pad_token_id", None)
    return 0 if token is None else int(token)


@contextmanager
def _lengths(model: Any) -> Iterator[list[int]]:
    """Tokens of each pass of the model while it is entered."""
    lengths: list[int] = []

    def note(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids = kwargs.get("input_ids", args[0] if args else None)
        if ids is not None:
            lengths.append(ids.shape[1])

    handle = model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield lengths
    finally:
        handle.remove()
