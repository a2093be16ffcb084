"""Shift and accumulate: one strided slice of x a tap, times that tap, summed.

No temporaries beside the slices, and compilers fuse it: the way for one or few channels and small windows, and for
longer ones where the library adds them up in passes (`Backend.sum_slices`).
"""

from __future__ import annotations

from collections.abc import Sequence
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
    fresh,
    in_floats,
    loops_on,
    make_tiling,
    padded,
    pieces,
    positions,
    run_tiled,
    shared,
)
from .rates import Counts

Array = Any

#: Slices of a sum in passes: they are listed, and other ways are faster long before.
MOST_LOOPED = 4096


def unsupported(problem: Problem, backend: Backend) -> str | None:
    most = backend.most_slices if backend.sum_slices is None else MOST_LOOPED
    if problem.geometry.terms > most:
        return f"{problem.geometry.terms} shifted slices; {backend.name} takes {most}"
    return base_dilated(problem)


def unit(problem: Problem, backend: Backend) -> int:
    """Bytes a position: the padded inputs, a product and the sum."""
    geometry = problem.geometry
    spread = prod(axis.stride for axis in geometry.axes)
    return geometry.groups * (2 * geometry.inputs * spread + 2 * geometry.outputs) * problem.itemsize


#: Products of a compiled loop from which threads share it, and have to be woken.
SHARED = 2**15


def counts(problem: Problem, backend: Backend) -> Counts:
    """Short rows of the result cost more, by their number; arrays that no cache holds come from memory in each pass."""
    geometry, size = problem.geometry, in_floats(problem)
    y_size, strided = prod(geometry.y_shape), geometry.axes[-1].stride > 1
    products = positions(geometry) * geometry.groups * geometry.outputs * geometry.terms * size
    kind = "product" if geometry.ndim > 1 else "product 1d"
    tiles, passes = pieces(problem, backend, unit(problem, backend)), backend.passes(geometry.terms)
    word, copied = shared(backend.workers, tiles), padded(geometry, size)
    if passes == 1:
        split = 0
        own = {"slice": geometry.terms * tiles, f"{word}strided {kind}" if strided else word + kind: products}
    else:
        own = {"looped part": passes * tiles, "looped output": passes * y_size * size, kind: products}
        split = prod(geometry.x_shape) if strided else 0
        own["split input"] = split * size
    if backend.sum_slices is not None:
        own["shared call"] = float(products > SHARED)
    return {
        "call": 1.0,
        **own,
        "fresh": fresh(size, y_size) + fresh(size, 2 * split) + fresh(1.0, copied),
        "run": products / max(1, geometry.out[-1]),
        "input": prod(geometry.x_shape) * size,
        "padded": copied,
        "output": y_size * size,
        "memory": passes * beyond_cache(geometry, size),
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


def weights(backend: Backend, geometry: Geometry, kernel: Array) -> Array:
    """What each term is multiplied by, ``(terms, G, 1...)``, or ``(terms, G, O, 1...)`` with channels."""
    groups, ndim = geometry.groups, geometry.ndim
    lead = (groups,) if is_plain(geometry) else (groups, geometry.outputs)
    kernel = backend.xp.reshape(kernel, (prod(lead), geometry.inputs, prod(geometry.window)))
    kernel = backend.xp.permute_dims(kernel, (2, 1, 0))
    return backend.xp.reshape(kernel, (geometry.terms, *lead, *(1,) * ndim))


def add_terms(backend: Backend, geometry: Geometry, terms: Sequence[Term], x: Array, kernel: Array) -> Array:
    """The sum over a tile, by the backend's own loop where it has one."""
    if backend.sum_slices is not None:
        return backend.sum_slices(x, [term.source for term in terms], weights(backend, geometry, kernel))
    return backend.sum_products([(x[source], kernel[weight]) for source, weight in terms])


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    geometry = program.geometry
    groups, inputs, outputs = geometry.groups, geometry.inputs, geometry.outputs
    if not is_plain(geometry):
        kernel = backend.xp.reshape(kernel, (groups, outputs, inputs, *geometry.window))

    def compute(tile: Tile, x: Array, kernel: Array) -> Array:
        if is_plain(geometry):
            return add_terms(backend, geometry, tile.details, x, kernel)
        x = backend.xp.reshape(x, (tile.geometry.batch, groups, 1, inputs, *tile.geometry.sizes))
        y = add_terms(backend, geometry, tile.details, x, kernel)
        return backend.xp.reshape(y, tile.geometry.y_shape)

    return run_tiled(program, backend, x, kernel, compute)


DIRECT = Algorithm("direct", unsupported, counts, execute, unit, prepare, block=block, crew=loops_on, is_sum=True)
