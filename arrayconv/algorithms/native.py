"""The library's own convolution: `torch.nn.functional.conv2d`, `jax.lax.conv_general_dilated`, `numpy.convolve`.

Its errors and its scratch memory are the library's affair (TF32 on CUDA, for example).
"""

from __future__ import annotations

from collections.abc import Callable
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
    return problem.too_large or backend.native.unsupported(problem)


def counts(problem: Problem, backend: Backend) -> Counts:
    return convolution_counts(problem)


def prepare(problem: Problem, backend: Backend, block: tuple[int, ...]) -> Any:
    return None if backend.native is None else backend.native.prepare(problem)


def in_accumulator(
    program: Program, backend: Backend, function: Callable[[Array, Array], Array], x: Array, kernel: Array
) -> Array:
    """``function(x, kernel)`` of a library that sums in its arguments' type: in the accumulator's, then as x's."""
    problem = program.problem
    if problem.accumulator == problem.dtype:
        return function(x, kernel)
    wide = backend.dtype(problem.accumulator)
    return backend.cast(function(backend.cast(x, wide), backend.cast(kernel, wide)), x.dtype)


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    native = backend.native
    if native is None:
        raise ValueError(f"{backend.name} has no convolution of its own")
    arguments = prepared(program, backend)
    return in_accumulator(program, backend, lambda *arrays: native.execute(arguments, *arrays), x, kernel)


NATIVE = Algorithm("native", unsupported, counts, execute, prepare=prepare)


def inner(problem: Problem, backend: Backend) -> str:
    """The `Algorithm.inner` of those that are a call of it."""
    return NATIVE.name
