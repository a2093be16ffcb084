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
    base_dilated,
    beyond_cache,
    block_shape,
    budget_of,
    cache_budget,
    count_of,
    fresh,
    groups_of,
    in_floats,
    loops_on,
    padded,
    pieces,
    positions,
    shared,
)
from .rates import Counts
from .tiles import Tile, Tiling, make_tiling, run_tiled

Array = Any

#: Slices of a sum in passes: they are listed, and other ways are faster long before.
MOST_LOOPED = 4096


def unsupported(problem: Problem, backend: Backend) -> str | None:
    most = backend.most_slices if backend.sum_slices is None else MOST_LOOPED
    if problem.geometry.terms > most:
        return f"{problem.geometry.terms} shifted slices; {backend.name} takes {most}"
    return base_dilated(problem)


def unit(problem: Problem, backend: Backend) -> int:
    """Bytes a position of a tile: the padded inputs twice, and those of `laid`; a product and the sum."""
    geometry = problem.geometry
    inputs = (2 + laid(problem, backend)) * geometry.inputs * prod([axis.stride for axis in geometry.axes])
    return geometry.groups * (inputs + 2 * geometry.outputs) * problem.itemsize


#: Passes from which the first one may be so short that it is given x as a copy.
MANY = 13


def laid(problem: Problem, backend: Backend) -> int:
    """Copies of x that a sum in passes reads: of one with a stride a copy without, by way of another."""
    geometry, passes = problem.geometry, backend.passes(problem.geometry.terms)
    return 0 if passes == 1 else int(passes >= MANY) + 2 * int(geometry.axes[-1].stride > 1)


def fused(problem: Problem, backend: Backend) -> int:
    """Bytes of a call as a whole where a compiler fuses it: x with its zeros and `laid`, and the result where a line is
    parted. It reads any other x where it lies.
    """
    geometry = problem.geometry
    held = (laid(problem, backend) + geometry.is_padded) * geometry.padded_size
    return (held + (prod(geometry.y_shape) if geometry.ndim == 1 else 0)) * problem.itemsize


def fixed(problem: Problem, backend: Backend, block: tuple[int, ...]) -> int:
    """What a call that is fused as a whole holds beyond the share of all positions."""
    if backend.sum_slices is None or block != (problem.geometry.batch, *problem.geometry.out):
        return 0
    return fused(problem, backend) - prod(block) * unit(problem, backend)


def tiles_and_sweep(problem: Problem, backend: Backend) -> tuple[float, float]:
    """About how many tiles there are, and floats of x that a sweep over them copies on the way."""
    each = unit(problem, backend)
    if backend.sum_slices is None:
        return pieces(problem, backend, each), 0.0
    if fused(problem, backend) <= budget_of(problem):
        return 1.0, 0.0
    return positions(problem.geometry) * each / SWEPT, prod(problem.geometry.x_shape) * in_floats(problem)


#: Products of a compiled loop from which threads share it, and have to be woken.
SHARED = 2**15


