"""The rewrite for windows that reach far into the padding: taps that meet nothing but zeros, and outputs, are left out.

A 3x3 window of dilation 18 over a map of 16x16 with 18 zeros around (the last branch of atrous spatial pyramid pooling:
Chen et al. 2017, "Rethinking atrous convolution for semantic image segmentation") is its middle tap alone, a 3x3 over a
map of 1x1 likewise. Tap ``t`` meets ``x`` at outputs ``j`` with ``0 <= j * stride + t * window_dilation - low < base``:
none at all if it stays below zero at the last output, or is past the end at the first. Outputs follow the same way from
the taps that are left. A tap left out is not multiplied at all, so that it may be infinite.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

from ..backend import Backend
from ..geometry import Geometry, WindowDimension
from ..program import Problem, Program, problems_of
from .algorithm import Algorithm, base_dilated, in_floats, prepared, run
from .rates import Counts

Array = Any


class Trimmed(NamedTuple):
    """What is left of an axis: its taps, the part of x that these read, zero outputs on both sides, the axis itself."""

    taps: slice
    source: slice
    zeros: tuple[int, int]
    axis: WindowDimension


def is_met(axis: WindowDimension) -> bool:
    """Whether the first and the last tap and output meet elements, as all between them do then: most axes are so."""
    window, reach, end = axis.window - 1, (axis.output - 1) * axis.stride, axis.base - 1 + axis.low
    return axis.low <= window and axis.low <= reach and window <= end and reach <= end


def met_taps(axis: WindowDimension) -> range:
    """Taps that may meet an element; one where none does."""
    step, reach = axis.window_dilation, axis.low - (axis.output - 1) * axis.stride
    start = min(axis.kernel - 1, max(0, -(-reach // step)))
    return range(start, min(axis.kernel, max(start + 1, (axis.base - 1 + axis.low) // step + 1)))


def met_outputs(axis: WindowDimension, taps: range) -> range:
    """Outputs at which one of these taps may meet an element; one where none does."""
    first, last = (tap * axis.window_dilation - axis.low for tap in (taps[0], taps[-1]))
    start = min(axis.output - 1, max(0, -(last // axis.stride)))
    return range(start, min(axis.output, max(start + 1, (axis.base - 1 - first) // axis.stride + 1)))


def trim(axis: WindowDimension) -> Trimmed:
    """An axis of at least one element, tap and output without what meets only padding."""
    taps = met_taps(axis)
    outputs = met_outputs(axis, taps)
    source, own = axis.block(outputs, taps)
    zeros = outputs.start, axis.output - outputs.stop
    return Trimmed(slice(taps.start, taps.stop), source, zeros, own)


@lru_cache(maxsize=1024)  # its parts, what it costs and how it runs all ask for it
def trims(geometry: Geometry) -> tuple[Trimmed, ...]:
    return tuple([trim(axis) for axis in geometry.axes])


def parts(geometry: Geometry) -> tuple[Geometry, ...]:
    axes = tuple([own.axis for own in trims(geometry)])
    return (Geometry(geometry.batch, geometry.groups, geometry.inputs, geometry.outputs, axes),)


def unsupported(problem: Problem, backend: Backend) -> str | None:
    if (reason := base_dilated(problem)) is not None:
        return reason
    if problem.too_large is not None:
        return problem.too_large
    for axis in problem.geometry.axes:
        if is_met(axis):
            continue
        taps = met_taps(axis)
        if len(taps) < axis.kernel or len(met_outputs(axis, taps)) < axis.output:
            return None
    return "every tap and every output meets an element"


#: Floats of a cache line, all but one: what a copy of a run of taps reads besides.
LINE = 15


def counts(problem: Problem, backend: Backend) -> Counts:
    """Of the lines of the kernel that a copy of the smaller one reads, and of the zeros; the planner adds the part."""
    geometry, (part,) = problem.geometry, parts(problem.geometry)
    lines = prod(part.kernel_shape[:-1]) * (part.window[-1] + LINE)
    work = {"call": 1.0, "kernel": min(prod(geometry.kernel_shape), lines) * in_floats(problem)}
    if part.out != geometry.out:
        work["output"] = prod(geometry.y_shape) * in_floats(problem)
    return work


class Cut(NamedTuple):
    """Indices of what is left of x and of the kernel, and the zeros around the result, if there are any."""

    x: tuple[Any, ...]
    kernel: tuple[Any, ...]
    zeros: tuple[tuple[int, int], ...] | None


def prepare(problem: Problem, backend: Backend, block: tuple[int, ...]) -> Cut:
    taps, sources, zeros, _ = zip(*trims(problem.geometry), strict=True)
    return Cut((..., *sources), (..., *taps), zeros if any(map(any, zeros)) else None)


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    cut: Cut = prepared(program, backend)
    y = run(program.parts[0], backend, x[cut.x], kernel[cut.kernel])
    return y if cut.zeros is None else backend.pad(y, cut.zeros)


TRIM = Algorithm("trim", unsupported, counts, execute, parts=problems_of(parts), prepare=prepare)
