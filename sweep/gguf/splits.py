"""How a byte-level vocabulary cuts text before its merges: `tokenizer.ggml.pre` and its meaning.

The names and what they stand for are those of llama.cpp (`src/llama-vocab.cpp`), as of the
original tokenizers: each expression cuts what the one before it left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_DIGIT = r"\p{N}"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_REST}"
_QWEN2 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_REST}"
_QWEN35 = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LOWER = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
_UPPER = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
_CASED_REST = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_TEKKEN = rf"{_LOWER}|{_UPPER}|\p{{N}}|{_CASED_REST}"
_GPT4O = rf"{_LOWER}{_CONTRACTIONS}?|{_UPPER}{_CONTRACTIONS}?|\p{{N}}{{1,3}}|{_CASED_REST}"
_BLOOM = r" ?[^(\s|.,!?…。，、।۔،)]+"
_CJK = r"[一-龥぀-ゟ゠-ヿ]+"
_DEEPSEEK3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BAILING = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
_SEED = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, slots=True)
class Split:
    """Expressions that cut a text one after another, and what goes with them.

    With `whole_words`, a piece that is a token of the vocabulary is taken before any merge; `bos`
    says whether a text starts with the BOS token where the file has no word on it.
    """

    expressions: tuple[str, ...]
    whole_words: bool = False
    bos: bool = False


_OF_GPT2, _OF_QWEN2 = Split((_GPT2,)), Split((_QWEN2,))
_OF_SMOLLM = Split((_DIGIT, _GPT2))
_OF_LLAMA3, _OF_GPT4O = Split((_LLAMA3,), True, True), Split((_GPT4O,))
_OF_BLOOM, _OF_BAILING = Split((_BLOOM,)), Split((_BAILING,))

_NAMES: tuple[tuple[Split, str], ...] = (
    (
        _OF_GPT2,
        "gpt-2 phi-2 gigachat a.x-4.0 mellum mpt olmo jais trillion granite-docling exaone4",
    ),
    (_OF_SMOLLM, "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2"),
    (_OF_LLAMA3, "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2"),
    (Split((_LLAMA3,)), "dbrx smaug-bpe glm4 chatglm-bpe"),
    (_OF_QWEN2, "qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2"),
    (Split((_QWEN35,)), "qwen35"),
    (Split((_TEKKEN,), True, True), "tekken"),
    (_OF_GPT4O, "gpt-4o llama4 kanana2 talkie minimax-m2"),
    (_OF_BLOOM, "bloom poro-chat gpt3-finnish"),
    (Split((_BLOOM, _DIGIT)), "viking"),
    (_OF_BAILING, "bailingmoe bailingmoe2 llada-moe"),
    (Split((_SEED,)), "seed-coder"),
    (Split((r"\p{N}{1,3}", _CJK, _DEEPSEEK3)), "deepseek-v3 hunyuan-dense joyai-llm"),
    (
        Split((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", _DIGIT)),
        "deepseek-coder",
    ),
    (Split((r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, r"[0-9][0-9][0-9]")), "falcon"),
    (Split((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]")), "default"),
)
SPLITS: Mapping[str, Split] = {name: split for split, names in _NAMES for name in names.split()}
"""What each name of `tokenizer.ggml.pre` means."""
