"""im2col and col2im: a convolution's windows as the columns of a matrix, and their sum back into place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

from ..arguments import Padding, PerAxis, read_ints, read_word
from ..backend import Backend, dtype_name, gather_arrays
from ..boundary import Run
from ..geometry import WindowDimension
from ..planner import ACCUMULATORS
from ..primitives import along, full, pad_runs
from .conv import channel_shape
from .linear import Options, Pullback, as_dtype, freeze, window_axes

Array = Any
LAYOUTS = ("first", "last")


@dataclass(frozen=True, slots=True)
class Columns:
    """The two shapes that `unfold` and `fold` go between: ints only.

    ``first`` is the position of the first spatial axis, ``taps`` the one that the first window axis is given. Both
    directions go axis by axis, so they take ``sum(window)`` slices, not ``prod(window)``. With the channels in front
    the window axes stand before the spatial ones, and each that is inserted moves the latter by one.
    """

    lead: tuple[int, ...]
    count: int
    axes: tuple[WindowDimension, ...]
    channels: str

    @property
    def x_shape(self) -> tuple[int, ...]:
        return channel_shape(self.lead, self.count, tuple(axis.size for axis in self.axes), self.channels)

    @property
    def split_shape(self) -> tuple[int, ...]:
        """The columns with all their axes apart."""
        window, out = (tuple(getattr(axis, name) for axis in self.axes) for name in ("kernel", "output"))
        if self.channels == "last":
            return (*self.lead, *out, *window, self.count)
        return (*self.lead, self.count, *window, *out)

    @property
    def shape(self) -> tuple[int, ...]:
        rows = self.count * prod(axis.kernel for axis in self.axes)
        return channel_shape(self.lead, rows, (prod(axis.output for axis in self.axes),), self.channels)

    def positions(self, i: int) -> tuple[int, int]:
        """Where window axis i stands, and spatial axis i while that window axis is not there."""
        first = len(self.lead)
        if self.channels == "last":
            return first + len(self.axes) + i, first + i
        return first + 1 + i, first + 1 + 2 * i

    def unfold(self, backend: Backend, x: Array) -> Array:
        """x as columns, a new array: stacking copies."""
        xp = backend.xp
        x = pad_axes(xp, x, self.positions(0)[1], [(axis.low, axis.high) for axis in self.axes])
        for i, axis in enumerate(self.axes):
            taps, spatial = self.positions(i)
            x = xp.stack([x[along(spatial, part)] for part in tap_slices(axis)], axis=taps)
        return xp.reshape(x, self.shape)

    def fold(self, backend: Backend, columns: Array) -> Array:
        """The columns summed into x's shape; the transpose of every step of `unfold`, last step first."""
        xp = backend.xp
        y = xp.reshape(backend.cast(columns, accumulator(backend, columns)), self.split_shape)
        for i, axis in reversed(tuple(enumerate(self.axes))):
            y = add_taps(xp, y, axis, *self.positions(i))
        y = pad_axes(xp, y, self.positions(0)[1], [(-axis.low, -axis.high) for axis in self.axes])
        return backend.cast(y, columns.dtype)


def accumulator(backend: Backend, array: Array) -> Any:
    """The dtype in which elements of ``array`` are summed."""
    name = dtype_name(array.dtype)
    wide = backend.accumulators.get(name, name)
    wide = ACCUMULATORS.get(wide, wide)
    return array.dtype if wide == name else backend.dtype(wide)


def pad_axes(xp: Any, x: Array, first: int, widths: Sequence[tuple[int, int]]) -> Array:
    """Zero padding of the axes from ``first`` on; negative widths crop."""
    others: list[tuple[Run, ...]] = [((0, n, 1),) for n in x.shape[first + len(widths) :]]
    return pad_runs(xp, x, [zero_runs(n, *pair) for n, pair in zip(x.shape[first:], widths, strict=False)] + others)


def zero_runs(n: int, low: int, high: int) -> tuple[Run, ...]:
    """`boundary.runs` of zeros, without a look at every element of the padding."""
    total = n + low + high
    before = min(max(0, low), total)
    inside = max(0, min(total, low + n) - before)
    pieces = ((None, before, 0), (max(0, -low), inside, 1), (None, total - before - inside, 0))
    return tuple(run for run in pieces if run[1])


def tap_slices(axis: WindowDimension) -> list[slice]:
    """For each tap, the elements of the padded axis that it meets."""
    reach = (axis.output - 1) * axis.stride + 1
    starts = range(0, axis.kernel * axis.window_dilation, axis.window_dilation)
    return [slice(start, start + reach, axis.stride) for start in starts]


