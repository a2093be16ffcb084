"""The library's own convolution of all images side by side, where threads share rows of outputs and one is too short.

XLA's YNNPACK computes a row of outputs after the other, and threads share what is in it (`ynnpack.py`). Eight images of
56 columns with a column of zeros on both sides are one of 464; its outputs that reach from one image into the next are
dropped. 64 channels of 56 x 56 with 3 x 3 taps take 9.9 ms on one thread, and 5.5 so, on two. XLA copies arrays to
another order anyway, and makes one copy of both.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import prod
from typing import Any

from ..backend import Backend
from ..geometry import Geometry, WindowDimension
from ..program import Problem, Program
from ..ynnpack import busiest
from . import native
from .algorithm import Algorithm, budget_of
from .native_counts import convolution_counts
from .rates import Counts

Array = Any


def share(axis: WindowDimension) -> int:
    """Outputs of the joined axis for each image; the last ones of them may reach into the next."""
    return -(-axis.padded // axis.stride)


def joined(axis: WindowDimension, count: int) -> WindowDimension:
    """So many images one after the other, each with its zeros and whole strides."""
    size, outputs = count * share(axis) * axis.stride, count * share(axis)
    high = (outputs - 1) * axis.stride + axis.window - size
    return WindowDimension(size, axis.kernel, axis.stride, 0, high, axis.window_dilation)


@lru_cache(maxsize=1024)  # whether it serves, what it costs and how it runs all ask for it
def abreast(geometry: Geometry) -> Geometry:
    """One image for all."""
    *others, last = geometry.axes
    return replace(geometry, batch=1, axes=(*others, joined(last, geometry.batch)))


def held(problem: Problem, backend: Backend, block: tuple[int, ...] = ()) -> int:
    """Bytes of x and y side by side."""
    geometry = abreast(problem.geometry)
    return (prod(geometry.x_shape) + prod(geometry.y_shape)) * problem.itemsize


#: Beyond it, buffers and the result come from the system anew (8 images of 224 x 224, 3 to 64 channels, 7 x 7 taps,
#: stride 2, 31 MB: 8 ms, or 14).
MOST_BYTES = 2**24


def unsupported(problem: Problem, backend: Backend) -> str | None:
    geometry = problem.geometry
    if geometry.batch < 2 or not backend.detours(problem):
        return "the library's own convolution shares out images"
    if min(geometry.axes[-1].low, geometry.axes[-1].high) < 0:
        return "its padding crops"
    if busiest(abreast(geometry)) >= busiest(geometry):
        return "threads share its rows no better so"
    if (size := held(problem, backend)) > budget_of(problem):
        return f"images side by side take {size} bytes; settings(workspace=...) admits more"
    if size > MOST_BYTES:
        return f"images side by side take {size} bytes, which the system would clear for each call"
    return native.unsupported(problem, backend)


def counts(problem: Problem, backend: Backend) -> Counts:
    return convolution_counts(problem.with_geometry(abreast(problem.geometry)))


def prepare(problem: Problem, backend: Backend, block: tuple[int, ...]) -> Any:
    return native.arguments(problem.with_geometry(abreast(problem.geometry)), backend)


def execute(program: Program, backend: Backend, x: Array, kernel: Array) -> Array:
    xp, geometry, last = backend.xp, program.geometry, program.geometry.axes[-1]
    ndim, batch, each = geometry.ndim, geometry.batch, share(last)
    x = backend.pad(x, ((0, 0),) * (ndim + 1) + ((last.low, each * last.stride - last.size - last.low),))
    x = xp.reshape(xp.permute_dims(x, (*range(1, ndim + 1), 0, ndim + 1)), abreast(geometry).x_shape)
    y = native.execute(program, backend, x, kernel)
    y = xp.reshape(y, (*y.shape[1:-1], batch, each))[..., : last.output]
    return xp.permute_dims(y, (ndim, *range(ndim), ndim + 1))


ABREAST = Algorithm(
    "abreast", unsupported, counts, execute, prepare=prepare, fixed=held, inner=native.inner, units=("call",)
)
