"""`gemm` for a compiler: columns are stacked from slices of x, for one image or one input channel after the other.

With fewer taps than outputs a tap is a slice of x, and an image's columns are one matrix. The taps of the first axis
may be left out of it: these are output channels of a wider product, ``P[t, o, r]`` for all rows r of x, and
``y[o, r] = sum over t of P[t, o, r + t * dilation]`` adds up what lies a few rows apart. Columns are as many times
fewer. (kn2row: Anderson et al. 2017, "Low-memory GEMM-based convolution algorithms", arXiv:1709.03395.)

With fewer outputs than taps, as a kernel gradient has them, an output is a slice of x, and products of some input
channels at a time are added up. `gemm_cuts.py` has the pieces in which that is done.
"""

from __future__ import annotations

from functools import partial
from itertools import product
from math import prod
from typing import Any, NamedTuple

from ..backend import Backend
from ..geometry import Geometry, WindowDimension
from ..primitives import apart, beside, pad_zero, tap_slice
from ..program import Problem, Program
from .algorithm import Algorithm, prepared
from .gemm_cuts import (
    Parts,
    block,
    counts,
    divisor,
    fixed,
    groups,
    is_swept,
    is_taps_first,
    least,
    parts_of,
    places,
    split_at,
    split_of,
    step_of,
    unit,
    unsupported,
)
from .sweep import piece_of
from .tiles import Tiling, make_tiling, run_tiled

Array = Any


class Stacks(NamedTuple):
    """A tile's zeros, the slices of one image or of some inputs, and how products are added up.

    ``x`` and ``y`` are shapes without the batch, ``sums`` the places of a product for each tap of the first axis, none
    where these are in the columns. ``parts`` are multiplied at a time. Every ``step`` th element of the last axis is
    laid beside the other first, where slices would read these one by one.
    """

    widths: tuple[tuple[int, int], ...]
    x: tuple[int, ...]
    slices: tuple[Any, ...]
    sums: tuple[slice, ...]
    y: tuple[int, ...]
    parts: Parts
    step: int


def details(taps_first: bool, summed: bool, parts: Parts, geometry: Geometry) -> Stacks:
    axes, sums = geometry.axes, list[slice]()
    if summed:  # the product has a place for every row of x
        first, row, places = axes[0], prod(geometry.out[1:]), prod(geometry.out)
        starts = [tap * first.window_dilation * row for tap in range(first.kernel)]
        sums = [slice(start, start + places) for start in starts]
        axes = (WindowDimension(first.padded, 1), *axes[1:])
    window, out = [axis.kernel for axis in axes], [axis.output for axis in axes]
    stride, dilation = [axis.stride for axis in axes], [axis.window_dilation for axis in axes]
    if taps_first:
        slices = [tap_slice(tap, out, stride, dilation) for tap in product(*map(range, window))]
    else:
        slices = [tap_slice(place, window, dilation, stride) for place in product(*map(range, out))]
    step = step_of(geometry) if taps_first else 1
    if step > 1:
        slices = [(*places[:-1], *beside(places[-1], step)) for places in slices]
    return Stacks(
        tuple((axis.low, axis.high) for axis in geometry.axes),
        (geometry.groups, geometry.inputs, *(axis.padded for axis in geometry.axes)),
        tuple(slices),
        tuple(sums),
        geometry.y_shape[1:],
        parts,
        step,
    )


def prepare(problem: Problem, backend: Backend, block: tuple[int, ...]) -> Tiling:
    """All tiles in one order, since they share the kernel's rows."""
    geometry, step = problem.geometry, groups(problem, backend, block)
    taps_first, parts = is_taps_first(geometry), parts_of(geometry)
    split = split_at(geometry, piece_of(geometry, block)) if is_swept(problem, block) else split_of(geometry)
    own = partial(details, taps_first, taps_first and split.taps > 0, parts)
    return make_tiling(problem, backend, block, own, pads=False, groups=step)


