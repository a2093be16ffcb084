"""What is not finite in x stays within its windows, for methods that mix neighbours.

Such a method multiplies elements outside of a window by zeros, or by what cancels, and 0 * inf is NaN. So it runs on x
with zeros in their place, and NaN is written wherever a window holds one.
"""

from __future__ import annotations

from collections.abc import Callable
from math import nan
from typing import Any

from ..backend import Backend
from ..geometry import Geometry, WindowDimension
from ..primitives import dilate, full, pad_zero

Array = Any


def guarded(backend: Backend, geometry: Geometry, x: Array, compute: Callable[[Array], Array]) -> Array:
    """``compute(x)``, run again on the finite part of x where the result is not finite."""

    def repaired(x: Array) -> Array:
        xp = backend.xp
        finite = xp.isfinite(x)
        return restore(backend, geometry, finite, compute(xp.where(finite, x, xp.zeros_like(x))))

    return backend.unless_finite(compute, repaired, x)


def restore(backend: Backend, geometry: Geometry, finite: Array, y: Array) -> Array:
    """NaN wherever a window holds an element that is not finite: a count, one axis after the other."""
    xp = backend.xp
    spoiled = xp.astype(~finite, xp.int32)
    spoiled = xp.reshape(spoiled, (geometry.batch, geometry.groups, geometry.inputs, *geometry.sizes))
    counts = xp.sum(spoiled, axis=2, dtype=xp.int32)
    counts = dilate(xp, counts, [axis.base_dilation for axis in geometry.axes])
    counts = pad_zero(xp, counts, [(axis.low, axis.high) for axis in geometry.axes])
    for i, axis in enumerate(geometry.axes, 2):
        counts = count_windows(counts, i, axis)
    bad = xp.reshape(xp.repeat(counts, geometry.outputs, axis=1), y.shape) > 0
    return xp.where(bad, full(xp, y, y.shape, nan), y)


def count_windows(counts: Array, i: int, axis: WindowDimension) -> Array:
    """More than 0 where a window along axis i holds a count: the union of two windows, each time twice as long."""
    length = axis.padded

    def part(start: int, stop: int, step: int = 1) -> tuple[Any, ...]:
        return (*(slice(None),) * i, slice(start, stop, step), ...)

    taps = 1
    while taps < axis.kernel:
        more = min(taps, axis.kernel - taps)
        shift = more * axis.window_dilation
        counts = counts[part(0, length - shift)] + counts[part(shift, length)]
        length, taps = length - shift, taps + more
    return counts[part(0, (axis.output - 1) * axis.stride + 1, axis.stride)]
