"""A slow oracle, to be checked by eye: it shares no code with the rest of the package.

Padding words, index maps and loops are written again here, the plain way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..backend import dtype_name, get_backend

Array = Any
NumPyArray = np.ndarray[Any, Any]


def reference(op: str | Callable[..., Any], x: Array, kernel: Array, bias: Array = None, **options: Any) -> NumPyArray:
    """What ``op`` is defined to give, by plain loops over output positions and taps.

    ``op`` is an operation of the table `OPERATIONS`, or its name; ``options`` are that operation's (``dtype`` and
    ``algorithm`` change no exact value and are ignored). Arrays of any library go in, a NumPy array comes out:
    Python ints in an object array where all arrays hold integers (`wrap_integers` takes them to a dtype),
    else float64 or complex128, summed in ``numpy.longdouble``.

    >>> import numpy as np
    >>> reference("correlate", np.arange(5), np.array([1, -1]), stride=2)
    array([-1, -1], dtype=object)
    >>> reference("conv", np.ones((1, 3)), np.ones((1, 1, 2)), padding="same", boundary="wrap")
    array([[2., 2., 2.]])
    """
    arrays = [to_numpy(array) for array in (x, kernel, bias) if array is not None]
    common = np.result_type(*arrays)
    exact: Any = {"i": object, "u": object, "f": np.longdouble, "c": np.clongdouble}[common.kind]
    returned: Any = {"i": object, "u": object, "f": np.float64, "c": np.complex128}[common.kind]
    options = {name: value for name, value in options.items() if name not in ("dtype", "algorithm")}
    with np.errstate(all="ignore"):
        y: NumPyArray = OPERATIONS[operation_name(op)].exact(*(array.astype(exact) for array in arrays), **options)
        return y.astype(returned)


def wrap_integers(values: NumPyArray, dtype: Any) -> NumPyArray:
    """Exact integers modulo ``2**bits``, as ``dtype`` holds them.

    >>> import numpy as np
    >>> wrap_integers(np.array([255, 256, -1], dtype=object), "uint8")
    array([255,   0, 255], dtype=uint8)
    """
    info = np.iinfo(dtype)
    wrapped: NumPyArray = (values.astype(object) - int(info.min)) % 2**info.bits + int(info.min)
    return wrapped.astype(dtype)


def operation_name(op: str | Callable[..., Any]) -> str:
    return op if isinstance(op, str) else str(getattr(op, "__name__", op))


def to_numpy(array: Array) -> NumPyArray:
    """Any library's array; bfloat16, which NumPy lacks, as float32."""
    backend = get_backend(array)
    if dtype_name(array.dtype) == "bfloat16":
        array = backend.xp.astype(array, backend.xp.float32)
    return np.asarray(backend.to_numpy(array))


#: Where an index beyond one end of n elements looks next.
STEPS: dict[str, Callable[[int, int], int]] = {
    "edge": lambda i, n: 0 if i < 0 else n - 1,
    "reflect": lambda i, n: 0 if n == 1 else -i if i < 0 else 2 * (n - 1) - i,
    "symmetric": lambda i, n: -1 - i if i < 0 else 2 * n - 1 - i,
    "wrap": lambda i, n: i + n if i < 0 else i - n,
}


def _source(i: int, n: int, boundary: str) -> int | None:
    """The element that padding reads at ``i``; None is a zero."""
    if boundary == "constant" or n == 0:
        return i if 0 <= i < n else None
    while not 0 <= i < n:
        i = STEPS[boundary](i, n)
    return i


def _extend(x: NumPyArray, widths: Sequence[tuple[int, int]], boundary: str = "constant") -> NumPyArray:
    """``x`` padded along its last axes, element by element; negative widths crop."""
    for axis, (low, high) in zip(range(-len(widths), 0), widths, strict=True):
        lines = np.moveaxis(x, axis, 0)
        n = len(lines)
        padded = np.zeros((max(0, n + low + high), *lines.shape[1:]), x.dtype)
        for j, i in enumerate(range(-low, n + high)):
            source = _source(i, n, boundary)
            if source is not None:
                padded[j] = lines[source]
        x = np.moveaxis(padded, 0, axis)
    return x