def add_taps(xp: Any, y: Array, axis: WindowDimension, taps: int, spatial: int) -> Array:
    """The transpose of stacking `tap_slices`: axis ``taps`` of y summed into axis ``spatial``.

    Tap t of output j belongs at ``j * stride + t * dilation``. The taps of one remainder ``t * dilation % stride`` are
    added undilated, shifted by ``t * dilation // stride``, and the remainders interleave at the end: no zero is
    inserted between neighbours, and taps that don't overlap (stride >= window) are only moved.
    """
    stride, rows = axis.stride, -(-axis.padded // axis.stride)
    phases: dict[int, Array] = {}
    for t, part in enumerate(xp.unstack(y, axis=taps)):
        shift, phase = divmod(t * axis.window_dilation, stride)
        part = pad_axes(xp, part, spatial, [(shift, rows - shift - axis.output)])
        phases[phase] = phases[phase] + part if phase in phases else part
    if stride == 1 and axis.kernel > 1:
        return phases[0]  # a sum; one tap alone may be a view of y, and is copied below
    zero = full(xp, y, phases[0].shape)
    woven = xp.stack([phases.get(phase, zero) for phase in range(max(phases) + 1)], axis=spatial + 1)
    woven = pad_axes(xp, woven, spatial + 1, [(0, stride - woven.shape[spatial + 1])])
    woven = xp.reshape(woven, (*zero.shape[:spatial], rows * stride, *zero.shape[spatial + 1 :]))
    return pad_axes(xp, woven, spatial, [(0, axis.padded - rows * stride)])


def read_axes(
    op: str, sizes: tuple[int, ...], window: tuple[int, ...], options: Options
) -> tuple[WindowDimension, ...]:
    """The spatial axes."""
    if not window:
        raise ValueError(f"{op}: window=() must have at least one entry, one for each spatial axis")
    return window_axes(op, sizes, window, options)[1]


@lru_cache(maxsize=4096)
def read_unfold(
    shape: tuple[int, ...], window: Any, stride: Any, padding: Any, dilation: Any, channels: Any
) -> Columns:
    """The arguments of `unfold`, checked."""
    options = Options(stride, padding, dilation, channels=read_word("unfold", "channels", channels, LAYOUTS))
    window = read_ints("unfold", "window", window, 1)
    ndim = len(window)
    if len(shape) < ndim + 1:
        raise ValueError(
            f"unfold: x must have a channel axis and {ndim} spatial axes for window={window}, got shape {shape}; "
            f"add a channel axis of one"
        )
    lead, inner = shape[: len(shape) - ndim - 1], shape[len(shape) - ndim - 1 :]
    count, sizes = (inner[-1], inner[:-1]) if options.channels == "last" else (inner[0], inner[1:])
    return Columns(lead, count, read_axes("unfold", sizes, window, options), options.channels)


@lru_cache(maxsize=4096)
def read_fold(
    shape: tuple[int, ...], spatial_shape: Any, window: Any, stride: Any, padding: Any, dilation: Any, channels: Any
) -> Columns:
    """The arguments of `fold`, checked."""
    options = Options(stride, padding, dilation, channels=read_word("fold", "channels", channels, LAYOUTS))
    sizes = read_ints("fold", "spatial_shape", spatial_shape, 0)
    window = read_ints("fold", "window", window, 1)
    if len(sizes) != len(window):
        raise ValueError(
            f"fold: spatial_shape={sizes} has {len(sizes)} entries, window={window} has {len(window)}; "
            f"pass one of each for every spatial axis"
        )
    axes = read_axes("fold", sizes, window, options)
    if len(shape) < 2:
        raise ValueError(f"fold: columns must have an axis of rows and one of windows, got shape {shape}")
    taps, windows = prod(window), prod(axis.output for axis in axes)
    rows, found = shape[-2:] if options.channels == "first" else (shape[-1], shape[-2])
    if rows % taps:
        raise ValueError(
            f"fold: columns has {rows} rows, which window={window} must divide into channels of {taps} taps "
            f"(columns: {shape}, channels={options.channels!r})"
        )
    if found != windows:
        raise ValueError(
            f"fold: columns has {found} windows, spatial_shape={sizes} has {windows} of window={window} "
            f"(columns: {shape}, channels={options.channels!r}); pass the input shape and options of the unfold"
        )
    return Columns(shape[:-2], rows // taps, axes, options.channels)


def unfold(
    x: Array,
    window: Sequence[int],
    *,
    stride: PerAxis = 1,
    padding: Padding = "valid",
    dilation: PerAxis = 1,
    channels: str = "first",
) -> Array:
    """im2col: every window of x as a column, so that a convolution is one matrix product.

    ``columns[..., c * K + t, j] = x[..., c, j * stride + t * dilation - low]`` with zeros outside x; t runs over the
    window's K elements and j over the output positions, both in row-major order (`torch.nn.functional.unfold`, here
    with any number of spatial axes and any padding). With ``channels="last"`` a window is a row and its elements lie
    as in that layout's kernel, channel fastest (TensorFlow's ``extract_patches``). So for either layout::

        first   conv(x, kernel) == reshape(kernel, (O, -1)) @ unfold(x, window)      (..., O, L)
        last    conv(x, kernel) == unfold(x, window) @ reshape(kernel, (-1, O))      (..., L, O)

    Args:
        x: ``(..., C, *spatial)``, or ``(..., *spatial, C)`` with ``channels="last"``; leading axes are a batch, none,
            one or many.
        window: window sizes, a tuple with one entry a spatial axis.
        stride, padding, dilation: as in `conv`.
        channels: where the channel axis stands.

    Returns:
        ``(..., C * prod(window), L)``, or ``(..., L, prod(window) * C)`` with ``channels="last"``, of x's dtype;
        ``L = prod(out)`` is the number of windows, ``out`` that of `output_shape`.

    Raises:
        TypeError: a list, a bool array, entries that are no ints.
        ValueError: a window longer than the padded x, entries below 1, too few axes, an unknown word.

    >>> import numpy as np
    >>> import arrayconv as ac
    >>> ac.unfold(np.arange(5).reshape(1, 5), (3,))
    array([[0, 1, 2],
           [1, 2, 3],
           [2, 3, 4]])
    """
    backend, x, columns = gather_unfold(x, window, stride, padding, dilation, channels)
    return columns.unfold(backend, x)


def fold(
    columns: Array,
    spatial_shape: Sequence[int],
    window: Sequence[int],
    *,
    stride: PerAxis = 1,
    padding: Padding = "valid",
    dilation: PerAxis = 1,
    channels: str = "first",
) -> Array:
    """col2im: every column added back where `unfold` read it, the transpose of `unfold` with the same options.

    ``<unfold(x), columns> == <x, fold(columns)>`` for every x and columns, exactly in integers. Where windows overlap
    their elements add up (`torch.nn.functional.fold`, here with any number of spatial axes and any padding), so
    ``fold(unfold(x))`` is x times the number of windows that hold each element; with ``stride == window`` it is x.

    Args:
        columns: ``(..., C * prod(window), L)``, or ``(..., L, prod(window) * C)`` with ``channels="last"``, in the
            order of `unfold`.
        spatial_shape: the spatial shape of the result: that of the x which `unfold` takes.
        window: window sizes, a tuple with one entry a spatial axis.
        stride, padding, dilation: those of `unfold`; what it pads is dropped here.
        channels: where the channel axis stands.

    Returns:
        ``(..., C, *spatial_shape)``, or ``(..., *spatial_shape, C)`` with ``channels="last"``, of the columns' dtype;
        float16 and bfloat16 are summed in float32.

    Raises:
        TypeError: a list, a bool array, entries that are no ints.
        ValueError: rows or windows that don't fit ``spatial_shape``, ``window`` and the options, and what `unfold`
            raises.

    >>> import numpy as np
    >>> import arrayconv as ac
    >>> ac.fold(np.array([[0, 1, 2], [1, 2, 3], [2, 3, 4]]), (5,), (3,))
    array([[0, 2, 6, 6, 4]])
    """
    backend, columns, shape = gather_fold(columns, spatial_shape, window, stride, padding, dilation, channels)
    return shape.fold(backend, columns)


def gather_unfold(
    x: Array, window: Any, stride: Any = 1, padding: Any = "valid", dilation: Any = 1, channels: Any = "first"
) -> tuple[Backend, Array, Columns]:
    """The arguments of `unfold`, read."""
    backend, (x,) = gather_arrays("unfold", ("x",), (x,))
    given = {"window": window, "stride": stride, "padding": padding, "dilation": dilation, "channels": channels}
    key = [freeze("unfold", name, value) for name, value in given.items()]
    return backend, x, backend.fold(read_unfold, tuple(x.shape), *key)


def gather_fold(
    columns: Array,
    spatial_shape: Any,
    window: Any,
    stride: Any = 1,
    padding: Any = "valid",
    dilation: Any = 1,
    channels: Any = "first",
) -> tuple[Backend, Array, Columns]:
    """The arguments of `fold`, read."""
    backend, (columns,) = gather_arrays("fold", ("columns",), (columns,))
    given = {"spatial_shape": spatial_shape, "window": window, "stride": stride, "padding": padding}
    given |= {"dilation": dilation, "channels": channels}
    key = [freeze("fold", name, value) for name, value in given.items()]
    return backend, columns, backend.fold(read_fold, tuple(columns.shape), *key)


def pull_unfold(x: Array, window: Any, **options: Any) -> tuple[Array, Pullback]:
    """`unfold`, and its transpose `fold`."""
    backend, x, columns = gather_unfold(x, window, **options)
    y = columns.unfold(backend, x)
    return y, lambda dy: (as_dtype(backend, columns.fold(backend, dy), x.dtype),)


def pull_fold(columns: Array, spatial_shape: Any, window: Any, **options: Any) -> tuple[Array, Pullback]:
    """`fold`, and its transpose `unfold`."""
    backend, columns, shape = gather_fold(columns, spatial_shape, window, **options)
    y = shape.fold(backend, columns)
    return y, lambda dy: (as_dtype(backend, shape.unfold(backend, dy), columns.dtype),)
