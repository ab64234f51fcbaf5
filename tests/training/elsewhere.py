"""A device that is not there: tensors that say they are on it, and refuse to meet tensors of the CPU.

Their numbers are computed on the CPU, so that a training "elsewhere" can be compared with one that stays;
an operation that mixes both fails as it would on a GPU. Without a GPU this is how a forgotten `.to(device)`
is found.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("lazy", 0)  # a kind that torch itself carries along and needs no driver for
MAY_MIX = {"aten::_to_copy", "aten::copy_", "aten::index.Tensor"}  # as on a GPU


class Elsewhere(torch.Tensor):
    """A tensor on `DEVICE`; `here` holds its numbers."""

    here: torch.Tensor

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> Elsewhere:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            here.shape,
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device=DEVICE,
        )
        made.here = here
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Elsewhere({self.here!r})"

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        """Tells torch that a parameter must be exchanged as a whole when a module moves."""
        return ["here"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, torch.Tensor], *_: Any) -> Elsewhere:
        return Elsewhere(inner["here"])

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is torch.Tensor.tolist:
            return args[0].here.tolist()
        with torch._C.DisableTorchFunctionSubclass():
            if func is torch.Tensor.copy_:  # the method looks for a driver, the operator does not
                return torch.ops.aten.copy_(*args, **(kwargs or {}))
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):  # type: ignore[override]
        return _run(func, args, kwargs or {})


class Device(TorchDispatchMode):
    """While it is open, `DEVICE` can be used."""

    def __enter__(self) -> Device:
        torch._C._set_only_lift_cpu_tensors(True)  # lists become tensors here, and move afterwards
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch._C._set_only_lift_cpu_tensors(False)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
    away = any(isinstance(t, Elsewhere) for t in tensors)
    name = func._schema.name + (f".{func._overloadname}" if func._overloadname != "default" else "")
    if away and name not in MAY_MIX:
        for t in tensors:
            if not isinstance(t, Elsewhere) and t.ndim:
                raise RuntimeError(f"{name}: a tensor of shape {tuple(t.shape)} is not on {DEVICE}")
    asked = kwargs.get("device")
    if asked is not None:
        away = torch.device(asked).type == DEVICE.type
        kwargs = {**kwargs, "device": torch.device("cpu")}
    out = func(*tree_map(_here, args), **tree_map(_here, kwargs))
    if not away:
        return out
    if name == "aten::copy_":
        return args[0]
    return return_and_correct_aliasing(func, args, kwargs, tree_map(_there, out))


def _here(value: Any) -> Any:
    return value.here if isinstance(value, Elsewhere) else value


def _there(value: Any) -> Any:
    return Elsewhere(value) if isinstance(value, torch.Tensor) else value
