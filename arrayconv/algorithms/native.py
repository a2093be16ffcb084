"""The library's own convolution: `torch.nn.functional.conv2d`, `jax.lax.conv_general_dilated`, `numpy.convolve`.

Its errors and its scratch memory are the library's affair (TF32 on CUDA, for example).
"""

from __future__ import annotations

from typing import Any

from ..backend import Backend
from ..program import Problem, Program
from .algorithm import Algorithm, prepared
from .native_counts import convolution_counts
from .rates import Counts

Array = Any


def unsupported(problem: Problem, backend: Backend) -> str | None:
    if backend.native is None:
        return f"{backend.name} has no convolution of its own"
    return backend.native.unsupported(problem)


def counts(problem: Problem, backend: Backend) -> Counts:
    return convolution_counts(problem)


def prepare(problem: Problem, backend: Backend, block: tuple[int, ...]) -> Any:
    return None if backend.native is None else backend.native.prepare(problem)


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    native, problem = backend.native, program.problem
    if native is None:
        raise ValueError(f"{backend.name} has no convolution of its own")
    arguments = prepared(program, backend)
    if problem.accumulator == problem.dtype:
        return native.execute(arguments, x, kernel)
    wide = backend.dtype(problem.accumulator)
    y = native.execute(arguments, backend.cast(x, wide), backend.cast(kernel, wide))
    return backend.cast(y, x.dtype)


NATIVE = Algorithm("native", unsupported, counts, execute, prepare=prepare)
