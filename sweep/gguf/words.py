"""The tokenizer that a GGUF file describes, as the text of a `tokenizer.json`.

A byte-level vocabulary (`gpt2`) is written here from the file alone. One of SentencePiece
(`llama`) is transformers' own, with the file's word on the space before a text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweep.errors import InputError
from sweep.gguf.contents import Contents
from sweep.gguf.splits import SPLITS, Split
from sweep.messages import nearest

BYTE_LEVEL, SENTENCEPIECE = "gpt2", "llama"
CONTROL, USER_DEFINED = 3, 4
_WORD_START = "\u2581"
_READ = frozenset(
    {
        "model",
        "pre",
        "tokens",
        "token_type",
        "scores",
        "merges",
        "bos_token_id",
        "eos_token_id",
        "unknown_token_id",
        "padding_token_id",
        "add_bos_token",
        "add_eos_token",
        "add_space_prefix",
        "eot_token_id",
        "eom_token_id",
        "eos_token_ids",
        "prefix_token_id",
        "suffix_token_id",
        "middle_token_id",
        "mask_token_id",
        "seperator_token_id",
        "separator_token_id",
        "cls_token_id",
        "eog_token_ids",
        "token_type_count",
    }
)
"""Keys that are read here, or name tokens that a text of words has no use for."""
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "add_sep_token": (False,),
    "remove_extra_whitespaces": (False,),
}
_FREE = ("fim_", "chat_template", "chat_templates")


def specification(file: Contents, read: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The content of `tokenizer.json`; `read` is transformers' own for a SentencePiece vocabulary.

    Raises InputError for what the file asks for and nobody here can do.
    """
    keys = _keys(file)
    _check_keys(file, keys)
    if keys.get("model") == BYTE_LEVEL:
        content = _byte_level(file, keys)
    elif read is not None:
        content = _sentencepiece(file, keys, dict(read))
    else:
        raise InputError(f"{file.name}: tokenizer.ggml.model {keys.get('model')!r} is not known")
    content["post_processor"] = _around(file, keys)
    return content


def special_tokens(file: Contents) -> dict[str, str]:
    """The tokens with a role, by the names that transformers has for them."""
    keys, roles = _keys(file), {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    tokens = keys.get("tokens", [])
    ids = {role: keys.get(f"{name}_token_id") for role, name in roles.items()}
    return {
        f"{role}_token": tokens[number]
        for role, number in ids.items()
        if number is not None and 0 <= int(number) < len(tokens)
    }


def adds_bos(file: Contents) -> bool:
    """Whether a text starts with the BOS token: the file's word, else what its kind does."""
    keys = _keys(file)
    usual = keys.get("model") == SENTENCEPIECE
    if keys.get("model") == BYTE_LEVEL:
        usual = _split(file, keys).bos
    asked_for = bool(keys.get("add_bos_token", usual))
    return asked_for and "bos_token" in special_tokens(file)


def _keys(file: Contents) -> dict[str, Any]:
    prefix = "tokenizer.ggml."
    return {k.removeprefix(prefix): v for k, v in file.values.items() if k.startswith(prefix)}


def _check_keys(file: Contents, keys: Mapping[str, Any]) -> None:
    for key, value in keys.items():
        free = key in _READ or key.startswith(_FREE) or value in _NEUTRAL.get(key, ())
        if not free:
            raise InputError(
                f"{file.name}: tokenizer.ggml.{key} is {str(value)[:40]!r}, and nothing here does "
                "that; its tokens would be other ones"
            )
    if "tokens" not in keys:
        raise InputError(f"{file.name} has no tokens (tokenizer.ggml.tokens)")


def _split(file: Contents, keys: Mapping[str, Any]) -> Split:
    name = keys.get("pre")
    if name is None:
        raise InputError(
            f"{file.name}: a byte-level vocabulary without tokenizer.ggml.pre, so how it cuts text "
            "is not known; convert the model anew, or write the key with gguf-new-metadata"
        )
    if name not in SPLITS:
        raise InputError(
            f"{file.name}: tokenizer.ggml.pre {name!r} is not known{nearest(str(name), SPLITS)}; "
            "its words would be cut in another way than the model has learnt"
        )
    return SPLITS[name]


# -- a byte-level vocabulary -----------------------------------------------------------------


def _byte_level(file: Contents, keys: Mapping[str, Any]) -> dict[str, Any]:
    tokens, split = keys["tokens"], _split(file, keys)
    merges = [line.split(" ", 1) for line in keys.get("merges", [])]
    kinds = keys.get("token_type") or [1] * len(tokens)
    longer = [t for t, kind in zip(tokens, kinds, strict=False) if kind == 1 and len(t) > 1]
    if longer and not merges:
        raise InputError(f"{file.name}: a byte-level vocabulary without tokenizer.ggml.merges")
    cuts = [
        {"type": "Split", "pattern": {"Regex": text}, "behavior": "Isolated", "invert": False}
        for text in split.expressions
    ]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    level["use_regex"] = False
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(tokens, kinds),
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*cuts, level]},
        "post_processor": None,
        "decoder": level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": split.whole_words,
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": merges,
        },
    }


def _added(tokens: list[str], kinds: list[int]) -> list[dict[str, Any]]:
    """Tokens that are found whole in a text: control tokens, and those of the model's maker."""
    return [
        {
            "id": number,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": kind == CONTROL,
        }
        for number, (token, kind) in enumerate(zip(tokens, kinds, strict=False))
        if kind in (CONTROL, USER_DEFINED)
    ]


# -- a vocabulary of SentencePiece -----------------------------------------------------------


def _sentencepiece(file: Contents, keys: Mapping[str, Any], read: dict[str, Any]) -> dict[str, Any]:
    """transformers' own, and the space that the file puts before a text, or does not."""
    if not file.architecture.startswith("gemma"):
        spaces = [{"type": "Replace", "pattern": {"String": " "}, "content": _WORD_START}]
        if keys.get("add_space_prefix", True):
            spaces = [{"type": "Prepend", "prepend": _WORD_START}, *spaces]
        read["normalizer"] = {"type": "Sequence", "normalizers": spaces}
        read["pre_tokenizer"] = None
    elif keys.get("add_space_prefix", True):
        raise InputError(f"{file.name}: tokenizer.ggml.add_space_prefix with a Gemma vocabulary")
    return read


def _around(file: Contents, keys: Mapping[str, Any]) -> dict[str, Any] | None:
    """The template that puts BOS before a text and EOS behind it where the file says so."""
    named = special_tokens(file)
    ends = bool(keys.get("add_eos_token")) and "eos_token" in named
    before = [named["bos_token"]] if adds_bos(file) else []
    after = [named["eos_token"]] if ends else []
    if not before and not after:
        return None

    def line(*texts: tuple[str, int]) -> list[dict[str, Any]]:
        pieces = []
        for text, number in texts:
            for token, group in ((before, 0), ([text], 1), (after, 0)):
                pieces += [
                    {"Sequence": {"id": text, "type_id": number}}
                    if group
                    else {"SpecialToken": {"id": name, "type_id": number}}
                    for name in token
                ]
        return pieces

    tokens = keys["tokens"]
    return {
        "type": "TemplateProcessing",
        "single": line(("A", 0)),
        "pair": line(("A", 0), ("B", 1)),
        "special_tokens": {
            name: {"id": name, "ids": [tokens.index(name)], "tokens": [name]}
            for name in {*before, *after}
        },
    }
