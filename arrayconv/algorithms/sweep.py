"""Pieces of a call that are all alike, for a library that runs them as one loop (`Backend.sweep`)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

from ..backend import Backend
from ..geometry import Geometry, WindowDimension
from ..program import Problem

Array = Any


class Sweep(NamedTuple):
    """The geometry of every piece, the shape of all results, and where pieces begin in x and in that."""

    piece: Geometry
    shape: tuple[int, ...]
    places: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]


def make_sweep(geometry: Geometry, block: tuple[int, ...], rows: int = 1, *, pads: bool = False) -> Sweep:
    """Pieces of ``block``, ``(batch, *out)``, as many ``rows`` of them along the last axis as are run together.

    The last piece of an axis begins earlier than after its neighbour, or makes results past the end. A piece begins
    outside of x where it meets padding, but along an axis that is not cut, which keeps its own unless the sweep
    ``pads`` all of them.
    """
    own = (*block[:-1], rows * block[-1])
    totals = tuple(max(pair) for pair in zip(own, (geometry.batch, *geometry.out), strict=True))
    piece = piece_of(geometry, block, rows, pads=pads)
    first = [part.low - axis.low for part, axis in zip(piece.axes, geometry.axes, strict=True)]
    places = []
    for image, *out in product(*([min(i, m - n) for i in range(0, m, n)] for n, m in zip(own, totals, strict=True))):
        corner = [i * axis.stride + low for i, axis, low in zip(out, geometry.axes, first, strict=True)]
        places.append(((image, 0, *corner), (image, 0, *out)))
    return Sweep(piece, (totals[0], geometry.y_shape[1], *totals[1:]), tuple(places))


def piece_of(geometry: Geometry, block: tuple[int, ...], rows: int = 1, *, pads: bool = False) -> Geometry:
    """Of every piece of a sweep."""
    axes = []
    for axis, n, count in zip(geometry.axes, block[1:], (*(1,) * (geometry.ndim - 1), rows), strict=True):
        steps = axis.window_dilation, axis.base_dilation
        cut = WindowDimension(read_by(axis, count * n), axis.kernel, axis.stride, 0, 0, *steps)
        axes.append(axis if n == axis.output and not pads else cut)
    return Geometry(block[0], geometry.groups, geometry.inputs, geometry.outputs, tuple(axes))


def read_by(axis: WindowDimension, count: int) -> int:
    """Elements of the padded input that so many outputs read."""
    return axis.window + (count - 1) * axis.stride


def run_swept(problem: Problem, sweep: Sweep, backend: Backend, x: Array, compute: Callable[[Array], Array]) -> Array:
    """``compute`` of every piece of x, in the accumulator's type."""
    assert backend.sweep is not None
    wide, dtype = backend.dtype(problem.accumulator), x.dtype

    def one(x: Array) -> Array:
        return backend.cast(compute(backend.cast(x, wide)), dtype)

    y = backend.sweep(one, x, sweep.shape, sweep.piece.x_shape, sweep.places)
    return y[(slice(None), slice(None), *[slice(0, n) for n in problem.geometry.out])]
