"""`sweep size MODEL`: where a model's bytes are, what methods pin and cache, and where it fits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import typer

sizes = typer.Typer()

Drams = Annotated[
    list[float], typer.Option("--dram", help="DRAM in GB (repeatable; default: the devices').")
]
Contexts = Annotated[
    list[int], typer.Option("--context", min=1, help="Tokens of the KV cache (repeatable).")
]
BitsOption = Annotated[
    str, typer.Option("--bits", help="Bits of a weight, or file (default: as in a sweep).")
]


@dataclass(frozen=True, slots=True)
class Need:
    """What methods that prune the same groups need, in bytes: `pinned` first, the KV cache among
    it, then as much as there is room for of `cached`."""

    methods: tuple[str, ...]
    pinned: float
    cached: float

    def share(self, dram_gb: float) -> float | None:
        """Share of the pruned groups that is cached; None where what is pinned does not fit."""
        from simulator import Footprint, GroupSize, allocate

        groups = {"all": GroupSize(1, self.cached, 1)} if self.cached else {}
        room = allocate(Footprint(self.pinned, groups), dram_gb * 1e9)
        return room.fraction if not room.excess_bytes else None


@sizes.command()
def size(
    model: Annotated[str, typer.Argument(help="Built-in name, hub id, folder or GGUF file.")],
    dram: Drams = [],  # noqa: B006
    context: Contexts = [],  # noqa: B006
    bits: BitsOption = "",
    with_codes: Annotated[
        bool, typer.Option("--codes", help="Read the weights: zeros, exponents, what codes save.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say how many bytes a model has by kind, what each method pins and caches, where it fits."""
    from sweep.cli import codes

    about = [described(model, dram, tokens, bits) for tokens in context or [2048]]
    if with_codes:
        about[0]["codes"] = codes.codes(model)
    if as_json:
        typer.echo(json.dumps(about, indent=1))
        return
    for description in about:
        typer.echo("\n".join(_lines(description)))
    if with_codes:
        typer.echo("\n".join(codes.lines(about[0]["codes"])))


def described(model: str, drams: Sequence[float], context: int, bits: str = "") -> dict[str, Any]:
    """All that `sweep size` says, as JSON. Raises InputError or SimulatorError."""
    from simulator import weight_bytes
    from sweep.inputs import model_sizes

    geometry = model_sizes.geometry(model)
    storage = _storage(model, bits, context)
    parts = weight_bytes(geometry, storage)
    matrix = geometry.hidden * geometry.intermediate * geometry.layers
    ends = geometry.vocabulary * geometry.hidden
    counts = {"mixers": geometry.mixer_weights, "gate": matrix, "up": matrix, "down": matrix}
    counts |= {"embedding": ends + geometry.other_embeddings}
    counts |= {"head": 0 if geometry.tied_embeddings else ends}
    needs = list(_needs(geometry, storage))
    stored = model_sizes.stored(model)
    return {
        "model": model,
        "geometry": geometry.to_mapping(),
        "bits_of_file": storage.file is not None,
        "weights": {
            name: {"weights": counts[name], "bits": 8 * size / counts[name], "bytes": size}
            for name, size in parts.items()
            if counts[name]
        },
        "weight_bytes": sum(parts.values()),
        "file_bytes": stored and stored.bytes,
        "context": context,
        "kv_bytes": geometry.kv_bytes(storage),
        "methods": [
            {"methods": list(n.methods), "pinned_bytes": n.pinned, "cached_bytes": n.cached}
            for n in needs
        ],
        "fits": [
            {
                "device": name,
                "dram_gb": gb,
                "cached_share": {", ".join(n.methods): n.share(gb) for n in needs},
            }
            for name, gb in _devices(drams)
        ],
    }


def _storage(model: str, bits: str, context: int) -> Any:
    from simulator import Storage
    from sweep.errors import InputError
    from sweep.inputs import model_sizes

    storage = Storage(kv_tokens=context)
    if bits == "file" or (not bits and model_sizes.comes_quantised(model)):
        stored = model_sizes.stored(model)
        if stored is None:
            raise InputError(f"model {model} is not on this machine, so its bits are not known")
        return replace(storage, file=stored.bits)
    try:
        return replace(storage, bits=float(bits)) if bits else storage
    except ValueError:
        raise InputError(f"--bits {bits}: a number or `file` is expected") from None


