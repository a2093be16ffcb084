"""Pooling: every window reduced to its maximum, mean or p-norm."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from numbers import Real
from typing import Any

from ..arguments import Padding, PerAxis, read_flag, read_word
from ..backend import Backend, dtype_name
from ..gather import gather_arrays
from ..planner import ACCUMULATORS
from ..primitives import concat, full
from .call import Pullback
from .linear import freeze
from .pool_axes import Counts, Pooling, read_pooling
from .pool_windows import pull_window_max, window_max, window_sum

Array = Any


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
    options = {"stride": stride, "padding": padding, "dilation": dilation, "ceil": ceil, "channels": channels}
    return pull_max_pool(x, window, **options)[0]


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
    options = {"stride": stride, "padding": padding, "dilation": dilation, "ceil": ceil, "channels": channels}
    return pull_avg_pool(x, window, count_padding=count_padding, **options)[0]


def lp_pool(
    x: Array,
    window: Sequence[int],
    *,
    stride: PerAxis | None = None,
    padding: Padding = "valid",
    dilation: PerAxis = 1,
    ceil: bool = False,
    p: float = 2,
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
    options = {"stride": stride, "padding": padding, "dilation": dilation, "ceil": ceil, "channels": channels}
    return pull_lp_pool(x, window, p=p, **options)[0]


def pull_max_pool(x: Array, window: Sequence[int], **options: Any) -> tuple[Array, Pullback]:
    """`max_pool`, and the transpose of the choice that it made."""
    backend, x, pooling = read_call("max_pool", x, window, **options)
    y = backend.map_windows(backend, window_max, pooling.axes, ordered(backend, x))
    if all(axis.kernel == 1 for axis in pooling.axes):  # y is a slice of x, perhaps a view
        y = backend.copy(y)

    def pullback(dy: Array) -> tuple[Array, ...]:
        name = dtype_name(x.dtype)
        dy = backend.cast(dy, backend.dtype(ACCUMULATORS.get(name) or backend.accumulators.get(name, name)))
        dx = backend.pull_windows(backend, pull_window_max, pooling.axes, ordered(backend, x), dy)
        return (backend.cast(backend.pad(dx, pooling.restored), x.dtype),)

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
        dx = backend.map_windows(backend, window_sum, pooling.transposed, dy)
        return (backend.cast(backend.pad(dx, pooling.restored), x.dtype),)

    y = backend.map_windows(backend, window_sum, pooling.axes, wide)
    return backend.cast(divide(backend, y, counts), dtype), pullback


def pull_lp_pool(x: Array, window: Sequence[int], *, p: float = 2, **options: Any) -> tuple[Array, Pullback]:
    """`lp_pool`, and its derivative ``dx[i] = sum_j dy[j] * y[j]^(1-p) * |x[i]|^(p-1) * sign(x[i])``."""
    p = read_power("lp_pool", p)
    backend, x, pooling = read_call("lp_pool", x, window, **options)
    xp = backend.xp
    wide, dtype = widened(backend, x)
    is_complex = "complex" in dtype_name(dtype)
    powers = wide * wide if p == 2 and not is_complex else power(xp, xp.abs(wide), p)
    y = power(xp, backend.map_windows(backend, window_sum, pooling.axes, powers), 1 / p)

    def pullback(dy: Array) -> tuple[Array, ...]:
        dy, size = backend.cast(dy, y.dtype) * power(xp, y, 1 - p), xp.abs(wide)
        if is_complex:  # JAX's convention: the cotangent of abs(x) comes back times conj(x) / |x|
            slope = xp.conj(wide) * power(xp, size, p - 2)
        else:
            slope = power(xp, size, p - 1)
            slope = xp.where(wide < 0, -slope, slope)
        dx = backend.map_windows(backend, window_sum, pooling.transposed, dy) * slope
        return (backend.cast(backend.pad(dx, pooling.restored), x.dtype),)

    return backend.cast(y, y.dtype if is_complex else dtype), pullback


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


def read_power(op: str, p: Any) -> float:
    """The exponent of `lp_pool`."""
    if isinstance(p, bool) or not isinstance(p, Real):
        raise TypeError(f"{op}: p must be a number, got {p!r}")
    if not 0 < float(p) < inf:
        raise ValueError(f"{op}: p={p} must be positive and finite; the limit at infinity is max_pool of abs(x)")
    return float(p)


def ordered(backend: Backend, x: Array) -> Array:
    """x in a type that the library can compare (torch's unsigned types are wider ones).

    Subtracting 2^63 maps uint64 to int64 in order; modulo 2^64 it is its own inverse.
    """
    wide = backend.accumulators.get(dtype_name(x.dtype))
    if wide is None:
        return x
    x, shift = backend.cast(x, backend.dtype(wide)), dtype_name(x.dtype) == "uint64"
    return x + -(2**63) if shift else x


def unordered(backend: Backend, y: Array, dtype: Any) -> Array:
    """The inverse of `ordered`."""
    shift = dtype_name(dtype) == "uint64" and dtype_name(y.dtype) == "int64"
    return backend.cast(y + -(2**63) if shift else y, dtype)


def widened(backend: Backend, x: Array) -> tuple[Array, Any]:
    """x in the type in which a mean is computed, and the type in which it is returned."""
    name = dtype_name(x.dtype)
    if "int" in name:
        default = backend.xp.zeros(()).dtype
        return backend.cast(x, default), default
    return backend.cast(x, backend.dtype(ACCUMULATORS[name])) if name in ACCUMULATORS else x, x.dtype


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


def power(xp: Any, x: Array, p: float) -> Array:
    """``x^p`` for ``x >= 0``; at 0 it is 0 with all its derivatives, whatever p."""
    zero = x == 0
    return xp.where(zero, xp.zeros_like(x), xp.where(zero, xp.ones_like(x), x) ** p)
