"""Load models and tokenizers: the only file that imports transformers, and only when called.

    models.prepare(ref)                       # fetch and convert, so that loading is quick
    model = models.loaded(ref, "float32", "cpu")

Only safetensors and GGUF are read and no code of a model repository is run. A GGUF file is made
into safetensors once, in the cache folder: transformers takes 15 seconds and more to unpack even a
small one, and less than one to load what was made of it.
"""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partialmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.errors import InputError
from sweep.files.cache import cache_dir, locked, remembered_sha256, staged
from sweep.gguf import conversion
from sweep.gguf.parts import VERSION, parts
from sweep.inputs import malloc as heap
from sweep.inputs import model_files
from sweep.inputs.model_ref import fingerprint, generation_fingerprint, resolve
from sweep.keys import digest
from sweep.messages import nearest

if TYPE_CHECKING:
    from rich.progress import Progress
    from transformers import PreTrainedModel

DTYPES = ("float32", "bfloat16")
_COMPUTED = (".inv_freq", ".masked_bias", ".attn.bias", "position_ids")
"""Names of buffers that files of former versions of transformers hold, and a model makes itself."""

_kept: dict[tuple[str, str, str], PreTrainedModel] = {}


def present(ref: str) -> bool:
    """Whether the model's weights are on this machine, converted where they are a GGUF file."""
    model = resolve(ref)
    if model.path is None:
        return False
    return not model.is_gguf or _converted_place(model.path).is_dir()


def prepare(ref: str, progress: Progress | None = None) -> Path:
    """The folder with the model's safetensors, config and tokenizer, fetched or made if need be.

    Raises ResourceError if the model cannot be reached, InputError if it cannot be used.
    """
    path = model_files.fetched(ref, progress)
    return _converted(path, progress) if path.suffix == ".gguf" else path


def load(ref: str, dtype: str = "float32", device: str = "cpu") -> PreTrainedModel:
    """A causal language model in evaluation mode, without gradients or KV cache, with SDPA, or with
    eager attention where transformers has no SDPA for it.

    Raises InputError if transformers does not know the architecture, if a weight is missing (one
    that is not in the files would otherwise be drawn at random), or if a module has a weight in the
    files that it has no place for. Weights of modules that the model lacks are named in a note.
    """
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} is not known{nearest(dtype, DTYPES)}")
    folder = prepare(ref)
    heap.keep()
    with _quiet(), _explained(ref):
        model, report = _from_folder(folder, dtype, device)
    missing = sorted(report["missing_keys"])
    if missing:
        raise InputError(
            f"model {ref}: {len(missing)} weights are not in its files: {_listed(missing)}"
        )
    _check_unexpected(ref, model, sorted(report["unexpected_keys"]))
    model.config.use_cache = False
    return model.eval().requires_grad_(False)


def skeleton(ref: str) -> PreTrainedModel:
    """The model's modules as its configuration says, on the meta device, without values."""
    import torch
    import transformers

    from sweep.inputs import drelu

    drelu.register(transformers)
    folder = prepare(ref)
    with _quiet(), _explained(ref), torch.device("meta"):
        config = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        return _with_attention(
            lambda name: transformers.AutoModelForCausalLM.from_config(
                config, attn_implementation=name, trust_remote_code=False
            )
        ).eval()


def loaded(ref: str, dtype: str = "float32", device: str = "cpu") -> PreTrainedModel:
    """As `load`, but the process keeps the last model, which is returned again when asked for."""
    key = (fingerprint(ref) + generation_fingerprint(ref), dtype, device)
    if key not in _kept:
        _kept.clear()
        model = load(ref, dtype, device)
        mark = fingerprint(ref) + generation_fingerprint(ref)  # now, for a model just fetched
        _kept[mark, dtype, device] = model
        return model
    return _kept[key]


def tokenizer(ref: str) -> Any:
    """The model's tokenizer (a transformers tokenizer; the process keeps the last ones)."""
    return _tokenizer_in(prepare(ref), ref)


def encode(ref: str, text: str) -> list[int]:
    """Token ids of the whole text, special tokens as the tokenizer itself adds them, once."""
    with _quiet():
        ids = tokenizer(ref)(text, verbose=False)["input_ids"]
    _check_ids(ref, ids)
    return ids


def _check_ids(ref: str, ids: list[int]) -> None:
    """Raise InputError for tokens that have no row in the model's embedding."""
    config = json.loads((prepare(ref) / "config.json").read_text(encoding="utf-8"))
    rows = (config.get("text_config") or config).get("vocab_size")
    if isinstance(rows, int) and ids and max(ids) >= rows:
        token = tokenizer(ref).convert_ids_to_tokens(max(ids))
        raise InputError(
            f"model {ref}: the text has the token {token!r}, number {max(ids)} of the tokenizer, "
            f"and the embedding has {rows} rows; tokens were added without making it larger"
        )


