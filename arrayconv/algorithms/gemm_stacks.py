"""`gemm` for a compiler: columns are stacked from slices of x, for one image or one input channel after the other.

With fewer taps than outputs a tap is a slice of x, and an image's columns are one matrix. The taps of the first axis
may be left out of it: these are output channels of a wider product, ``P[t, o, r]`` for all rows r of x, and
``y[o, r] = sum over t of P[t, o, r + t * dilation]`` adds up what lies a few rows apart. Columns are as many times
fewer. (kn2row: Anderson et al. 2017, "Low-memory GEMM-based convolution algorithms", arXiv:1709.03395.)

With fewer outputs than taps, as a kernel gradient has them, `gemm_sums.py` adds up products. `gemm_cuts.py` has the
pieces in which either is done.
"""

from __future__ import annotations

from collections.abc import Callable
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
from .gemm_sums import added, sums_of
from .sweep import piece_of
from .tiles import Tiling, make_tiling, run_tiled

Array = Any


class Stacks(NamedTuple):
    """A tile's zeros, the slices of one image, and how taps are added up.

    ``x`` and ``y`` are shapes without the batch, ``sums`` the places of a product for each tap of the first axis, none
    where these are in the columns. So many ``images`` are multiplied at a time. Every ``step`` th element of the last
    axis is laid beside the other first, where slices would read these one by one.
    """

    widths: tuple[tuple[int, int], ...]
    x: tuple[int, ...]
    slices: tuple[Any, ...]
    sums: tuple[slice, ...]
    y: tuple[int, ...]
    images: int
    step: int


def details(summed: bool, images: int, geometry: Geometry) -> Stacks:
    axes, sums = geometry.axes, list[slice]()
    if summed:  # the product has a place for every row of x
        first, row, places = axes[0], prod(geometry.out[1:]), prod(geometry.out)
        starts = [tap * first.window_dilation * row for tap in range(first.kernel)]
        sums = [slice(start, start + places) for start in starts]
        axes = (WindowDimension(first.padded, 1), *axes[1:])
    window, out = [axis.kernel for axis in axes], [axis.output for axis in axes]
    stride, dilation = [axis.stride for axis in axes], [axis.window_dilation for axis in axes]
    slices, step = [tap_slice(tap, out, stride, dilation) for tap in product(*map(range, window))], step_of(geometry)
    if step > 1:
        slices = [(*places[:-1], *beside(places[-1], step)) for places in slices]
    return Stacks(
        tuple((axis.low, axis.high) for axis in geometry.axes),
        (geometry.groups, geometry.inputs, *(axis.padded for axis in geometry.axes)),
        tuple(slices),
        tuple(sums),
        geometry.y_shape[1:],
        images,
        step,
    )


def prepare(problem: Problem, backend: Backend, block: tuple[int, ...]) -> Tiling:
    """All tiles in one order, since they share the kernel's rows."""
    geometry, step, parts = problem.geometry, groups(problem, backend, block), parts_of(problem.geometry)
    if is_taps_first(geometry):
        split = split_at(geometry, piece_of(geometry, block)) if is_swept(problem, block) else split_of(geometry)
        own: Any = partial(details, split.taps > 0, parts.images)
    else:
        own = partial(sums_of, parts)
    return make_tiling(problem, backend, block, own, pads=False, groups=step)


def first_details(made: Tiling) -> Any:
    """`Stacks` or `Sums` of the first tile, which has the order of all."""
    return made.tiles[0].details


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    own, rows = first_details(prepared(program, backend)), kernel
    some: Callable[..., Array] = added
    if isinstance(own, Stacks):
        some, rows = image, rows_of(backend, program.geometry, len(own.sums) or 1, kernel)

    def compute(tile: Any, x: Array, rows: Array) -> Array:
        images = divisor(x.shape[0], tile.details.images)
        return backend.each_part(partial(some, backend, tile.details, rows), x, images)

    return run_tiled(program, backend, x, rows, compute)


def rows_of(backend: Backend, geometry: Geometry, taps: int, kernel: Array) -> Array:
    """``(G, t O, I r)``: t taps are summed after the product, r are in the columns."""
    xp = backend.xp
    rows = xp.reshape(kernel, (geometry.groups, geometry.outputs, geometry.inputs, taps, -1))
    rows = xp.permute_dims(rows, (0, 3, 1, 2, 4))
    return xp.reshape(rows, (geometry.groups, taps * geometry.outputs, geometry.terms // taps))


def image(backend: Backend, own: Stacks, rows: Array, x: Array) -> Array:
    """Products of all images with the columns of each.

    Without axes of one element, for whose reshapes XLA copies the columns once more.
    """
    xp, images, groups = backend.xp, x.shape[0], rows.shape[0]
    lead = tuple(n for n in (images, groups) if n > 1)
    x = backend.hold(pad_zero(xp, x, own.widths)) if any(map(any, own.widths)) else x
    x = xp.reshape(x, (*lead, *own.x[1:]))
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