def each(value: Any, ndim: int) -> tuple[Any, ...]:
    """One entry for each of ``ndim`` things; a single int or word serves them all."""
    return (value,) * ndim if isinstance(value, int | np.integer | str) else tuple(value)


def resolve(padding: Any, size: int, span: int, stride: int) -> tuple[int, int]:
    """One axis' ``(low, high)``; ``span`` is the length of the dilated kernel."""
    if not isinstance(padding, str):
        low, high = each(padding, 2)
        return low, high
    outputs = -(-size // stride)
    missing = max(0, (outputs - 1) * stride + span - size)
    half, rest = missing // 2, missing - missing // 2
    words = {
        "valid": (0, 0),
        "same": (half, rest),
        "same_lower": (rest, half),
        "full": (span - 1, span - 1),
        "causal": (span - 1, 0),
    }
    return words[padding]


class Fit(NamedTuple):
    """How windows lie on an axis: ``(low, high)`` padding, outputs, and elements that no window reaches."""

    padding: tuple[int, int]
    outputs: int
    rest: int


def fit(padding: Any, sizes: Sequence[int], window: Sequence[int], stride: Any, dilation: Any) -> list[Fit]:
    """One `Fit` for each axis."""
    ndim = len(window)
    fits = []
    for entry, n, k, s, d in zip(
        each(padding, ndim), sizes, window, each(stride, ndim), each(dilation, ndim), strict=True
    ):
        span = d * (k - 1) + 1
        low, high = resolve(entry, n, span, s)
        steps, rest = divmod(n + low + high - span, s)
        fits.append(Fit((low, high), steps + 1, rest))
    return fits


def _sum_windows(
    x: NumPyArray,
    kernel: NumPyArray,
    *,
    groups: int = 1,
    stride: Any = 1,
    padding: Any = "valid",
    dilation: Any = 1,
    boundary: str = "constant",
) -> NumPyArray:
    """``y[n, o, j] = sum over i and t of padded[n, i, j * stride + t * dilation] * kernel[o, i, t]``."""
    window = kernel.shape[2:]
    fits = fit(padding, x.shape[2:], window, stride, dilation)
    padded, out = _extend(x, [axis.padding for axis in fits], boundary), [axis.outputs for axis in fits]
    stride, dilation = each(stride, len(window)), each(dilation, len(window))
    y = np.zeros((len(x), len(kernel), *out), x.dtype)
    inputs, outputs = kernel.shape[1], len(kernel) // groups
    for j in np.ndindex(*out):
        for t in np.ndindex(*window):
            at = tuple(a * s + b * d for a, s, b, d in zip(j, stride, t, dilation, strict=True))
            for g in range(groups):
                i, o = slice(g * inputs, (g + 1) * inputs), slice(g * outputs, (g + 1) * outputs)
                y[:, o, *j] += padded[:, i, *at] @ kernel[o, :, *t].T
    return y


def _spread_windows(
    x: NumPyArray,
    kernel: NumPyArray,
    *,
    groups: int = 1,
    stride: Any = 1,
    padding: Any = "valid",
    dilation: Any = 1,
    output_padding: Any = 0,
) -> NumPyArray:
    """``full[n, o, j * stride + t * dilation] += x[n, i, j] * kernel[i, o, t]``, then cropped by the padding."""
    sizes, window = x.shape[2:], kernel.shape[2:]
    ndim = len(window)
    stride, dilation, extra = each(stride, ndim), each(dilation, ndim), each(output_padding, ndim)
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, window, strict=True)]
    inputs, outputs = len(kernel) // groups, kernel.shape[1]
    lengths = [(n - 1) * s + span for n, s, span in zip(sizes, stride, spans, strict=True)]
    full = np.zeros((len(x), groups * outputs, *lengths), x.dtype)
    for j in np.ndindex(*sizes):
        for t in np.ndindex(*window):
            at = tuple(a * s + b * d for a, s, b, d in zip(j, stride, t, dilation, strict=True))
            for g in range(groups):
                i, o = slice(g * inputs, (g + 1) * inputs), slice(g * outputs, (g + 1) * outputs)
                full[:, o, *at] += x[:, i, *j] @ kernel[i, :, *t]
    crops = []
    for n, s, span, m, entry, more in zip(sizes, stride, spans, lengths, each(padding, ndim), extra, strict=True):
        low, high = resolve(entry, n * s, span, s)
        if entry in ("same", "same_lower"):
            high = m - low - n * s
        crops.append((-low, more - high))
    return _extend(full, crops)