def counts(problem: Problem, backend: Backend) -> Counts:
    """Short rows of the result cost more, by their number; arrays that no cache holds come from memory in each pass."""
    geometry, size = problem.geometry, in_floats(problem)
    y_size, strided = prod(geometry.y_shape), geometry.axes[-1].stride > 1
    products = positions(geometry) * geometry.groups * geometry.outputs * geometry.terms * size
    passes, copied = backend.passes(geometry.terms), padded(geometry, size)
    tiles, swept = tiles_and_sweep(problem, backend)
    word = shared(backend.workers, tiles)
    if passes == 1:
        split = 0
        own = {"slice": geometry.terms * tiles, f"{word}strided product" if strided else f"{word}product": products}
    else:
        own = {"looped part": passes * tiles, "looped output": passes * y_size * size, "product": products}
        split = prod(geometry.x_shape) if strided else 0
        own["split input"] = split * size
    if backend.sum_slices is not None:
        own["shared call"] = float(products > SHARED)
    return {
        "call": 1.0,
        **own,
        "fresh": fresh(size, y_size) + (swept or fresh(size, 2 * split) + fresh(1.0, copied)),
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


#: Bytes of the tiles in which what is not fused as a whole is swept.
SWEPT = 2**23


def block(problem: Problem, backend: Backend, budget: int) -> tuple[int, ...]:
    geometry, whole = problem.geometry, (problem.geometry.batch, *problem.geometry.out)
    each, room = unit(problem, backend), cache_budget(problem, backend, budget)
    if backend.sum_slices is not None:
        return whole if fused(problem, backend) <= budget else block_shape(geometry, each, min(budget, SWEPT))
    own = block_shape(geometry, each, room)
    return own if own[-1] == whole[-1] else block_shape(geometry, each // max(1, geometry.groups), room)


def groups(problem: Problem, backend: Backend, block: tuple[int, ...]) -> int:
    """Few where rows of all would be cut: pieces of many rows lie on many pages (157 groups of 94,406 elements, one
    tap: 9.1 ms by pieces of all groups, 5.8 so).
    """
    geometry = problem.geometry
    if backend.sum_slices is not None:
        return geometry.groups
    room = cache_budget(problem, backend, budget_of(problem) // count_of(backend.workers))
    return groups_of(geometry, unit(problem, backend), block, room)


def prepare(problem: Problem, backend: Backend, block: tuple[int, ...]) -> Tiling:
    return make_tiling(problem, backend, block, terms, groups=groups(problem, backend, block))


def weights(backend: Backend, geometry: Geometry, kernel: Array) -> Array:
    """What each term is multiplied by, ``(terms, G, 1...)``, or ``(terms, G, O, 1...)`` with channels."""
    groups, ndim = geometry.groups, geometry.ndim
    lead = (groups,) if is_plain(geometry) else (groups, geometry.outputs)
    kernel = backend.xp.reshape(kernel, (prod(lead), geometry.inputs, prod(geometry.window)))
    kernel = backend.xp.permute_dims(kernel, (2, 1, 0))
    return backend.xp.reshape(kernel, (geometry.terms, *lead, *(1,) * ndim))


def add_terms(
    backend: Backend, geometry: Geometry, terms: Sequence[Term], x: Array, kernel: Array, **out: Array
) -> Array:
    """The sum over a tile, by the backend's own loop where it has one; into a buffer, if that is given as ``out``."""
    if backend.sum_slices is not None:
        sources = [term.source for term in terms]
        return backend.opaque(backend.sum_slices(x, sources, weights(backend, geometry, kernel)))
    return backend.sum_products([(x[source], kernel[weight]) for source, weight in terms], **out)


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    geometry = program.geometry
    inputs, outputs = geometry.inputs, geometry.outputs
    if not is_plain(geometry):
        kernel = backend.xp.reshape(kernel, (geometry.groups, outputs, inputs, *geometry.window))

    def compute(tile: Tile, x: Array, kernel: Array, **out: Array) -> Array:
        if is_plain(geometry):
            return add_terms(backend, geometry, tile.details, x, kernel, **out)
        own = tile.geometry
        x = backend.xp.reshape(x, (own.batch, own.groups, 1, inputs, *own.sizes))
        y = add_terms(backend, geometry, tile.details, x, kernel, **out)
        return backend.xp.reshape(y, tile.geometry.y_shape)

    def into(tile: Tile, x: Array, kernel: Array, y: Array) -> Array:
        own = tile.geometry
        shape = own.y_shape if is_plain(own) else (own.batch, own.groups, outputs, *own.out)
        return compute(tile, x, kernel, out=backend.xp.reshape(y, shape))

    return run_tiled(program, backend, x, kernel, compute, into)


DIRECT = Algorithm(
    "direct",
    unsupported,
    counts,
    execute,
    unit,
    prepare,
    block=block,
    fixed=fixed,
    groups=groups,
    crew=loops_on,
    is_sum=True,
)
