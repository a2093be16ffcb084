"""The library's own convolution of the same sums with zeros put between: another routine of it, which is often faster.

With zeros between the rows of x, and as many between those of the kernel, twice the stride and twice the padding give
the same outputs, and no tap meets a zero: in ``y[j] = sum over t of x[j * stride + t * dilation - low] * kernel[t]``
all places double. Nothing is copied; it is a matter of the convolution's dilations. XLA hands plain images to YNNPACK,
which leaves most layers of up to 100 channels to one thread (`ynnpack.py`), but dilated ones to Eigen, which uses all:
64 to 128 channels of 56 x 56 with 3 x 3 taps and stride 2 take 6.8 ms plain and 3.6 so.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..backend import Backend
from ..geometry import Geometry, WindowDimension
from ..program import Problem
from . import native
from .algorithm import Algorithm
from .native_counts import eigen_counts, eigen_kind
from .rates import Counts


def stretched(axis: WindowDimension) -> WindowDimension:
    """The same sums with a zero after every element but the last, of x and of the kernel."""
    return replace(
        axis,
        stride=2 * axis.stride,
        low=2 * axis.low,
        high=2 * axis.high,
        window_dilation=2 * axis.window_dilation,
        base_dilation=2 * axis.base_dilation,
    )


def stretch(geometry: Geometry) -> Geometry:
    """Along the longest axis, which is enough."""
    place = geometry.sizes.index(max(geometry.sizes))
    return replace(
        geometry, axes=tuple([stretched(axis) if i == place else axis for i, axis in enumerate(geometry.axes)])
    )


def unsupported(problem: Problem, backend: Backend) -> str | None:
    if not backend.detours(problem):
        return "the library's own convolution has no other routine for it"
    return native.unsupported(problem, backend)


def counts(problem: Problem, backend: Backend) -> Counts:
    """Every kernel is a dilated one here."""
    return eigen_counts(problem, eigen_kind(problem.geometry).removesuffix(" dilated"))


def prepare(problem: Problem, backend: Backend, block: tuple[int, ...]) -> Any:
    return native.arguments(problem.with_geometry(stretch(problem.geometry)), backend)


STRETCH = Algorithm(
    "stretch", unsupported, counts, native.execute, prepare=prepare, inner=native.inner, units=("call",)
)
