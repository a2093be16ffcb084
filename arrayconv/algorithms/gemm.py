"""im2col and one matrix product a tile (cuDNN's name for it is GEMM): serves every geometry without base dilation."""

from __future__ import annotations

from math import prod
from typing import Any

from ..backend import Backend
from ..geometry import Geometry
from ..program import Problem, Program
from .algorithm import Algorithm, base_dilated, run_tiled
from .rates import rates

Array = Any


def unsupported(problem: Problem, backend: Backend) -> str | None:
    return base_dilated(problem)


def unit(problem: Problem) -> int:
    """Bytes a position: the padded inputs, the column and the result."""
    geometry = problem.geometry
    spread = prod(axis.stride for axis in geometry.axes)
    return geometry.groups * (geometry.terms + geometry.inputs * spread + geometry.outputs) * problem.itemsize


def cost(problem: Problem, backend: Backend) -> float:
    rate, geometry = rates(problem), problem.geometry
    columns = geometry.batch * prod(geometry.out) * geometry.groups * geometry.terms * problem.itemsize
    rate_of_product = rate.gemm / (1 + rate.half_rows / max(1, min(geometry.outputs, geometry.terms)))
    if problem.is_integer:
        rate_of_product = rate.integer_gemm
    return rate.call * 8 + 2 * columns / rate.gather + geometry.multiply_adds / rate_of_product


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    def tile(geometry: Geometry, x: Array, kernel: Array) -> Array:
        xp, ndim = backend.xp, geometry.ndim
        batch, groups, inputs, outputs = geometry.batch, geometry.groups, geometry.inputs, geometry.outputs
        stride = [axis.stride for axis in geometry.axes]
        dilation = [axis.window_dilation for axis in geometry.axes]
        columns = backend.windows(x, geometry.window, stride, dilation)
        taps_first = (0, 1, *range(2 + ndim, 2 + 2 * ndim), *range(2, 2 + ndim))
        columns = xp.reshape(xp.permute_dims(columns, taps_first), (batch, groups, inputs * geometry.taps, -1))
        rows = xp.reshape(kernel, (groups, outputs, inputs * geometry.taps))
        return xp.reshape(backend.matmul(rows, columns), geometry.y_shape)

    return run_tiled(program, backend, x, kernel, tile)


GEMM = Algorithm("gemm", unsupported, cost, execute, unit)
