"""GPUs that are names: tensors that say which GPU they are on, lie on the CPU, and never mix.

    with fake_gpus():
        model.to("cuda:1")

Every operation is that of the CPU, so values are right to the bit; one whose tensors are on
different devices is refused, as a real GPU refuses it. A tensor of no dimension may be on the host.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from sweep.inputs import models

_WHOLE = (
    torch.nn.functional.scaled_dot_product_attention,
    Tensor.__getitem__,
    *(Tensor.__setitem__, Tensor.copy_, Tensor.detach, Tensor.contiguous, Tensor.__invert__),
    *(Tensor.item, Tensor.__float__, Tensor.__int__, Tensor.__bool__, Tensor.__index__),
)
_load, _made = models.load, torch.tensor
_COPIES = ("aten::_to_copy", "aten::copy_", "aten::to")
_HOST = torch.device("cpu")


class OnGpu(Tensor):
    """A tensor of the host under the name of a GPU."""

    host: Tensor

    @staticmethod
    def __new__(cls, host: Tensor, device: torch.device) -> OnGpu:
        made = Tensor._make_wrapper_subclass(  # pyright: ignore[reportAttributeAccessIssue]
            cls,
            host.shape,
            strides=host.stride(),
            storage_offset=host.storage_offset(),
            dtype=host.dtype,
            device=device,
        )
        made.host = host
        return made

    def tolist(self) -> Any:
        return self.host.tolist()

    def __repr__(self, **_: Any) -> str:
        return f"OnGpu({self.device}, {self.host})"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """What asks for the GPU's own code before it comes to an operation is one here."""
        if func == Tensor.data.__set__:  # pyright: ignore[reportAttributeAccessIssue]
            args[0].host = args[1].host
            return None
        if func in _WHOLE:
            return _run(func, args, kwargs or {})
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Names(TorchDispatchMode):
    """Makes and moves tensors by the name of a GPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The operation on what lies on the host; its answer is where the tensors were, or where it was
    asked to be."""
    flat, shape = tree_flatten((args, kwargs))
    tensors = [value for value in flat if isinstance(value, Tensor)]
    name = getattr(getattr(func, "_schema", None), "name", "")
    places = {t.device for t in tensors if t.dim() or t.device.type != "cpu"}
    if len(places) > 1 and name not in _COPIES:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found {sorted(map(str, places))}"
            f" ({func})"
        )
    wanted = [value for value in flat if isinstance(value, torch.device)]
    device = tensors[0].device if name == "aten::copy_" else next(iter([*wanted, *places]), _HOST)
    if device.type == "cuda":
        device = torch.device("cuda", device.index or 0)
    answer = func(*_on_host(flat, shape)[0], **_on_host(flat, shape)[1])
    owners = {id(t.host): t for t in tensors if isinstance(t, OnGpu)}
    return tree_map(partial(_named, device=device, owners=owners), answer)


def _on_host(flat: list[Any], shape: Any) -> Any:
    """Arguments as if there were no GPU."""
    hosts = [v.host if isinstance(v, OnGpu) else v for v in flat]
    named = [isinstance(v, torch.device) and v.type == "cuda" for v in hosts]
    own = [_HOST if is_gpu else v for v, is_gpu in zip(hosts, named, strict=True)]
    return tree_unflatten(own, shape)


def _named(value: Any, device: torch.device, owners: Mapping[int, OnGpu]) -> Any:
    if not isinstance(value, Tensor) or isinstance(value, OnGpu):
        return value
    owner = owners.get(id(value))
    if owner is not None and owner.device == device:
        return owner
    own = value if owner is None else value.clone()
    return OnGpu(own, device) if device.type == "cuda" else own


def moved(module: nn.Module, device: str | torch.device) -> nn.Module:
    """The module with its weights on a GPU: torch's own `to` would lose whose tensors they are."""
    made: dict[int, nn.Parameter] = {}
    for part in module.modules():
        for name, weight in list(part.named_parameters(recurse=False)):
            own = made.setdefault(id(weight), nn.Parameter(weight.detach().to(device), False))
            part.register_parameter(name, own)
        for name, buffer in list(part.named_buffers(recurse=False)):
            part.register_buffer(name, buffer.to(device), persistent=False)
    return module


def load(ref: str, dtype: str = "float32", device: Any = "cpu") -> Any:
    """As `sweep.inputs.models.load`, which reads in threads that know no fake GPU: the model is
    read to the host, and goes where it was asked for from there."""
    model = _load(ref, dtype, "cpu")
    if not isinstance(device, str):
        for name, place in device.items():
            moved(model.get_submodule(name), place)
        return model
    return model if device == "cpu" else moved(model, torch.device("cuda", 0))


@contextmanager
def fake_gpus(count: int = 2, memory: int = 1 << 40) -> Iterator[None]:
    """As if torch saw so many GPUs of so many free bytes each."""

    def free(device: Any = None) -> tuple[int, int]:
        return memory, memory

    changes: dict[str, Any] = {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "device_count": lambda: count,
        "current_device": lambda: 0,
        "mem_get_info": free,
        "memory_reserved": lambda device=None: 0,
        "memory_allocated": lambda device=None: 0,
        "get_device_name": lambda device=None: "fake GPU",
        "empty_cache": lambda: None,
        "Event": _Event,
        "current_stream": lambda device=None: None,
        "device": _OfDevice,
    }
    models._kept.clear()
    with (
        mock.patch.multiple(torch.cuda, **changes),
        mock.patch.object(models, "load", load),
        mock.patch.object(torch, "tensor", _tensor),
        _Names(),
    ):
        yield
    models._kept.clear()


def _tensor(data: Any, *, device: Any = None, **options: Any) -> Tensor:
    made = _made(data, **options)
    return made if device is None else made.to(device)


class _Event:
    """On the CPU an operation has ended when it returns."""

    def record(self, *_: Any) -> None: ...

    def synchronize(self) -> None: ...


class _OfDevice:
    def __init__(self, device: Any) -> None:
        self.device = device

    def __enter__(self) -> None: ...

    def __exit__(self, *_: Any) -> None: ...
