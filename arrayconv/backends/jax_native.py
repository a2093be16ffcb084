"""XLA's own convolution: its arguments, and what it is slow with or wrong about."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ..geometry import Geometry, is_unpadded_image
from ..primitives import Widths, crop
from ..program import Problem
from ..ynnpack import fed, filled, is_ynnpack

Array = jax.Array


def pad(x: Array, widths: Widths) -> Array:
    """Crops are slices: XLA simplifies what it pads by as much as it crops (1 and -1) as if it were left alone."""
    x, widths = crop(x, widths)
    if not any(low or high for low, high in widths):
        return x
    first = x.ndim - len(widths)
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0)] * first + [(low, high, 0) for low, high in widths])


class Convolution(NamedTuple):
    """The keyword arguments of `lax.conv_general_dilated`; elements that x loses and zeros that it gets before;
    channels of zeros, out of the kernel and into each group; and what is left of y.
    """

    arguments: dict[str, Any]
    widths: Widths
    more: tuple[int, int]
    crop: tuple[slice, ...]


def native_prepare(problem: Problem) -> Convolution:
    """XLA on CPUs takes 2 to 40 times as long for images without padding (layer of 112 x 112, 112 to 48 channels: 109
    ms, 20 with padding). There the last axis gets one output too many, or x a column of zeros that the window leaves
    out, whichever is the smaller copy. Channels out that nearly fill one of YNNPACK's blocks, and in that are no
    multiple of four, get others of zeros (`ynnpack.filled`, `ynnpack.fed`).
    """
    geometry, axes = problem.geometry, problem.geometry.axes
    spatial = "".join(chr(ord("a") + i) for i in range(len(axes)))
    padding, widths = cropped(geometry)
    kept, more = [slice(None)] * len(axes), (0, 0)
    if problem.is_on_cpu and is_unpadded_image(geometry):
        if prod(geometry.y_shape) <= prod(geometry.x_shape):
            padding[-1], kept[-1] = (0, axes[-1].stride), slice(0, axes[-1].output)
        else:
            padding[-1], widths[-1] = (0, -1), (0, 1)
    if problem.is_on_cpu and problem.accumulator == "float32" and is_ynnpack(geometry):
        more = filled(geometry) - geometry.outputs, fed(geometry) - geometry.inputs
    arguments = {
        "window_strides": [axis.stride for axis in axes],
        "padding": padding,
        "lhs_dilation": [axis.base_dilation for axis in axes],
        "rhs_dilation": [axis.window_dilation for axis in axes],
        "dimension_numbers": ("NC" + spatial, "OI" + spatial, "NC" + spatial),
        "feature_group_count": geometry.groups,
        "precision": lax.Precision.HIGHEST,
    }
    return Convolution(arguments, widths, more, (slice(None), slice(0, geometry.groups * geometry.outputs), *kept))


def cropped(geometry: Geometry) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The padding that XLA is given, and what x loses before: negative padding is where XLA goes wrong (JAX 0.10.2).

    Cropped before and padded after, a window reads what lies behind x in memory: ``[(-1, 1)]`` of 8 elements and one
    channel out gives other numbers from call to call. Padded by as much as it is cropped, ``[(1, -1), (0, 0)]`` of one
    row, x is left as it is. What `native_prepare` crops itself are zeros, after x alone, where neither was seen.
    """
    padding, widths = [], []
    for axis in geometry.axes:
        step = axis.base_dilation
        lost = [max(0, -(width // step)) for width in (axis.low, axis.high)]  # elements, each with the zeros after it
        if sum(lost) < axis.size:
            padding.append((axis.low + lost[0] * step, axis.high + lost[1] * step))
            widths.append((-lost[0], -lost[1]))
        else:
            padding.append((0, axis.padded))
            widths.append((-axis.size, 0))
    return padding, widths


def native_execute(own: Convolution, x: Array, kernel: Array) -> Array:
    if any(own.more):
        outputs, inputs = own.more
        kernel = jnp.pad(kernel, ((0, outputs), (0, inputs), *((0, 0),) * (kernel.ndim - 2)))
        x = with_channels(x, own.arguments["feature_group_count"], inputs)
    return lax.conv_general_dilated(pad(x, own.widths), kernel, **own.arguments)[own.crop]


def with_channels(x: Array, groups: int, more: int) -> Array:
    """``(N, G * I, *s)`` with so many channels of zeros in each group."""
    batch, channels, *sizes = x.shape
    parts = jnp.reshape(x, (batch, groups, channels // groups, *sizes))
    return jnp.reshape(pad(parts, ((0, more), *((0, 0),) * len(sizes))), (batch, -1, *sizes))


def native_detours(problem: Problem) -> bool:
    """Whether YNNPACK would take it, which Eigen may be faster than. (One element has nothing between.)"""
    is_real = problem.accumulator in ("float32", "float64")
    return problem.is_on_cpu and is_real and is_ynnpack(problem.geometry) and max(problem.geometry.sizes) > 1