def _needs(geometry: Any, storage: Any) -> Iterator[Need]:
    """Of the methods that prune while this model runs; those that need the same stand together."""
    import methods
    from methods.experts.rules import Rule
    from methods.registry import method_class
    from methods.static.coded import Coded
    from methods.static.pruning import StaticPruning
    from simulator import SimulatorError, footprint
    from sweep.plan.sizes import method_bytes

    has_experts = geometry.experts is not None
    alike: dict[tuple[float, float], list[str]] = {}
    for name in methods.names():
        registered = method_class(name)
        of_experts = issubclass(registered, Rule)
        if issubclass(registered, (StaticPruning, Coded)) or (of_experts and not has_experts):
            continue
        method = methods.create(name, 1.0)
        try:
            overhead = method_bytes(method, geometry, storage)
            memory = footprint(geometry, method.groups, storage, overhead)
        except SimulatorError:  # it prunes attention, and this model has none of the usual kind
            continue
        alike.setdefault((memory.static_bytes, memory.pruned_bytes), []).append(name)
    for (pinned, cached), names in alike.items():
        yield Need(tuple(names), pinned, cached)


def _devices(drams: Sequence[float]) -> list[tuple[str, float]]:
    from simulator import Device

    if drams:
        return [("", gb) for gb in drams]
    return [(name, Device.load(name).dram_gb) for name in Device.names()]


def _lines(about: dict[str, Any]) -> Iterator[str]:
    sizes, kv = about["geometry"], about["kv_bytes"]
    yield (
        f"{about['model']}: {sizes['layers']} layers, hidden {sizes['hidden']:,}, intermediate "
        f"{sizes['intermediate']:,}, vocabulary {sizes['vocabulary']:,}"
        f"{', embedding and head are one' if sizes['tied_embeddings'] else ''}"
    )
    yield f"  {'weights':12} {'bits':>7} {'MB':>10}"
    for name, part in about["weights"].items():
        yield f"  {name:12} {part['bits']:7.3f} {part['bytes'] / 1e6:10,.1f}"
    of_file = " (bits of the file)" if about["bits_of_file"] else ""
    yield f"  {'all':12} {'':7} {about['weight_bytes'] / 1e6:10,.1f}{of_file}"
    if about["file_bytes"] and not about["bits_of_file"]:
        yield f"  its files have {about['file_bytes'] / 1e6:,.1f} MB (--bits file counts those)"
    yield f"  KV cache of {about['context']:,} tokens: {kv / 1e6:,.1f} MB{_kv_words(sizes)}"
    for one in about["methods"]:
        pinned, cached = one["pinned_bytes"] / 1e6, one["cached_bytes"] / 1e6
        cached_words = f", {cached:,.1f} MB cached as far as there is room" if cached else ""
        yield f"  {', '.join(one['methods'])}: {pinned:,.1f} MB pinned{cached_words}"
    for fit in about["fits"]:
        yield f"  {_place(fit)}: {_fit_words(fit['cached_share'])}"


def _kv_words(sizes: dict[str, Any]) -> str:
    kv = sizes.get("kv")
    if kv is None:
        return ""
    with_cache = sum(layers["layers"] for layers in kv)
    parts = [
        f"{layers['layers']} layers hold at most {layers['window']:,} tokens"
        for layers in kv
        if layers["window"]
    ]
    if with_cache < sizes["layers"]:
        without = sizes["layers"] - with_cache
        parts.append(f"{without} have no cache of their own; states of fixed size are not counted")
    return f" ({', '.join(parts)})" if parts else ""


def _place(fit: dict[str, Any]) -> str:
    name = f"{fit['device']}, " if fit["device"] else ""
    return f"{name}{fit['dram_gb']:g} GB of DRAM"


def _fit_words(shares: dict[str, float | None]) -> str:
    """What fits of the groups of methods, `name, name` each, and what does not."""
    if shares.get("dense") == 1:
        return "all of it fits"
    without = [name for name, share in shares.items() if share is None]
    if len(without) == len(shares):
        return "nothing fits, pruned or dense: every token uses more than that"
    parts = [
        f"{name} {'cache' if ',' in name else 'caches'} {share:.0%}"
        for name, share in shares.items()
        if share is not None
    ]
    names = ", ".join(without)
    if without:
        parts.append(f"{names} {'do' if ',' in names else 'does'} not fit")
    return "; ".join(parts)
