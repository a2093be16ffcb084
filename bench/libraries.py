"""What the measuring needs of each library: its arrays, compiler, batches and derivatives, and how to wait for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from bench.memory import jax_scratch, numpy_scratch, torch_scratch

Array = Any
Call = Callable[..., Any]


def _plain(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Library:
    """``gradient(call)`` maps x, kernel and the result's cotangent to the cotangents of x and kernel.

    ``scratch(ready, arrays)`` is a compiled call's temporary memory in bytes. ``spins``: threads of one algorithm look
    for work on the cores that another's own threads need.
    """

    make: Callable[[Any], Array]
    batch: Callable[[Call], Call]
    gradient: Callable[[Call], Call]
    scratch: Callable[[Call, list[Array]], int]
    compile: Callable[[Call], Call] = _plain
    wait: Callable[[Any], Any] = _plain
    spins: bool = False


def _loop(call: Call) -> Call:
    return lambda *arrays: np.stack([call(*one) for one in zip(*arrays, strict=True)])


def _none(call: Call) -> Call:
    raise ValueError("NumPy has no derivatives")


def _autograd(call: Call) -> Call:
    def gradient(x: Array, kernel: Array, dy: Array) -> tuple[Array, ...]:
        leaves = [array.detach().requires_grad_() for array in (x, kernel)]
        return torch.autograd.grad(call(*leaves), leaves, dy)

    return gradient


def _jax() -> Library:
    import jax
    import jax.numpy as jnp

    def vjp(call: Call) -> Call:
        return lambda x, kernel, dy: jax.vjp(call, x, kernel)[1](dy)

    return Library(jnp.asarray, jax.vmap, vjp, jax_scratch, jax.jit, jax.block_until_ready)


_MAKERS: dict[str, Callable[[], Library]] = {
    "numpy": lambda: Library(_plain, _loop, _none, numpy_scratch, spins=True),
    "torch": lambda: Library(torch.tensor, torch.func.vmap, _autograd, torch_scratch),
    "jax": _jax,
}


@cache
def library(name: str) -> Library:
    """A row by name; JAX is imported where it is asked for."""
    return _MAKERS[name]()