def packable(model: PreTrainedModel) -> bool:
    """Whether `attention` can take the place of all that mixes the model's tokens."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    capped = getattr(config, "attn_logit_softcapping", None)
    ropes = getattr(config, "rope_parameters", None) or {}
    stretched = {"dynamic", "longrope"} & set(map(str, _leaves(ropes)))  # by the longest of a pass
    return (
        model._supports_attention_backend
        and kinds <= {"full_attention", "sliding_attention"}
        and not capped
        and not stretched
        and "logits_to_keep" in inspect.signature(model.forward).parameters
    )


def _leaves(value: Any) -> list[Any]:
    """Values of nested mappings."""
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in _leaves(item)]
    return [value]


@contextmanager
def attention(model: PreTrainedModel, function: Callable[..., Any]) -> Iterator[None]:
    """Let `function` compute the attention of all layers, as transformers' own would be called.

    No mask is made: the function is given None for it.
    """
    from transformers import AttentionInterface

    name = f"sweep-{id(function)}"
    AttentionInterface.register(name, function)
    before = model.config._attn_implementation
    model.config._attn_implementation = name
    try:
        yield
    finally:
        model.config._attn_implementation = before
        AttentionInterface._global_mapping.pop(name, None)


@lru_cache(maxsize=4)
def _tokenizer_in(folder: Path, ref: str) -> Any:
    import transformers

    from sweep.inputs import drelu

    drelu.register(transformers)
    with _quiet(), _explained(ref):
        return transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )


def _from_folder(folder: Path, dtype: str, device: str) -> tuple[Any, dict[str, Any]]:
    import torch
    import transformers

    from sweep.inputs import drelu

    drelu.register(transformers)
    return _with_attention(
        lambda name: transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            device_map=None if device == "cpu" else device,
            attn_implementation=name,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    )


def _with_attention(make: Callable[[str], Any]) -> Any:
    """What `make` makes with SDPA, or with eager attention where the family has no SDPA."""
    try:
        return make("sdpa")
    except ValueError as error:
        if "scaled_dot_product_attention" not in str(error):
            raise
        return make("eager")


def without_place(model: PreTrainedModel, unexpected: Iterable[str]) -> list[str]:
    """Of weights that the model does not expect those that belong to a module which it has, as
    biases of a layer that it runs without."""
    modules = {name for name, _ in model.named_modules()}
    parts = [(name, *name.rpartition(".")[::2]) for name in sorted(unexpected)]
    return [
        name
        for name, module, kind in parts
        if module in modules and kind in ("weight", "bias") and not name.endswith(_COMPUTED)
    ]


def _check_unexpected(ref: str, model: PreTrainedModel, unexpected: list[str]) -> None:
    """Refuse weights without a place; name those of other modules, as of a second head, in a
    note."""
    lost = without_place(model, unexpected)
    if lost:
        raise InputError(
            f"model {ref}: {len(lost)} weights of its files have no place in "
            f"{type(model).__name__}: {_listed(lost)}; is its config.json that of another family?"
        )
    names = [name for name in unexpected if not name.endswith(_COMPUTED)]
    if names:
        print(f"model {ref}: {len(names)} weights of its files are not used: {_listed(names)}")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")


def _converted_place(gguf: Path) -> Path:
    """By the content of all its parts, and by how it is made."""
    content = digest([remembered_sha256(part) for part in parts(gguf)])
    return cache_dir() / "converted" / f"{gguf.stem}-{content[:12]}-{VERSION}"


def _converted(gguf: Path, progress: Progress | None) -> Path:
    """The folder of safetensors made from the GGUF file, by whichever process came first."""
    target = _converted_place(gguf)
    if not target.is_dir():
        with locked(target.name):
            if not target.is_dir():
                bar = progress.add_task("to safetensors", total=None) if progress else None
                with staged(target) as folder:
                    _convert(gguf, folder)
                if progress and bar is not None:
                    progress.update(bar, total=(size := gguf.stat().st_size), completed=size)
    return target


def _convert(gguf: Path, folder: Path) -> None:
    import transformers

    with _quiet(), _no_bars(), _explained(str(gguf)):
        conversion.convert(transformers, gguf, folder)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' notes and bars, on which a user of ours cannot act, off the terminal."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def _no_bars() -> Iterator[None]:
    """Silence the bars that transformers draws with tqdm itself while it reads a GGUF file."""
    from tqdm.auto import tqdm

    drawn = tqdm.__init__
    tqdm.__init__ = partialmethod(drawn, disable=True)  # type: ignore[method-assign]
    try:
        yield
    finally:
        tqdm.__init__ = drawn


@contextmanager
def _explained(ref: str) -> Iterator[None]:
    """Turn what the libraries raise on files that cannot be used into one sentence."""
    try:
        yield
    except Exception as error:
        if not _is_of_the_files(error):
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
        raise InputError(f"model {ref} cannot be loaded: {reason}") from error


def _is_of_the_files(error: Exception) -> bool:
    """Whether it is the user's to mend; a lack of memory or a fault of the code is not."""
    from safetensors import SafetensorError

    if isinstance(error, (OSError, ValueError, KeyError, ImportError, SafetensorError)):
        return True
    if isinstance(error, RuntimeError):
        return "mismatch" in str(error)  # a weight has another size than the config says
    return type(error) is Exception  # all that tokenizers raises
