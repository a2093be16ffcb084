"""What is not finite in x stays within its windows, for methods that mix neighbours.

Such a method multiplies elements outside of a window by zeros, or by what cancels, and 0 * inf is NaN. So it runs on x
with zeros in their place, and NaN is written wherever a window holds one.
"""

from __future__ import annotations

from collections.abc import Callable
from math import nan
from typing import Any

from ..backend import Backend
from ..geometry import Geometry
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
    """NaN wherever a window holds an element that is not finite: a box count, one axis after the other."""
    xp = backend.xp
    spoiled = xp.astype(~finite, xp.int32)
    spoiled = xp.reshape(spoiled, (geometry.batch, geometry.groups, geometry.inputs, *geometry.sizes))
    counts = xp.sum(spoiled, axis=2, dtype=xp.int32)
    counts = dilate(xp, counts, [axis.base_dilation for axis in geometry.axes])
    counts = pad_zero(xp, counts, [(axis.low, axis.high) for axis in geometry.axes])
    for i, axis in enumerate(geometry.axes, 2):
        span = (axis.output - 1) * axis.stride + 1
        shifts = range(0, axis.window, axis.window_dilation)
        parts = [counts[(*(slice(None),) * i, slice(t, t + span, axis.stride), ...)] for t in shifts]
        counts = parts[0]
        for part in parts[1:]:
            counts = counts + part
    bad = xp.reshape(xp.repeat(counts, geometry.outputs, axis=1), y.shape) > 0
    return xp.where(bad, full(xp, y, y.shape, nan), y)