# The operations, each a use of one of the two sums above


def _layer(sums: Callable[..., NumPyArray]) -> Callable[..., NumPyArray]:
    """A sum over ``(N, C, *spatial)`` made to serve any batch, both channel layouts, and a bias."""

    def layer(
        x: NumPyArray, kernel: NumPyArray, bias: NumPyArray | None = None, *, channels: str = "first", **options: Any
    ) -> NumPyArray:
        ndim = kernel.ndim - 2
        if channels == "last":
            x, kernel = np.moveaxis(x, -1, -1 - ndim), np.moveaxis(kernel, (-1, -2), (0, 1))
        batch = x.shape[: x.ndim - 1 - ndim]
        y = sums(x.reshape(prod(batch), *x.shape[len(batch) :]), kernel, **options)
        if bias is not None:
            y = y + bias.reshape(len(bias), *(1,) * ndim)
        y = y.reshape(*batch, *y.shape[1:])
        return np.moveaxis(y, -1 - ndim, -1) if channels == "last" else y

    return layer


def _depthwise_conv(
    x: NumPyArray, kernel: NumPyArray, bias: NumPyArray | None = None, *, channels: str = "first", **options: Any
) -> NumPyArray:
    if channels == "last":
        *window, groups, multiplier = kernel.shape
        kernel = kernel.reshape(*window, 1, groups * multiplier)
    else:
        groups, multiplier, *window = kernel.shape
        kernel = kernel.reshape(groups * multiplier, 1, *window)
    return _layer(_sum_windows)(x, kernel, bias, groups=groups, channels=channels, **options)


def _correlate(x: NumPyArray, kernel: NumPyArray, *, axes: Any = None, **options: Any) -> NumPyArray:
    last = tuple(range(-kernel.ndim, 0))
    axes = last if axes is None else axes
    x = np.moveaxis(x, axes, last)
    batch = x.shape[: x.ndim - kernel.ndim]
    y = _sum_windows(x.reshape(prod(batch), 1, *x.shape[len(batch) :]), kernel[None, None], **options)
    return np.moveaxis(y.reshape(*batch, *y.shape[2:]), last, axes)


def _convolve(x: NumPyArray, kernel: NumPyArray, **options: Any) -> NumPyArray:
    return _correlate(x, np.flip(kernel), **options)


# The coefficients that one output sums over: one row for each output channel


def _correlate_rows(kernel: NumPyArray, **_: Any) -> NumPyArray:
    return kernel.reshape(1, -1)


def _conv_rows(kernel: NumPyArray, channels: str = "first", **_: Any) -> NumPyArray:
    first = np.moveaxis(kernel, -1, 0) if channels == "last" else kernel
    return first.reshape(len(first), -1)


def _conv_transpose_rows(kernel: NumPyArray, channels: str = "first", groups: int = 1, **_: Any) -> NumPyArray:
    first = np.moveaxis(kernel, (-1, -2), (0, 1)) if channels == "last" else kernel
    split = first.reshape(groups, len(first) // groups, first.shape[1], -1)
    return np.swapaxes(split, 1, 2).reshape(groups * first.shape[1], -1)


def _depthwise_rows(kernel: NumPyArray, channels: str = "first", **_: Any) -> NumPyArray:
    first = np.moveaxis(kernel, (-2, -1), (0, 1)) if channels == "last" else kernel
    return first.reshape(first.shape[0] * first.shape[1], -1)


class Operation(NamedTuple):
    """``exact(x, kernel, [bias], **options)`` gives the result, ``rows(kernel, **options)`` each output's terms."""

    exact: Callable[..., NumPyArray]
    rows: Callable[..., NumPyArray]


#: What the oracle knows, by the name of the public function.
OPERATIONS = {
    "corr2d": Operation(_correlate, _correlate_rows),
    "correlate": Operation(_correlate, _correlate_rows),
    "convolve": Operation(_convolve, _correlate_rows),
    "conv": Operation(_layer(_sum_windows), _conv_rows),
    "conv_transpose": Operation(_layer(_spread_windows), _conv_transpose_rows),
    "depthwise_conv": Operation(_depthwise_conv, _depthwise_rows),
}
