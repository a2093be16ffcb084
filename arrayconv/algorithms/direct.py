"""Shift and accumulate: one strided slice of x a tap, times that tap, summed.

No temporaries beside the slices, and compilers fuse it: the way for one or few channels and small windows.
"""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any

from ..backend import Backend
from ..geometry import Geometry
from ..primitives import tap_slice
from ..program import Problem, Program
from .algorithm import Algorithm, base_dilated, run_tiled
from .rates import rates

Array = Any


def unsupported(problem: Problem, backend: Backend) -> str | None:
    if problem.geometry.terms > backend.most_slices:
        return f"{problem.geometry.terms} shifted slices; {backend.name} takes {backend.most_slices}"
    return base_dilated(problem)


def unit(problem: Problem) -> int:
    """Bytes a position: the padded inputs, a product and the sum."""
    geometry = problem.geometry
    spread = prod(axis.stride for axis in geometry.axes)
    return geometry.groups * (2 * geometry.inputs * spread + 2 * geometry.outputs) * problem.itemsize


def cost(problem: Problem, backend: Backend) -> float:
    rate = rates(problem)
    products = problem.geometry.multiply_adds
    calls = problem.geometry.terms * rate.call
    return calls + products * rate.slice_passes * problem.itemsize / rate.stream


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    def tile(geometry: Geometry, x: Array, kernel: Array) -> Array:
        groups, inputs, outputs = geometry.groups, geometry.inputs, geometry.outputs
        stride = [axis.stride for axis in geometry.axes]
        dilation = [axis.window_dilation for axis in geometry.axes]
        x = backend.xp.reshape(x, (geometry.batch, groups, 1, inputs, *geometry.sizes))
        kernel = backend.xp.reshape(kernel, (groups, outputs, inputs, *geometry.window))
        spread = (...,) + (None,) * geometry.ndim
        total = None
        for taps in product(*map(range, geometry.window)):
            shifted = x[tap_slice(taps, geometry.out, stride, dilation)]
            for i in range(inputs):
                term = shifted[:, :, :, i, ...] * kernel[(slice(None), slice(None), i, *taps)][spread]
                total = term if total is None else total + term
        return backend.xp.reshape(total, geometry.y_shape)

    return run_tiled(program, backend, x, kernel, tile)


DIRECT = Algorithm("direct", unsupported, cost, execute, unit)
