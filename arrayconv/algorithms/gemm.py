"""im2col and one matrix product a tile (cuDNN's name for it is GEMM): serves every geometry without base dilation."""

from __future__ import annotations

from math import prod
from typing import Any

from ..backend import Backend
from ..program import Problem, Program
from .algorithm import Algorithm, Tile, Tiling, base_dilated, block_shape, cache_budget, make_tiling, run_tiled
from .rates import rates

Array = Any


def unsupported(problem: Problem, backend: Backend) -> str | None:
    return base_dilated(problem)


def unit(problem: Problem, backend: Backend) -> int:
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


def block(problem: Problem, backend: Backend, budget: int) -> tuple[int, ...]:
    return block_shape(problem.geometry, unit(problem, backend), cache_budget(backend, budget))


def prepare(problem: Problem, backend: Backend, block: tuple[int, ...]) -> Tiling:
    return make_tiling(problem, block, lambda geometry: None)


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    geometry = program.geometry
    stride = [axis.stride for axis in geometry.axes]
    dilation = [axis.window_dilation for axis in geometry.axes]
    groups, terms, ndim = geometry.groups, geometry.inputs * geometry.taps, geometry.ndim
    taps_first = (0, 1, *range(2 + ndim, 2 + 2 * ndim), *range(2, 2 + ndim))
    xp = backend.xp
    rows = xp.reshape(kernel, (groups, geometry.outputs, terms))

    def compute(tile: Tile, x: Array, rows: Array) -> Array:
        columns = xp.permute_dims(backend.windows(x, geometry.window, stride, dilation), taps_first)
        columns = xp.reshape(columns, (tile.geometry.batch, groups, terms, -1))
        return xp.reshape(backend.matmul(rows, columns), tile.geometry.y_shape)

    return run_tiled(program, backend, x, rows, compute)


GEMM = Algorithm("gemm", unsupported, cost, execute, unit, prepare, block=block)
