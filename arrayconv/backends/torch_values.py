"""Whether a tensor is no more than its numbers, which may then be looked at, and kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch.autograd.forward_ad import unpack_dual

Tensor = torch.Tensor


def has_values(array: Tensor) -> bool:
    """Whether the array's numbers may be looked at, at little cost: not in a compiler, nor on an accelerator.

    A subclass and a dispatch mode (FakeTensorMode, make_fx) may have none, or may record what is done with them.
    """
    if torch.compiler.is_compiling() or type(array) not in (Tensor, torch.nn.Parameter) or array.device.type != "cpu":
        return False
    return not (torch._C._are_functorch_transforms_active() or torch._C._len_torch_dispatch_stack())


def is_plain(array: Tensor) -> bool:
    """Whether nothing follows what becomes of the array. A forward derivative by `torch.autograd.forward_ad` is no
    transform: it travels on the tensor.
    """
    if not has_values(array) or (torch.is_grad_enabled() and array.requires_grad):
        return False
    return unpack_dual(array).tangent is None


@lru_cache(maxsize=16)
def _kept(function: Callable[..., Any], *key: Any) -> Any:
    return function(*key)


def keep(function: Callable[..., Any], *key: Any) -> Any:
    """Not what a compiler, a transform or a mode would make of it."""
    is_traced = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    if is_traced or torch._C._len_torch_dispatch_stack():
        return function(*key)
    return _kept(function, *key)
