"""From a GGUF file to a folder of safetensors, with nothing lost on the way.

transformers reads the file; here is what it does not: numbers of the configuration that it leaves
out, how words are cut, and whether every tensor arrived. What cannot be honoured is refused by
name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweep.errors import InputError
from sweep.gguf import keys, rope, tensors, words
from sweep.gguf.contents import Contents, contents
from sweep.gguf.parts import join, parts

SHARD_SIZE = "4GB"
_JOINED = "joined.gguf"


def convert(transformers: Any, path: Path, folder: Path) -> None:
    """Make `folder` of the file: float32 weights (exact: GGUF's blocks are scales times small
    integers), configuration and tokenizer. `transformers` is the library.

    Raises InputError, naming what it is, for anything that would be lost or made up.
    """
    from huggingface_hub import save_torch_state_dict

    paths = parts(path)
    file = contents(paths)
    tokenizer = words.specification(file, _own_words(transformers, file, path))
    folder.mkdir()
    whole = path if len(paths) == 1 else join(paths, folder / _JOINED)
    model = _model(transformers, file, whole)
    if whole != path:
        whole.unlink()
    save_torch_state_dict(model.state_dict(), folder, max_shard_size=SHARD_SIZE)
    model.config.__dict__.pop("quantization_config", None)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    _save_words(transformers, file, tokenizer, folder)


def _model(transformers: Any, file: Contents, whole: Path) -> Any:
    """The model as transformers reads it with the corrected configuration, compared and found
    equal."""
    source: dict[str, Any] = {"gguf_file": whole.name, "local_files_only": True}
    packed = getattr(transformers, "GgufConfig", None)  # newer ones may keep weights packed
    options = {"quantization_config": packed(dequantize=True)} if packed else {}
    config = _config(transformers, file, whole)
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        whole.parent, config=config, dtype="float32", output_loading_info=True, **source, **options
    )
    missing = file.blocks_without_tensors() or sorted(report["missing_keys"])
    if missing:
        raise InputError(f"{file.name} lacks {', '.join(missing[:4])}{' …' if missing[4:] else ''}")
    tensors.check(file, _weights(model))
    entry = getattr(model.config, "rope_parameters", None) or {}
    if entry:
        rope.check(file, entry.get("full_attention", entry), _frequencies(model))
    return model


def _config(transformers: Any, file: Contents, whole: Path) -> Any:
    config = transformers.AutoConfig.from_pretrained(
        whole.parent, gguf_file=whole.name, local_files_only=True
    )
    changes = keys.corrections(file, config)
    if changes:
        config = type(config).from_dict({**config.to_dict(), **changes})
    keys.check(file, config)
    return config


def _weights(model: Any) -> dict[str, Any]:
    """Weights by name, and buffers that are saved with them; what is shared comes once."""
    state, seen = {}, set()
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen or not tensor.numel():
            state[name] = tensor.detach().float().numpy()
            seen.add(tensor.data_ptr())
    return state


def _frequencies(model: Any) -> list[Any]:
    return [
        buffer.detach().double().numpy()
        for name, buffer in model.named_buffers()
        if name.endswith("inv_freq") and "original" not in name
    ]


# -- words -----------------------------------------------------------------------------------


def _own_words(transformers: Any, file: Contents, path: Path) -> Mapping[str, Any] | None:
    """transformers' own reading of a vocabulary that is not byte-level, as tokenizer.json."""
    if file.values.get("tokenizer.ggml.model") == words.BYTE_LEVEL:
        return None
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        path.parent, gguf_file=path.name, local_files_only=True
    )
    return json.loads(tokenizer.backend_tokenizer.to_str())


def _save_words(
    transformers: Any, file: Contents, specification: Mapping[str, Any], folder: Path
) -> None:
    from tokenizers import Tokenizer

    words_of = Tokenizer.from_str(json.dumps(specification))
    template = file.values.get("tokenizer.chat_template")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words_of,
        clean_up_tokenization_spaces=False,
        **words.special_tokens(file),
        **({"chat_template": template} if template else {}),
    )
    tokenizer.save_pretrained(folder)
