"""The library's own convolution: `torch.nn.functional.conv2d`, `jax.lax.conv_general_dilated`.

Its errors and its scratch memory are the library's affair (TF32 on CUDA, for example).
"""

from __future__ import annotations

from math import prod
from typing import Any

from ..backend import Backend
from ..geometry import WindowDimension
from ..program import Problem, Program
from .algorithm import Algorithm, in_floats, positions
from .rates import Counts

Array = Any


def unsupported(problem: Problem, backend: Backend) -> str | None:
    if backend.native is None:
        return f"{backend.name} has no convolution of its own"
    return backend.native.unsupported(problem)


def counts(problem: Problem, backend: Backend) -> Counts:
    return convolution_counts(problem)


#: Channels that are computed at once: floats in the widest registers that CPUs have.
VECTOR = 16

#: Taps from which a single output channel is a product of a matrix and a long vector.
LONG = 1024

#: Channels in and out from which libraries reach the rate of their matrix products.
THICK = 32


def convolution_counts(problem: Problem) -> Counts:
    """Libraries compute output channels in vectors: one channel costs as much as sixteen, and of a depthwise
    convolution sixteen groups as much as one. What other groups and other ranks cost has little to do with that. A
    window of one tap is a matrix product, and groups of a multiple of 4 channels may have kernels of their own.
    """
    geometry, size = problem.geometry, in_floats(problem)
    places, pairs = positions(geometry) * size, geometry.batch * geometry.inputs * prod(map(met, geometry.axes)) * size
    groups, outputs = geometry.groups, geometry.outputs
    kind = "dense" if groups == 1 else "grouped"
    if groups == 1 and min(geometry.inputs, outputs) >= THICK and geometry.ndim < 3:
        kind = "thick"
    elif groups > 1 and geometry.inputs == 1:
        kind, groups, outputs = "depthwise", 1, groups * outputs
    elif groups > 1 and geometry.inputs % 4 == outputs % 4 == 0:
        kind = "blocked"
    elif groups * outputs == 1 and geometry.taps >= LONG:
        kind = "long"
    vectors = groups * (outputs if kind == "blocked" else -(-outputs // VECTOR) * VECTOR)
    if geometry.taps == 1:
        kind, vectors = "pointwise", geometry.groups * geometry.outputs
        if any(axis.stride > 1 for axis in geometry.axes):
            kind = "strided pointwise"
    elif geometry.ndim != 2:
        kind += f" {min(geometry.ndim, 3)}d"
    if any(axis.base_dilation > 1 for axis in geometry.axes):
        kind = "base dilated long" if geometry.taps >= LONG else "base dilated"
        places = places / prod([axis.base_dilation for axis in geometry.axes])
    x_size, kernel_size = prod(geometry.x_shape) * size, prod(geometry.kernel_shape) * size
    moved = {"input": x_size, "kernel": kernel_size}
    if kind.startswith("long"):
        moved = {f"{kind} input": x_size + kernel_size}
    return {
        "call": 1.0,
        "group": float(geometry.batch * geometry.groups) if kind.startswith(("grouped", "blocked")) else 0.0,
        kind: pairs * vectors,
        f"{kind} output": places * vectors,
        **moved,
    }


def met(axis: WindowDimension) -> int:
    """Pairs of a tap and an element of x along one axis, at most: padding and inserted zeros are skipped."""
    return min(axis.output * axis.kernel // axis.base_dilation, axis.size * min(axis.output, axis.kernel))


def prepare(problem: Problem, backend: Backend, block: tuple[int, ...]) -> Any:
    return None if backend.native is None else backend.native.prepare(problem)


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    native, problem = backend.native, program.problem
    if native is None:
        raise ValueError(f"{backend.name} has no convolution of its own")
    arguments = native.prepare(problem) if program.prepared is None else program.prepared
    if problem.accumulator == problem.dtype:
        return native.execute(arguments, x, kernel)
    wide = backend.dtype(problem.accumulator)
    y = native.execute(arguments, backend.cast(x, wide), backend.cast(kernel, wide))
    return backend.cast(y, x.dtype)


NATIVE = Algorithm("native", unsupported, counts, execute, prepare=prepare)
