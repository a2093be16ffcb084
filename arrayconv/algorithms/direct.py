"""Shift and accumulate: one strided slice of x a tap, times that tap, summed.

No temporaries beside the slices, and compilers fuse it: the way for one or few channels and small windows.
"""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any, NamedTuple

from ..backend import Backend
from ..geometry import Geometry
from ..primitives import tap_slice
from ..program import Problem, Program
from .algorithm import (
    Algorithm,
    Tile,
    Tiling,
    base_dilated,
    beyond_cache,
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
    if problem.geometry.terms > backend.most_slices:
        return f"{problem.geometry.terms} shifted slices; {backend.name} takes {backend.most_slices}"
    return base_dilated(problem)


def unit(problem: Problem, backend: Backend) -> int:
    """Bytes a position: the padded inputs, a product and the sum."""
    geometry = problem.geometry
    spread = prod(axis.stride for axis in geometry.axes)
    return geometry.groups * (2 * geometry.inputs * spread + 2 * geometry.outputs) * problem.itemsize


def counts(problem: Problem, backend: Backend) -> Counts:
    """Short rows of the result cost more: by their number; and a single one, which XLA doesn't share among threads."""
    geometry, size = problem.geometry, in_floats(problem)
    products = positions(geometry) * geometry.groups * geometry.outputs * geometry.terms * size
    kind = "product" if geometry.ndim > 1 else "product 1d"
    return {
        "call": 1.0,
        "slice": geometry.terms * pieces(problem, backend, unit(problem, backend)),
        kind if geometry.axes[-1].stride == 1 else f"strided {kind}": products,
        "run": products / max(1, geometry.out[-1]),
        "single run": products if prod(geometry.y_shape) == geometry.out[-1] else 0.0,
        "input": prod(geometry.x_shape) * size,
        "output": prod(geometry.y_shape) * size,
        "memory": beyond_cache(problem),
    }


class Term(NamedTuple):
    """One shifted slice: where it lies in x, and which numbers of the kernel it is multiplied by."""

    source: tuple[Any, ...]
    weight: tuple[Any, ...]


def is_plain(geometry: Geometry) -> bool:
    """One channel in and out of each group: no axes to add."""
    return geometry.inputs == geometry.outputs == 1


def terms(geometry: Geometry) -> tuple[Term, ...]:
    """A term for each tap and input channel, over ``x (N, G, *s)``, or ``(N, G, 1, I, *s)`` with channels."""
    stride = [axis.stride for axis in geometry.axes]
    dilation = [axis.window_dilation for axis in geometry.axes]
    spread, every = (None,) * geometry.ndim, slice(None)
    shifts = [
        (tap_slice(taps, geometry.out, stride, dilation)[1:], taps) for taps in product(*map(range, geometry.window))
    ]
    if is_plain(geometry):
        return tuple(Term((every, every, *shift), (every, 0, *taps, *spread)) for shift, taps in shifts)
    return tuple(
        Term((every, every, every, i, *shift), (every, every, i, *taps, *spread))
        for shift, taps in shifts
        for i in range(geometry.inputs)
    )


def block(problem: Problem, backend: Backend, budget: int) -> tuple[int, ...]:
    return block_shape(problem.geometry, unit(problem, backend), cache_budget(problem, backend, budget))


def prepare(problem: Problem, backend: Backend, block: tuple[int, ...]) -> Tiling:
    return make_tiling(problem, block, terms)


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    geometry = program.geometry
    groups, inputs, outputs = geometry.groups, geometry.inputs, geometry.outputs
    if not is_plain(geometry):
        kernel = backend.xp.reshape(kernel, (groups, outputs, inputs, *geometry.window))

    def compute(tile: Tile, x: Array, kernel: Array) -> Array:
        if is_plain(geometry):
            return backend.sum_products([(x[source], kernel[weight]) for source, weight in tile.details])
        x = backend.xp.reshape(x, (tile.geometry.batch, groups, 1, inputs, *tile.geometry.sizes))
        y = backend.sum_products([(x[source], kernel[weight]) for source, weight in tile.details])
        return backend.xp.reshape(y, tile.geometry.y_shape)

    return run_tiled(program, backend, x, kernel, compute)


DIRECT = Algorithm("direct", unsupported, counts, execute, unit, prepare, block=block, threaded=True)
