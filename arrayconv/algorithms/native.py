"""The library's own convolution: `torch.nn.functional.conv2d`, `jax.lax.conv_general_dilated`.

Its errors and its scratch memory are the library's affair (TF32 on CUDA, for example).
"""

from __future__ import annotations

from typing import Any

from ..backend import Backend
from ..program import Problem, Program
from .algorithm import Algorithm
from .rates import rates

Array = Any


def unsupported(problem: Problem, backend: Backend) -> str | None:
    if backend.native is None:
        return f"{backend.name} has no convolution of its own"
    return backend.native.unsupported(problem)


def cost(problem: Problem, backend: Backend) -> float:
    rate = rates(problem)
    channels = min(problem.geometry.inputs, problem.geometry.outputs)
    return rate.native_call + problem.geometry.multiply_adds / (rate.native_thin if channels < 8 else rate.native)


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    if backend.native is None:
        raise ValueError(f"{backend.name} has no convolution of its own")
    problem = program.problem
    wide = backend.dtype(problem.accumulator)
    y = backend.native.execute(problem, backend.cast(x, wide), backend.cast(kernel, wide))
    return backend.cast(y, x.dtype)


NATIVE = Algorithm("native", unsupported, cost, execute)
