"""im2col and one matrix product a tile (cuDNN's name for it is GEMM): serves every geometry without base dilation."""

from __future__ import annotations

from math import prod
from typing import Any

from ..backend import Backend
from ..program import Problem, Program
from .algorithm import (
    ALGORITHMS,
    Algorithm,
    Tile,
    Tiling,
    base_dilated,
    block_shape,
    cache_budget,
    in_floats,
    make_tiling,
    pieces,
    positions,
    run_tiled,
)
from .rates import Counts

Array = Any


def unsupported(problem: Problem, backend: Backend) -> str | None:
    taps = problem.geometry.taps
    if taps > backend.most_slices and ALGORITHMS["native"].unsupported(problem, backend) is None:
        return f"{taps} shifted slices; {backend.name} takes {backend.most_slices}"
    return base_dilated(problem)


def unit(problem: Problem, backend: Backend) -> int:
    """Bytes a position: the padded inputs, the column and the result."""
    geometry = problem.geometry
    spread = prod(axis.stride for axis in geometry.axes)
    return geometry.groups * (geometry.terms + geometry.inputs * spread + geometry.outputs) * problem.itemsize


def counts(problem: Problem, backend: Backend) -> Counts:
    return product_counts(problem, pieces(problem, backend, unit(problem, backend)))


def product_counts(problem: Problem, tiles: float) -> Counts:
    """A product of few rows, or of short ones, is slower: by the columns and the outputs that it moves."""
    geometry, size = problem.geometry, in_floats(problem)
    columns = positions(geometry) * geometry.groups * geometry.terms
    run = geometry.out[-1] if geometry.axes[-1].stride == 1 else 1
    return {
        "call": 1.0,
        "tile": tiles,
        "matrix": float(geometry.batch * geometry.groups),
        "column": columns * size,
        "run": columns / max(1, run),
        "integer product" if problem.is_integer else "product": columns * geometry.outputs * size,
        "output": prod(geometry.y_shape) * size,
    }


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


GEMM = Algorithm("gemm", unsupported, counts, execute, unit, prepare, block=block)
