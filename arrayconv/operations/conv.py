"""The layer of deep learning: channels, groups and a bias."""

from __future__ import annotations

from math import prod
from typing import Any

from ..arguments import Padding, PerAxis, read_int
from ..geometry import Geometry
from ..layout import Layout, identity_or
from .linear import Options, Reading, call_linear, freeze, window_axes

Array = Any


def channel_layout(shape: tuple[int, ...], ndim: int, channels: str) -> Layout:
    """``(..., C, *s)`` or ``(..., *s, C)`` as ``(N, C, *s)``."""
    lead = len(shape) - ndim - 1
    order = tuple(range(len(shape)))
    if channels == "last":
        order = (*order[:lead], order[-1], *order[lead:-1])
    merged = (prod(shape[:lead]), *(shape[axis] for axis in order[lead:]))
    return identity_or(shape, axes=order, merged=merged)


def channel_shape(lead: tuple[int, ...], count: int, sizes: tuple[int, ...], channels: str) -> tuple[int, ...]:
    """The caller's shape of an array with channels."""
    return (*lead, count, *sizes) if channels == "first" else (*lead, *sizes, count)


def read_ranks(op: str, x_shape: tuple[int, ...], kernel_shape: tuple[int, ...]) -> int:
    """The number of spatial axes."""
    ndim = len(kernel_shape) - 2
    if ndim < 1:
        raise ValueError(
            f"{op}: kernel must have two channel axes and at least one spatial axis, got shape {kernel_shape}"
        )
    if len(x_shape) < ndim + 1:
        raise ValueError(
            f"{op}: x must have a channel axis and {ndim} spatial axes for a kernel of shape {kernel_shape}, "
            f"got shape {x_shape}"
        )
    return ndim


def read_conv(op: str, x_shape: tuple[int, ...], kernel_shape: tuple[int, ...], options: Options) -> Reading:
    """``x (..., C, *s)`` as ``(N, C, *s)``, ``kernel (O, C / groups, *k)`` as it is."""
    ndim, last = read_ranks(op, x_shape, kernel_shape), options.channels == "last"
    groups = read_int(op, "groups", options.groups, 1)
    lead = x_shape[: len(x_shape) - ndim - 1]
    channels, sizes = (x_shape[-1], x_shape[-ndim - 1 : -1]) if last else (x_shape[-ndim - 1], x_shape[-ndim:])
    outputs, inputs = (kernel_shape[-1], kernel_shape[-2]) if last else kernel_shape[:2]
    window = kernel_shape[:-2] if last else kernel_shape[2:]
    if channels != groups * inputs:
        raise ValueError(
            f"{op}: kernel expects {inputs} input channels per group, x has {channels} in {groups} groups "
            f"(x: {x_shape}, kernel: {kernel_shape}, groups={groups}, channels={options.channels!r}); "
            f"x needs {groups * inputs}"
        )
    if outputs % groups:
        raise ValueError(f"{op}: groups={groups} must divide the kernel's {outputs} output channels")
    pieces, dimensions = window_axes(op, sizes, window, options)
    geometry = Geometry(prod(lead), groups, inputs, outputs // groups, dimensions)
    y_shape = channel_shape(lead, outputs, geometry.out, options.channels)
    to_first = (ndim + 1, ndim, *range(ndim)) if last else tuple(range(ndim + 2))
    return (
        channel_layout(x_shape, ndim, options.channels),
        identity_or(kernel_shape, axes=to_first),
        channel_layout(y_shape, ndim, options.channels),
        pieces,
        geometry,
    )


def conv(
    x: Array,
    kernel: Array,
    bias: Array | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = "valid",
    dilation: PerAxis = 1,
    groups: int = 1,
    channels: str = "first",
    boundary: str = "constant",
    dtype: Any = None,
    algorithm: str = "auto",
) -> Array:
    """Convolution as deep learning means it: a correlation summed over input channels, for each output channel.

    ``y[n, o, j] = bias[o] + sum_{c, t} x[n, c, j * stride + t * dilation - low] * kernel[o, c, t]``, where output
    channel o of group g reads the input channels of group g only. The kernel is not flipped, as in PyTorch, JAX and
    ONNX.

    Args:
        x: ``(..., C, *spatial)``, or ``(..., *spatial, C)`` with ``channels="last"``; leading axes are a batch, none,
            one or many.
        kernel: ``(O, C / groups, *window)``, or ``(*window, C / groups, O)`` with ``channels="last"``; it sets the
            number of spatial axes, one or more.
        bias: ``(O,)`` or None.
        stride, padding, dilation, boundary, dtype, algorithm: as in `correlate`.
        groups: divides the channels into groups that don't mix; C of them make a depthwise convolution.
        channels: where the channel axis stands.

    Returns:
        ``(..., O, *out)`` or ``(..., *out, O)`` of ``result_type(x, kernel)`` or ``dtype``.

    Raises:
        TypeError: a list, a bool array, arrays of two libraries or devices, a dtype that would lose part of x.
        ValueError: shapes, channels, groups or options that don't fit, an unknown word, an algorithm that can't serve.

    >>> import numpy as np
    >>> import arrayconv as ac
    >>> x = np.arange(12).reshape(2, 6)
    >>> ac.conv(x, np.ones((1, 2, 3), dtype=int), np.array([100]), stride=2)
    array([[124, 136]])
    """
    options = Options(
        freeze("conv", "stride", stride),
        freeze("conv", "padding", padding),
        freeze("conv", "dilation", dilation),
        boundary,
        algorithm,
        freeze("conv", "groups", groups),
        channels,
    )
    return call_linear(read_conv, "conv", x, kernel, bias, dtype, options)
