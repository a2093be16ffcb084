"""Convolutions that keep channels apart: depthwise, and depthwise-separable."""

from __future__ import annotations

from typing import Any

from ..arguments import Padding, PerAxis
from ..backend import dtype_name
from ..gather import gather_arrays
from ..layout import identity_or
from ..planner import ACCUMULATORS
from .call import Pullback
from .conv import read_conv, read_ranks
from .linear import Options, Reading, call_linear, freeze, known_call, promote, read_dtype

Array = Any


def read_depthwise_conv(op: str, x_shape: tuple[int, ...], kernel_shape: tuple[int, ...], options: Options) -> Reading:
    """``kernel (C, M, *k)`` as ``(C * M, 1, *k)`` in C groups."""
    ndim, last = read_ranks(op, x_shape, kernel_shape), options.channels == "last"
    count, multiplier = kernel_shape[ndim:] if last else kernel_shape[:2]
    window = kernel_shape[:ndim] if last else kernel_shape[2:]
    channels = x_shape[-1] if last else x_shape[-ndim - 1]
    if channels != count or count == 0:
        raise ValueError(
            f"{op}: kernel is for {count} channels, x has {channels} (x: {x_shape}, kernel: {kernel_shape}, "
            f"channels={options.channels!r}); depthwise kernels are (C, M, *window), last: (*window, C, M)"
        )
    flat = (*window, 1, count * multiplier) if last else (count * multiplier, 1, *window)
    x_layout, _, y_layout, pieces, geometry = read_conv(op, x_shape, flat, options._replace(groups=count))
    order = (ndim, ndim + 1, *range(ndim)) if last else tuple(range(ndim + 2))
    kernel_layout = identity_or(kernel_shape, axes=order, merged=geometry.kernel_shape)
    return x_layout, kernel_layout, y_layout, pieces, geometry


def depthwise_conv(
    x: Array,
    kernel: Array,
    bias: Array | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = "valid",
    dilation: PerAxis = 1,
    channels: str = "first",
    boundary: str = "constant",
    dtype: Any = None,
    algorithm: str = "auto",
) -> Array:
    """Each channel convolved by itself with its own M kernels; output channel ``c * M + m`` reads channel c alone.

    ``y[n, c * M + m, j] = bias[c * M + m] + sum_t x[n, c, j * stride + t * dilation - low] * kernel[c, m, t]``

    Args:
        x: ``(..., C, *spatial)``, or ``(..., *spatial, C)`` with ``channels="last"``.
        kernel: ``(C, M, *window)``, or ``(*window, C, M)`` with ``channels="last"`` (TensorFlow's layout).
        bias: ``(C * M,)`` or None.
        stride, padding, dilation, channels, boundary, dtype, algorithm: as in `conv`.

    Returns:
        ``(..., C * M, *out)`` or ``(..., *out, C * M)``.

    Raises:
        TypeError: a list, a bool array, arrays of two libraries or devices, a dtype that would lose part of x.
        ValueError: shapes, channels or options that don't fit, an unknown word, an algorithm that can't serve.

    >>> import numpy as np
    >>> import arrayconv as ac
    >>> ac.depthwise_conv(np.array([[1, 2, 3], [4, 5, 6]]), np.array([[[1, 1]], [[1, -1]]]))
    array([[ 3,  5],
           [-1, -1]])
    """
    options = Options(
        freeze("depthwise_conv", "stride", stride),
        freeze("depthwise_conv", "padding", padding),
        freeze("depthwise_conv", "dilation", dilation),
        boundary,
        algorithm,
        channels=channels,
    )
    return call_linear(read_depthwise_conv, "depthwise_conv", x, kernel, bias, dtype, options)


