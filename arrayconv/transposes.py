"""The arrays of a transposed geometry: how x, kernel and y are read when the equation is solved for another of them.

Beside `Geometry.input_transpose` and `Geometry.kernel_transpose`, which hold the ints.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .geometry import Geometry
from .layout import Layout, identity_or
from .program import Program

Array = Any


def input_kernel_layout(geometry: Geometry) -> Layout:
    """``(G * O, I, *k)`` as ``(G * I, O, *k)``, flipped: the kernel that maps y back to x."""
    groups, inputs, outputs, window = geometry.groups, geometry.inputs, geometry.outputs, geometry.window
    if groups == 1:
        order = (1, 0, *range(2, 2 + len(window)))
        return identity_or(geometry.kernel_shape, axes=order, flipped=order[2:])
    order = (0, 2, 1, *range(3, 3 + len(window)))
    split, merged = (groups, outputs, inputs, *window), (groups * inputs, outputs, *window)
    return identity_or(geometry.kernel_shape, split=split, axes=order, flipped=order[3:], merged=merged)


def kernel_for_input(xp: Any, geometry: Geometry, kernel: Array) -> Array:
    """The kernel that maps y back to x, by `input_kernel_layout`."""
    return input_kernel_layout(geometry).apply(xp, kernel)


def x_for_kernel(xp: Any, geometry: Geometry, x: Array) -> Array:
    """``(N, G * I, *s)`` as ``(I, G * N, *s)``: the batch becomes the channels that are summed over."""
    groups, inputs, sizes = geometry.groups, geometry.inputs, geometry.sizes
    x = xp.reshape(x, (geometry.batch, groups, inputs, *sizes))
    x = xp.permute_dims(x, (2, 1, 0, *range(3, x.ndim)))
    return xp.reshape(x, (inputs, groups * geometry.batch, *sizes))


def wgrad_geometry(geometry: Geometry) -> Geometry | None:
    """The convolution without base dilation whose kernel's gradient a `Geometry.kernel_transpose` is, or None.

    Where x and y may trade places, the one of less work in `VECTOR`s of channels.
    """
    forward = geometry.kernel_transpose()
    ways = [own for own in (forward, forward.input_transpose()) if not own.is_base_dilated]
    return min(ways, key=vector_products, default=None)


#: Channels that are computed at once: floats in the widest registers that CPUs have.
VECTOR = 16


def vector_products(geometry: Geometry) -> int:
    """Products of whole vectors of channels out."""
    return geometry.multiply_adds // max(1, geometry.outputs) * -(-geometry.outputs // VECTOR)


def swap_leading(xp: Any, array: Array) -> Array:
    """``(a, b, ...)`` as ``(b, a, ...)``: y as the kernel of the kernel's transpose, and its result as the kernel."""
    return xp.permute_dims(array, (1, 0, *range(2, array.ndim)))


def correlate_input(
    xp: Any, run: Callable[[Program, Array, Array], Array], program: Program, dy: Array, kernel: Array
) -> Array:
    """dy and kernel, as they are, correlated for x by ``run``; ``program`` is for `Geometry.input_transpose`."""
    return run(program, dy, kernel_for_input(xp, program.geometry.input_transpose(), kernel))


def correlate_taps(
    xp: Any, run: Callable[[Program, Array, Array], Array], program: Program, x: Array, dy: Array
) -> Array:
    """x and dy, as they are, correlated for the kernel by ``run``; ``program`` is for `Geometry.kernel_transpose`."""
    x = x_for_kernel(xp, program.geometry.kernel_transpose(), x)
    return swap_leading(xp, run(program, x, swap_leading(xp, dy)))
