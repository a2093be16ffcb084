"""Pooling: every window reduced to its maximum, mean or p-norm, as shifted slices along one axis after the other.

Maximum and sum over a box are maxima and sums along its axes in turn, so a window of ``k_1 x k_2`` costs
``k_1 + k_2`` slices. The last axis goes first: the first of equal maxima in row-major order stands in the first row
that has one, and is the first of that row, so each fold need only keep the earlier of two equal elements.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from math import inf
from numbers import Real
from typing import Any

from ..arguments import Padding, Pairs, PerAxis, read_flag, read_ints, read_padding, read_per_axis, read_word, resolve
from ..backend import Backend, dtype_name, gather_arrays
from ..boundary import Run
from ..geometry import WindowDimension, dilated
from ..planner import ACCUMULATORS
from ..primitives import along, concat, dilate, full, pad_runs, pad_runs_transpose
from ..shapes import output_size
from .linear import Pullback, as_dtype, freeze

Array = Any

#: A number for each window along an axis, as ``(number, how many windows in a row)``.
Counts = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Pooling:
    """A checked call: what negative padding crops, then the axes, which pad so that the last window just fits.

    They are the last axes of x; channels at the end are one more, with a window of one. ``inside`` and ``elements``
    say how much of each window lies in the padded input and in the input.
    """

    crops: Pairs
    axes: tuple[WindowDimension, ...]
    inside: tuple[Counts, ...]
    elements: tuple[Counts, ...]

    @property
    def restored(self) -> Pairs:
        """The padding that undoes the crops."""
        return tuple((-low, -high) for low, high in self.crops)


def max_pool(
    x: Array,
    window: Sequence[int],
    *,
    stride: PerAxis | None = None,
    padding: Padding = "valid",
    dilation: PerAxis = 1,
    ceil: bool = False,
    channels: str = "first",
) -> Array:
    """The largest element of every window: ``y[c, j] = max_t x[c, j * stride + t * dilation - low]``.

    Padding never wins: it stands for the smallest value. A NaN makes every window that holds it NaN. The gradient of a
    tie goes to its first element in row-major order, here as in PyTorch and `jax.lax.reduce_window`.

    Args:
        x: ``(..., C, *spatial)``, or ``(..., *spatial, C)`` with ``channels="last"``; integers or real floats. Leading
            axes are a batch, none, one or many.
        window: window sizes, a tuple; its length is the number of spatial axes, one or more.
        stride: step of the window, one int or one an axis; None takes the window, so that windows don't overlap.
        padding: an int, one int or ``(low, high)`` pair an axis (negative crops), ``"valid"``, ``"same"``,
            ``"same_lower"``, ``"full"`` or ``"causal"``. PyTorch's bound of half a window does not hold here, but each
            window must hold an element.
        dilation: distance of neighbouring elements in a window.
        ceil: also keep a last window that hangs over the end. One that would start in the high padding is dropped, as
            in PyTorch; the formula of ONNX's ``ceil_mode`` counts it (later opsets add in words that it is ignored).
        channels: where the channel axis stands.

    Returns:
        ``(..., C, *out)`` or ``(..., *out, C)`` of x's dtype, ``out`` being `output_shape`.

    Raises:
        TypeError: a list, a bool or complex array, a window that is no tuple of ints.
        ValueError: options that don't fit, an unknown word, a window longer than the padded input, a window that holds
            nothing but padding.

    >>> import numpy as np
    >>> import arrayconv as ac
    >>> ac.max_pool(np.array([[3, 1, 4, 1, 5, 9, 2]]), (3,), stride=2, padding="same")
    array([[3, 4, 9, 9]])
    """
    backend, x, pooling = read_call("max_pool", x, window, stride, padding, dilation, ceil, channels)
    y = pad_runs(backend.xp, ordered(backend, x), [nearest(axis) for axis in pooling.axes])
    for i, axis in last_first(y, pooling.axes):
        y = max_along(backend.xp, y, i, axis)
    if all(axis.kernel == 1 for axis in pooling.axes):  # y is a slice of x, perhaps a view
        y = backend.xp.asarray(y, copy=True)
    return unordered(backend, y, x.dtype)


def avg_pool(
    x: Array,
    window: Sequence[int],
    *,
    stride: PerAxis | None = None,
    padding: Padding = "valid",
    dilation: PerAxis = 1,
    ceil: bool = False,
    count_padding: bool = True,
    channels: str = "first",
) -> Array:
    """The mean of every window: ``y[c, j] = sum_t x[c, j * stride + t * dilation - low] / count[j]``.

    Args:
        x, window, stride, padding, dilation, ceil, channels: as in `max_pool`; x may also be complex. Padding is zero.
        count_padding: True divides by the size of the window, and where ``ceil`` lets it hang over the end by the part
            inside the padded input (PyTorch's ``count_include_pad``; ONNX Runtime divides by the whole window there).
            False divides by the number of elements, so that padding does not pull the mean towards zero.

    Returns:
        ``(..., C, *out)`` or ``(..., *out, C)`` of x's dtype; integers give the library's default float, to which they
        are converted first. float16 and bfloat16 are summed in float32 and rounded once. `vjp` truncates the cotangent
        of an integer x to x's dtype.

    Raises:
        TypeError: a list, a bool array, a window that is no tuple of ints.
        ValueError: as `max_pool`.

    >>> import numpy as np
    >>> import arrayconv as ac
    >>> x = np.array([[2.0, 4.0, 6.0, 8.0]])
    >>> ac.avg_pool(x, (2,), padding=1), ac.avg_pool(x, (2,), padding=1, count_padding=False)
    (array([[1., 5., 4.]]), array([[2., 5., 8.]]))
    """
    count_padding = read_flag("avg_pool", "count_padding", count_padding)
    backend, x, pooling = read_call("avg_pool", x, window, stride, padding, dilation, ceil, channels)
    wide, dtype = widened(backend, x)
    y = window_sum(backend, wide, pooling.axes)
    return backend.cast(divide(backend, y, pooling.inside if count_padding else pooling.elements), dtype)


def lp_pool(
    x: Array,
    window: Sequence[int],
    *,
    p: float = 2,
    stride: PerAxis | None = None,
    padding: Padding = "valid",
    dilation: PerAxis = 1,
    ceil: bool = False,
    channels: str = "first",
) -> Array:
    """The p-norm of every window: ``y[c, j] = (sum_t |x[c, j * stride + t * dilation - low]|^p)^(1/p)``.

    ONNX's LpPool. PyTorch's ``lp_pool2d`` has no absolute value, which differs for odd p, and scales up a window that
    ``ceil`` lets hang over the end. Where a derivative does not exist, at 0, it is 0 and not NaN. The powers
    are not rescaled: ``|x|^p`` must neither overflow nor underflow in x's dtype (in float32 for float16 and bfloat16).

    Args:
        x, window, stride, padding, dilation, ceil, channels: as in `max_pool`; x may also be complex. Padding is zero.
        p: a positive number.

    Returns:
        ``(..., C, *out)`` or ``(..., *out, C)`` of x's dtype; integers give the library's default float, complex
        numbers their real type. float16 and bfloat16 are computed in float32 and rounded once. `vjp` truncates the
        cotangent of an integer x to x's dtype.

    Raises:
        TypeError: a list, a bool array, a window that is no tuple of ints, a p that is no number.
        ValueError: p not positive or not finite; as `max_pool`.

    >>> import numpy as np
    >>> import arrayconv as ac
    >>> ac.lp_pool(np.array([[3.0, -4.0, 0.0, 0.0]]), (2,))
    array([[5., 0.]])
    """
    p = read_power("lp_pool", p)
    backend, x, pooling = read_call("lp_pool", x, window, stride, padding, dilation, ceil, channels)
    return lp_forward(backend, x, pooling, p)[0]


def pull_max_pool(x: Array, window: Sequence[int], **options: Any) -> tuple[Array, Pullback]:
    """`max_pool`, and the transpose of the choice that it made."""
    backend, x, pooling = read_call("max_pool", x, window, **options)
    xp, pieces = backend.xp, [nearest(axis) for axis in pooling.axes]
    y, stages = pad_runs(xp, ordered(backend, x), pieces), []
    for i, axis in last_first(y, pooling.axes):
        stages.append((y, i, axis))
        y = max_along(xp, y, i, axis)
    name = dtype_name(x.dtype)
    wide = backend.dtype(ACCUMULATORS.get(name) or backend.accumulators.get(name, name)) or x.dtype

    def pullback(dy: Array) -> tuple[Array, ...]:
        dx = as_dtype(backend, dy, wide)
        for stage in reversed(stages):
            dx = route_along(backend, dx, *stage)
        dx = pad_runs_transpose(xp, dx, pieces, [axis.size for axis in pooling.axes])
        return (as_dtype(backend, backend.pad(dx, pooling.restored), x.dtype),)

    return unordered(backend, y, x.dtype), pullback


def pull_avg_pool(
    x: Array, window: Sequence[int], *, count_padding: bool = True, **options: Any
) -> tuple[Array, Pullback]:
    """`avg_pool`, and its transpose."""
    read_flag("avg_pool", "count_padding", count_padding)
    backend, x, pooling = read_call("avg_pool", x, window, **options)
    counts = pooling.inside if count_padding else pooling.elements
    wide, dtype = widened(backend, x)

    def pullback(dy: Array) -> tuple[Array, ...]:
        dy = divide(backend, backend.cast(dy, wide.dtype), counts)
        return (as_dtype(backend, spread(backend, dy, pooling), x.dtype),)

    y = window_sum(backend, wide, pooling.axes)
    return backend.cast(divide(backend, y, counts), dtype), pullback


def pull_lp_pool(x: Array, window: Sequence[int], *, p: float = 2, **options: Any) -> tuple[Array, Pullback]:
    """`lp_pool`, and its derivative ``dx[i] = sum_j dy[j] * y[j]^(1-p) * |x[i]|^(p-1) * sign(x[i])``."""
    p = read_power("lp_pool", p)
    backend, x, pooling = read_call("lp_pool", x, window, **options)
    xp = backend.xp
    result, wide, y = lp_forward(backend, x, pooling, p)

    def pullback(dy: Array) -> tuple[Array, ...]:
        dy = as_dtype(backend, dy, y.dtype) * power(xp, y, 1 - p)
        size = xp.abs(wide)
        if "complex" in dtype_name(wide.dtype):
            slope = xp.conj(wide) * power(xp, size, p - 2)
        else:
            slope = xp.sign(wide) * power(xp, size, p - 1)
        return (as_dtype(backend, spread(backend, dy, pooling) * slope, x.dtype),)

    return result, pullback


def read_call(
    op: str,
    x: Array,
    window: Any,
    stride: Any = None,
    padding: Any = "valid",
    dilation: Any = 1,
    ceil: Any = False,
    channels: Any = "first",
) -> tuple[Backend, Array, Pooling]:
    """x without what negative padding crops, and what is to be done with it."""
    backend, (x,) = gather_arrays(op, ("x",), (x,))
    if op == "max_pool" and "complex" in dtype_name(x.dtype):
        raise TypeError(
            f"{op}: x has dtype {dtype_name(x.dtype)}, and complex numbers have no order; pool its real part, its "
            f"imaginary part or its absolute value"
        )
    pooling: Pooling = backend.fold(
        find_pooling,
        op,
        tuple(x.shape),
        freeze(op, "window", window),
        freeze(op, "stride", stride),
        freeze(op, "padding", padding),
        freeze(op, "dilation", dilation),
        read_flag(op, "ceil", ceil),
        read_word(op, "channels", channels, ("first", "last")),
    )
    return backend, backend.pad(x, pooling.crops), pooling


def find_pooling(*key: Any) -> Pooling:
    """`read_pooling`, remembered."""
    return read_pooling(*key)


@lru_cache(maxsize=4096)
def read_pooling(
    op: str, shape: tuple[int, ...], window: Any, stride: Any, padding: Any, dilation: Any, ceil: bool, channels: str
) -> Pooling:
    """Options checked against the shape of x."""
    kernels = read_ints(op, "window", window, 1)
    ndim = len(kernels)
    if not 1 <= ndim < len(shape):
        raise ValueError(
            f"{op}: window={kernels} must have one entry for each spatial axis, and x a channel axis beside them, "
            f"got x of shape {shape}; x[None] adds a channel axis in front"
        )
    sizes = shape[-ndim:] if channels == "first" else shape[-ndim - 1 : -1]
    strides = kernels if stride is None else read_per_axis(op, "stride", stride, ndim, 1)
    dilations = read_per_axis(op, "dilation", dilation, ndim, 1)
    covered = tuple(dilated(k, d) for k, d in zip(kernels, dilations, strict=True))
    pairs = resolve(read_padding(op, padding, ndim), sizes, covered, strides)
    asked = [
        WindowDimension(n, k, s, low, high, d)
        for n, k, s, (low, high), d in zip(sizes, kernels, strides, pairs, dilations, strict=True)
    ]
    crops = tuple((min(low, 0), min(high, 0)) for low, high in pairs)
    axes, inside, elements = zip(*(read_axis(op, i, axis, ceil) for i, axis in enumerate(asked)), strict=True)
    if channels == "first":
        return Pooling(crops, axes, inside, elements)
    one = ((1, shape[-1]),)
    return Pooling((*crops, (0, 0)), (*axes, WindowDimension(shape[-1], 1)), (*inside, one), (*elements, one))


def read_axis(op: str, i: int, asked: WindowDimension, ceil: bool) -> tuple[WindowDimension, Counts, Counts]:
    """The axis after its crops, padded to the end of the last window, and the counts of `Pooling`."""
    where = f"(size {asked.size}, padding {(asked.low, asked.high)})"
    if asked.window > asked.padded:
        raise ValueError(
            f"{op}: window[{i}]={asked.kernel} is longer than the padded input: with "
            f"dilation={asked.window_dilation} it covers {asked.window} elements of {asked.padded} {where}; pass a "
            f"smaller window or more padding"
        )
    size = max(0, asked.size + min(asked.low, 0) + min(asked.high, 0))
    low, high, dilation = max(asked.low, 0), max(asked.high, 0), asked.window_dilation
    out = output_size(size, asked.kernel, stride=asked.stride, padding=(low, high), dilation=dilation, ceil=ceil)
    needed = dilated(out, asked.stride) + asked.window - 1
    axis = WindowDimension(size, asked.kernel, asked.stride, low, needed - size - low, dilation)
    elements = window_counts(axis, low, low + size)
    if any(count == 0 for count, _ in elements):
        raise ValueError(
            f"{op}: a window along spatial axis {i} would hold nothing but padding {where}; pad less or take a longer "
            f"window than {asked.kernel}"
        )
    return axis, window_counts(axis, 0, low + size + high), elements


def window_counts(axis: WindowDimension, start: int, stop: int) -> Counts:
    """How many places of each window lie in ``start, ..., stop - 1`` of the padded axis."""
    stride, dilation, out = axis.stride, axis.window_dilation, axis.output

    def count(j: int) -> int:
        first = max(0, -((j * stride - start) // dilation))
        last = min(axis.kernel - 1, (stop - 1 - j * stride) // dilation)
        return max(0, last - first + 1)

    first = min(out, -(-start // stride))  # windows first, ..., last - 1 lie inside as a whole
    last = max(first, min(out, (stop - axis.window) // stride + 1))
    runs = [*((count(j), 1) for j in range(first)), (axis.kernel, last - first)]
    runs += ((count(j), 1) for j in range(last, out))
    merged = groupby((run for run in runs if run[1]), key=lambda run: run[0])
    return tuple((number, sum(length for _, length in group)) for number, group in merged)


def read_power(op: str, p: Any) -> float:
    """The exponent of `lp_pool`."""
    if isinstance(p, bool) or not isinstance(p, Real):
        raise TypeError(f"{op}: p must be a number, got {p!r}")
    if not 0 < p < inf:
        raise ValueError(f"{op}: p={p} must be positive and finite; the limit at infinity is max_pool of abs(x)")
    return float(p)


def last_first(x: Array, axes: Sequence[WindowDimension]) -> list[tuple[int, WindowDimension]]:
    """The axes with their places in x, in the order in which they are folded."""
    return list(enumerate(axes, x.ndim - len(axes)))[::-1]


def taps(x: Array, i: int, axis: WindowDimension) -> Iterator[Array]:
    """The first element of every window along axis i of the padded x, then the second, ..."""
    for t in range(axis.kernel):
        start = t * axis.window_dilation
        yield x[along(i, slice(start, start + dilated(axis.output, axis.stride), axis.stride))]


def nearest(axis: WindowDimension) -> tuple[Run, ...]:
    """Padding by which no maximum changes: each window reads there its own first or last element once more.

    A window that reads place i < 0 also reads ``i % dilation``, the first of its places that holds an element. So
    neither a smallest value nor a mask is needed, and the gradient of a tie with padding reaches an element.
    """
    n, d, low, high = axis.size, axis.window_dilation, axis.low, axis.high
    below = [(min(i % d, n - 1), 1, 1) for i in range(-low, 0)] if d > 1 else [(0, low, 0)]
    above = [(max(n - d + i % d, 0), 1, 1) for i in range(high)] if d > 1 else [(n - 1, high, 0)]
    return tuple(run for run in (*below, (0, n + min(high, 0), 1), *above) if run[1] > 0)


def ordered(backend: Backend, x: Array) -> Array:
    """x in a type that the library can compare (torch's unsigned types are wider ones).

    Subtracting 2^63 maps uint64 to int64 in order; modulo 2^64 it is its own inverse.
    """
    wide = backend.accumulators.get(dtype_name(x.dtype))
    if wide is None:
        return x
    x, shift = backend.cast(x, backend.dtype(wide)), dtype_name(x.dtype) == "uint64"
    return x - 2**63 if shift else x


def unordered(backend: Backend, y: Array, dtype: Any) -> Array:
    """The inverse of `ordered`."""
    shift = dtype_name(dtype) == "uint64" and dtype_name(y.dtype) == "int64"
    return backend.cast(y - 2**63 if shift else y, dtype)


def beats(xp: Any, new: Array, best: Array) -> Array:
    """Where a later element replaces an earlier one."""
    wins = new > best
    return wins | xp.isnan(new) if "float" in dtype_name(new.dtype) else wins


def max_along(xp: Any, x: Array, i: int, axis: WindowDimension) -> Array:
    """The first maximum of the windows along one axis; not xp.maximum, which splits the gradient of a tie."""
    best, *later = taps(x, i, axis)
    for new in later:
        best = xp.where(beats(xp, new, best), new, best)
    return best


def route_along(backend: Backend, dy: Array, x: Array, i: int, axis: WindowDimension) -> Array:
    """The transpose of `max_along` at x: each cotangent goes to the last element that replaced the others."""
    xp, (best, *later) = backend.xp, taps(x, i, axis)
    wins = []
    for new in later:
        wins.append(beats(xp, new, best))
        best = xp.where(wins[-1], new, best)
    zero, rest = xp.zeros_like(dy), [(0, 0)] * (x.ndim - 1 - i)

    def place(part: Array, t: int) -> Array:
        start = t * axis.window_dilation
        part = dilate(xp, part, (axis.stride, *(1 for _ in rest)))
        return backend.pad(part, [(start, axis.window - 1 - start), *rest])

    total = None
    for t in range(axis.kernel - 1, 0, -1):
        share = place(xp.where(wins[t - 1], dy, zero), t)
        total = share if total is None else total + share
        dy = xp.where(wins[t - 1], zero, dy)
    return place(dy, 0) if total is None else total + place(dy, 0)


def widened(backend: Backend, x: Array) -> tuple[Array, Any]:
    """x in the type in which a mean is computed, and the type in which it is returned."""
    name = dtype_name(x.dtype)
    if "int" in name:
        default = backend.xp.zeros(()).dtype
        return backend.cast(x, default), default
    return backend.cast(x, backend.dtype(ACCUMULATORS[name])) if name in ACCUMULATORS else x, x.dtype


def window_sum(backend: Backend, x: Array, axes: Sequence[WindowDimension]) -> Array:
    """The sum of every window; with its axes transposed, its own transpose."""
    x = dilate(backend.xp, x, [axis.base_dilation for axis in axes])
    x = backend.pad(x, [(axis.low, axis.high) for axis in axes])
    for i, axis in last_first(x, axes):
        if axis.output == 1:  # one window, as in global pooling, however long
            x = x[along(i, slice(0, axis.window, axis.window_dilation))]
            x = backend.xp.sum(x, axis=i, keepdims=True, dtype=x.dtype)
            continue
        total, *later = taps(x, i, axis)
        for tap in later:
            total = total + tap
        x = total
    return x


def spread(backend: Backend, dy: Array, pooling: Pooling) -> Array:
    """The transpose of `window_sum` and of the crops before it."""
    dx = window_sum(backend, dy, [axis.input_transpose() for axis in pooling.axes])
    return backend.pad(dx, pooling.restored)


def divide(backend: Backend, y: Array, counts: Sequence[Counts]) -> Array:
    """Sums over windows by the product of the counts of their axes."""
    xp, scale, factors = backend.xp, 1, None
    for i, runs in enumerate(counts):
        if len(runs) == 1:
            scale *= runs[0][0]
            continue
        ones = (1,) * (len(counts) - 1 - i)
        factor = concat(xp, [full(xp, y, (length, *ones), number) for number, length in runs], 0)
        factors = factor if factors is None else factors * factor
    return y / scale if factors is None else y / (factors * scale)


def lp_forward(backend: Backend, x: Array, pooling: Pooling, p: float) -> tuple[Array, Array, Array]:
    """The result, x in the type of the computation, and the result in it."""
    wide, dtype = widened(backend, x)
    if "complex" in dtype_name(dtype) or p != 2:
        powers = power(backend.xp, backend.xp.abs(wide), p)
    else:
        powers = wide * wide
    y = power(backend.xp, window_sum(backend, powers, pooling.axes), 1 / p)
    return backend.cast(y, y.dtype if "complex" in dtype_name(dtype) else dtype), wide, y


def power(xp: Any, x: Array, p: float) -> Array:
    """``x^p`` for ``x >= 0``, and at 0 the value 0 with all derivatives 0, whatever p (but ``x^0`` is 1, ``x^1`` x)."""
    if p in (0, 1):
        return x if p == 1 else xp.ones_like(x)
    zero = x == 0
    return xp.where(zero, xp.zeros_like(x), xp.where(zero, xp.ones_like(x), x) ** p)