def separable_conv(
    x: Array,
    depthwise: Array,
    pointwise: Array,
    bias: Array | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = "valid",
    dilation: PerAxis = 1,
    channels: str = "first",
    boundary: str = "constant",
    dtype: Any = None,
    algorithm: str = "auto",
) -> Array:
    """`depthwise_conv`, then a mix of its channels at every position (Chollet 2017, "Xception").

    ``y[n, o, j] = bias[o] + sum_q pointwise[o, q] * depthwise_conv(x, depthwise)[n, q, j]``

    Args:
        x: ``(..., C, *spatial)``, or ``(..., *spatial, C)`` with ``channels="last"``.
        depthwise: ``(C, M, *window)``, or ``(*window, C, M)`` with ``channels="last"``.
        pointwise: ``(O, C * M)`` in either layout.
        bias: ``(O,)`` or None.
        stride, padding, dilation, boundary: of the depthwise part, as in `conv`.
        channels, dtype: as in `conv`; half types are rounded once, at the end.
        algorithm: of the depthwise part.

    Returns:
        ``(..., O, *out)`` or ``(..., *out, O)`` of the three arrays' result type or ``dtype``.

    Raises:
        TypeError, ValueError: as `depthwise_conv`, and a pointwise kernel of another shape.

    >>> import numpy as np
    >>> import arrayconv as ac
    >>> ac.separable_conv(np.array([[1, 2, 3], [4, 5, 6]]), np.array([[[1, 1]], [[1, -1]]]), np.array([[1, 100]]))
    array([[-97, -95]])
    """
    options = Options(
        freeze("separable_conv", "stride", stride),
        freeze("separable_conv", "padding", padding),
        freeze("separable_conv", "dilation", dilation),
        boundary,
        algorithm,
        channels=channels,
    )
    return _pull(x, depthwise, pointwise, bias, dtype, options)[0]


def pull_separable_conv(
    x: Array, depthwise: Array, pointwise: Array, bias: Array | None = None, *, dtype: Any = None, **options: Any
) -> tuple[Array, Pullback]:
    """`separable_conv`, and the function from its cotangent to those of its arrays."""
    frozen = Options(**{name: freeze("separable_conv", name, value) for name, value in options.items()})
    return _pull(x, depthwise, pointwise, bias, dtype, frozen)


def _pull(
    x: Array, depthwise: Array, pointwise: Array, bias: Array | None, dtype: Any, options: Options
) -> tuple[Array, Pullback]:
    """Both parts in the accumulator's type; backward, the mix first and then the depthwise part."""
    op, names = "separable_conv", ("x", "depthwise", "pointwise", "bias")
    backend, (x, depthwise, pointwise, bias) = gather_arrays(op, names, (x, depthwise, pointwise, bias))
    sources = [("x", x.dtype), ("depthwise", depthwise.dtype), ("pointwise", pointwise.dtype)]
    if dtype is None:
        result = backend.xp.result_type(promote(op, backend, x, depthwise), pointwise.dtype)
    else:
        result = read_dtype(op, dtype, backend, sources)
    wide = ACCUMULATORS.get(dtype_name(result), dtype_name(result))
    first, _ = known_call(read_depthwise_conv, op, x, depthwise, None, wide, options, transposed=True)
    middle, pull_first = first.call.pull(backend, x, depthwise, None)
    mix = Options(channels=options.channels, axes=depthwise.ndim - 2)
    second, _ = known_call(read_pointwise, op, middle, pointwise, bias, wide, mix, transposed=True)
    y, pull_second = second.call.pull(backend, middle, pointwise, bias)

    def pullback(dy: Array) -> tuple[Array, ...]:
        back, *others = pull_second(dy)
        return (*pull_first(back), *others)

    return backend.cast(y, result), pullback


def read_pointwise(op: str, x_shape: tuple[int, ...], kernel_shape: tuple[int, ...], options: Options) -> Reading:
    """``kernel (O, C)`` as ``(O, C, 1, ...)``; ``options.axes`` is the number of spatial axes."""
    ndim = options.axes
    channels = x_shape[-1] if options.channels == "last" else x_shape[-ndim - 1]
    if len(kernel_shape) != 2 or kernel_shape[1] != channels:
        raise ValueError(
            f"{op}: pointwise must have shape (O, {channels}), one column for each depthwise channel, "
            f"got {kernel_shape}"
        )
    ones = (1,) * ndim
    flat = (*ones, channels, kernel_shape[0]) if options.channels == "last" else (kernel_shape[0], channels, *ones)
    x_layout, _, y_layout, pieces, geometry = read_conv(op, x_shape, flat, options)
    return x_layout, identity_or(kernel_shape, merged=geometry.kernel_shape), y_layout, pieces, geometry
