"""The transposed convolution: the forward run of the input transpose."""

from __future__ import annotations

from math import prod
from typing import Any

from ..arguments import Padding, PerAxis, read_int, read_padding, read_per_axis, resolve
from ..geometry import Geometry, WindowDimension, dilated
from ..layout import identity_or
from ..transposes import input_kernel_layout
from .conv import channel_layout, channel_shape, read_ranks
from .linear import Options, Reading, call_linear, freeze

Array = Any


def forward_axes(
    op: str, sizes: tuple[int, ...], window: tuple[int, ...], options: Options
) -> tuple[WindowDimension, ...]:
    """The axes of the convolution whose transpose is meant: its output has the spatial shape of x."""
    ndim = len(window)
    if 0 in window or 0 in sizes:
        raise ValueError(f"{op}: x has spatial shape {sizes}, kernel {window}; every axis needs at least one element")
    stride = read_per_axis(op, "stride", options.stride, ndim, 1)
    dilation = read_per_axis(op, "dilation", options.dilation, ndim, 1)
    extra = read_per_axis(op, "output_padding", options.output_padding, ndim, 0)
    covered = tuple(dilated(k, d) for k, d in zip(window, dilation, strict=True))
    word = read_padding(op, options.padding, ndim)
    is_same = word in ("same", "same_lower")
    whole = tuple(n * s for n, s in zip(sizes, stride, strict=True))
    widths = resolve(word, whole, covered, stride)
    axes = []
    for i, (n, k, s, d, e) in enumerate(zip(sizes, window, stride, dilation, extra, strict=True)):
        low, high = widths[i]
        if e >= max(s, d) or (is_same and e):
            raise ValueError(
                f"{op}: output_padding={e} along spatial axis {i} must be below the stride of {s} or dilation of {d}"
                + (f", and 0 with padding={word!r}, which gives stride * size" if is_same else "")
            )
        size = whole[i] if is_same else dilated(n, s) + covered[i] - 1 - low - high + e
        if size < 0:
            raise ValueError(
                f"{op}: padding={(low, high)} along spatial axis {i} crops more than the {size + low + high} elements "
                f"that there are (size {n}, {k} taps, stride {s}); pad less"
            )
        axes.append(WindowDimension(size, k, s, low, high - e, d))  # what is added meets no window
    return tuple(axes)


def read_conv_transpose(op: str, x_shape: tuple[int, ...], kernel_shape: tuple[int, ...], options: Options) -> Reading:
    """``x (..., O, *s)`` as ``(N, O, *s)``, ``kernel (O, C / groups, *k)`` as `kernel_for_input` makes it."""
    if options.boundary != "constant":
        raise ValueError(f"{op}: boundary={options.boundary!r} has no transpose here; only 'constant' (zero) serves")
    ndim, last = read_ranks(op, x_shape, kernel_shape), options.channels == "last"
    groups = read_int(op, "groups", options.groups, 1)
    lead = x_shape[: len(x_shape) - ndim - 1]
    channels, sizes = (x_shape[-1], x_shape[-ndim - 1 : -1]) if last else (x_shape[-ndim - 1], x_shape[-ndim:])
    outer, inner = (kernel_shape[-1], kernel_shape[-2]) if last else kernel_shape[:2]
    window = kernel_shape[:-2] if last else kernel_shape[2:]
    if channels != outer:
        raise ValueError(
            f"{op}: kernel expects {outer} input channels, x has {channels} (x: {x_shape}, kernel: {kernel_shape}, "
            f"channels={options.channels!r}); the kernel is that of the convolution which is transposed"
        )
    if outer % groups:
        raise ValueError(f"{op}: groups={groups} must divide the {outer} input channels")
    axes = forward_axes(op, sizes, window, options)
    forward = Geometry(prod(lead), groups, inner, outer // groups, axes)
    geometry = forward.input_transpose()
    y_shape = channel_shape(lead, groups * inner, forward.sizes, options.channels)
    if last:
        split, order = (*window, inner, groups, outer // groups), (ndim + 1, ndim, ndim + 2, *range(ndim))
        flipped = tuple(range(3, ndim + 3))
        kernel_layout = identity_or(
            kernel_shape, split=split, axes=order, flipped=flipped, merged=geometry.kernel_shape
        )
    else:
        kernel_layout = input_kernel_layout(forward)
    return (
        channel_layout(x_shape, ndim, options.channels),
        kernel_layout,
        channel_layout(y_shape, ndim, options.channels),
        None,
        geometry,
    )


def conv_transpose(
    x: Array,
    kernel: Array,
    bias: Array | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = "valid",
    dilation: PerAxis = 1,
    output_padding: PerAxis = 0,
    groups: int = 1,
    channels: str = "first",
    boundary: str = "constant",
    dtype: Any = None,
    algorithm: str = "auto",
) -> Array:
    """The transpose of `conv` with that same kernel.

    ``<conv(a, kernel), x> == <a, conv_transpose(x, kernel)>`` for every a and x, exactly in integers:
    ``y[n, c, j * stride + t * dilation - low] += x[n, o, j] * kernel[o, c, t]``. Zeros are never inserted: each residue
    of the output modulo the stride is a small convolution of its own.

    Args:
        x: ``(..., O, *spatial)``, or ``(..., *spatial, O)`` with ``channels="last"``.
        kernel: ``(O, C / groups, *window)`` (PyTorch's and ONNX's layout), or ``(*window, C / groups, O)``.
        bias: ``(C,)`` or None.
        stride, padding, dilation: those of the convolution that is transposed, so padding crops the result and
            negative padding adds zeros. ``"same"`` and ``"same_lower"`` give ``stride * size``.
        output_padding: elements added at the end of each axis: below the stride, the sizes that a strided convolution
            would all have mapped to x's. As in PyTorch, it may also be below the dilation.
        groups, channels, dtype, algorithm: as in `conv`.
        boundary: ``"constant"`` only.

    Returns:
        ``(..., C, *out)`` with ``out = (n - 1) * stride + dilation * (k - 1) + 1 - low - high + output_padding``
        (`transposed_size`).

    Raises:
        TypeError: a list, a bool array, arrays of two libraries or devices, a dtype that would lose part of x.
        ValueError: shapes, channels, groups or options that don't fit, an unknown word, an algorithm that can't serve.

    >>> import numpy as np
    >>> import arrayconv as ac
    >>> ac.conv_transpose(np.array([[1, 2]]), np.array([[[1, 10, 100]]]), stride=2)
    array([[  1,  10, 102,  20, 200]])
    """
    options = Options(
        freeze("conv_transpose", "stride", stride),
        freeze("conv_transpose", "padding", padding),
        freeze("conv_transpose", "dilation", dilation),
        boundary,
        algorithm,
        freeze("conv_transpose", "groups", groups),
        channels,
        output_padding=freeze("conv_transpose", "output_padding", output_padding),
    )
    return call_linear(read_conv_transpose, "conv_transpose", x, kernel, bias, dtype, options)