def details_of(made: Tiling) -> Stacks:
    """Of the first tile, which has the order of all."""
    own: Stacks = made.tiles[0].details
    return own


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    """``rows (G, t O, I r)``: t taps are summed after the product, r are in the columns."""
    xp, geometry, own = backend.xp, program.geometry, details_of(prepared(program, backend))
    shape = (geometry.groups, geometry.outputs, geometry.inputs, len(own.sums) or 1, -1)
    rows = xp.permute_dims(xp.reshape(kernel, shape), (0, 3, 1, 2, 4))
    rows = xp.reshape(rows, (geometry.groups, shape[3] * geometry.outputs, geometry.terms // shape[3]))
    taps_first = is_taps_first(geometry)

    def compute(tile: Any, x: Array, rows: Array) -> Array:
        own: Stacks = tile.details
        some = partial(image if taps_first else added, backend, own, rows)
        return backend.each_part(some, x, divisor(x.shape[0], own.parts.images))

    return run_tiled(program, backend, x, rows, compute)


def image(backend: Backend, own: Stacks, rows: Array, x: Array) -> Array:
    """Products of all images with the columns of each.

    Without axes of one element, for whose reshapes XLA copies the columns once more.
    """
    xp, images, groups = backend.xp, x.shape[0], rows.shape[0]
    lead = tuple(n for n in (images, groups) if n > 1)
    x = xp.reshape(padded(backend, own, x), (*lead, *own.x[1:]))
    x = x if own.step == 1 else backend.hold(apart(xp, x, own.step))
    parts = [x[part] for part in own.slices]
    columns = parts[0] if len(parts) == 1 else xp.stack(parts, axis=len(lead) + 1)
    columns = backend.hold(xp.reshape(columns, (*lead, rows.shape[2], -1)))
    y = backend.matmul(rows if groups > 1 else rows[0, ...], columns)
    if own.sums:
        y = backend.hold(y)
        each = rows.shape[1] // len(own.sums)
        y = sum_taps([y[..., i * each : (i + 1) * each, part] for i, part in enumerate(own.sums)])
        y = backend.opaque(backend.hold(y))
    return xp.reshape(y, (images, *own.y))


def sum_taps(parts: list[Array]) -> Array:
    return sum(parts[1:], parts[0])


def padded(backend: Backend, own: Stacks, x: Array) -> Array:
    """``(N, G I, *s)`` as ``(N, G, I, *padded)``."""
    if any(map(any, own.widths)):
        x = backend.hold(pad_zero(backend.xp, x, own.widths))
    groups, _, *sizes = own.x
    return backend.xp.reshape(x, (x.shape[0], groups, x.shape[1] // groups, *sizes))


def added(backend: Backend, own: Stacks, rows: Array, x: Array) -> Array:
    """Products of some inputs after the others, of all these images: ``(G, N P, i k) @ (G, i k, O)``."""
    xp, images, (groups, inputs, *sizes) = backend.xp, x.shape[0], own.x
    step = divisor(inputs, own.parts.inputs)
    count = max(1, inputs) // step

    def some(x: Array, rows: Array) -> Array:
        x = padded(backend, own, x)
        if groups == 1:
            parts = [xp.reshape(x, (images, -1, *sizes))[part] for part in own.slices]
            columns, rows = xp.stack(parts, axis=1), rows[0, ...]
        else:
            x = backend.hold(xp.permute_dims(x, (1, 0, *range(2, x.ndim))))
            columns = xp.stack([x[part] for part in own.slices], axis=2)
        lead = (groups,) if groups > 1 else ()
        columns = backend.hold(xp.reshape(columns, (*lead, images * len(own.slices), -1)))
        return backend.matmul(columns, xp.matrix_transpose(rows))

    if count > 1:
        x = xp.reshape(x, (images, groups, count, step, *x.shape[2:]))
        x = xp.permute_dims(x, (2, 0, 1, *range(3, x.ndim)))
        x = xp.reshape(x, (count, images, groups * step, *x.shape[4:]))
        rows = xp.permute_dims(xp.reshape(rows, (*rows.shape[:2], count, -1)), (2, 0, 1, 3))
        y = backend.add_up(some, x, rows)
    else:
        y = some(x, rows)
    y = xp.reshape(y, (groups, images, len(own.slices), -1))
    return xp.reshape(xp.permute_dims(y, (1, 0, 3, 2)), (images, *own.y))


STACKED = Algorithm(
    "gemm",
    unsupported,
    counts,
    execute,
    unit,
    prepare,
    block=block,
    groups=groups,
    places=places,
    fixed=fixed,
    least=least,
)
