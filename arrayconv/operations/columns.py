"""im2col and col2im: a convolution's windows as the columns of a matrix, and their sum back into place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from math import gcd, prod
from operator import add
from typing import Any, NamedTuple

from ..arguments import Padding, PerAxis, read_ints, read_word
from ..backend import Backend, dtype_name, gather_arrays
from ..boundary import Run
from ..geometry import WindowDimension
from ..planner import ACCUMULATORS
from ..primitives import MOST_STACKED, along, full, pad_runs
from .conv import channel_shape
from .linear import Options, Pullback, as_dtype, freeze, window_axes

Array = Any
Shape = tuple[int, ...]
LAYOUTS = ("first", "last")


@dataclass(frozen=True, slots=True)
class Columns:
    """The two shapes that `unfold` and `fold` go between: ints only.

    Both directions go axis by axis, so they take ``sum(window)`` slices at most, not ``prod(window)``.
    """

    lead: Shape
    count: int
    axes: tuple[WindowDimension, ...]
    channels: str

    @property
    def split_shape(self) -> Shape:
        """The columns with all their axes apart."""
        window, out = (tuple(getattr(axis, name) for axis in self.axes) for name in ("kernel", "output"))
        if self.channels == "last":
            return (*self.lead, *out, *window, self.count)
        return (*self.lead, self.count, *window, *out)

    @property
    def shape(self) -> Shape:
        rows = self.count * prod([axis.kernel for axis in self.axes])
        return channel_shape(self.lead, rows, (prod([axis.output for axis in self.axes]),), self.channels)

    def positions(self, i: int) -> tuple[int, int]:
        """Where window axis i stands, and spatial axis i while that window axis is not there.

        With the channels in front the window axes stand before the spatial ones, which each of them moves by one.
        """
        first = len(self.lead)
        if self.channels == "last":
            return first + len(self.axes) + i, first + i
        return first + 1 + i, first + 1 + 2 * i

    def unfold(self, backend: Backend, x: Array) -> Array:
        """x as columns, a new array."""
        xp = backend.xp
        x = pad_axes(xp, x, self.positions(0)[1], [(axis.low, axis.high) for axis in self.axes])
        for i, axis in enumerate(self.axes):
            x = take_taps(xp, x, axis, *self.positions(i))
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


class Taps(NamedTuple):
    """A padded axis read as a matrix with ``stride`` columns, the phases: element ``row * stride + phase``.

    Tap t reads ``t * dilation`` elements after the window's first. With ``g = gcd(stride, dilation)``, ``t = m * period
    + u``, ``period = stride / g`` and ``step = dilation / g`` that is ``m * step * stride + u * dilation``: phase ``u *
    dilation % stride``, and ``m * step + u * dilation // stride`` rows on. So u picks phases, and m shifts rows.
    """

    stride: int
    period: int
    blocks: int
    step: int
    rows: int
    places: tuple[tuple[int, int], ...]

    @property
    def in_order(self) -> bool:
        """Whether tap u is phase u."""
        return self.places == tuple((0, u) for u in range(self.period))

    @property
    def reach(self) -> int:
        """Rows of the matrix: all that any tap meets."""
        return self.rows + self.places[-1][0]


def read_taps(axis: WindowDimension) -> Taps:
    """The matrix of one axis. A stride beyond the padded axis is never taken, so the matrix needn't be that wide."""
    stride = min(axis.stride, axis.padded)
    shared = gcd(stride, axis.window_dilation)
    period, step = min(axis.kernel, stride // shared), axis.window_dilation // shared
    blocks = -(-axis.kernel // period)
    places = tuple(divmod(u * axis.window_dilation, stride) for u in range(period))
    return Taps(stride, period, blocks, step, axis.output + (blocks - 1) * step, places)


def take_taps(xp: Any, x: Array, axis: WindowDimension, at: int, spatial: int) -> Array:
    """The axis ``spatial`` as windows, with their taps as a new axis ``at``; a new array."""
    taps = read_taps(axis)
    x = pad_axes(xp, x, spatial, [(0, taps.reach * taps.stride - axis.padded)])
    x = xp.reshape(x, (*x.shape[:spatial], taps.reach, taps.stride, *x.shape[spatial + 1 :]))
    if taps.in_order:
        x = x[along(spatial + 1, slice(0, taps.period))]
    else:
        cells = [(slice(None),) * spatial + (slice(row, row + taps.rows), u, ...) for row, u in taps.places]
        x = xp.stack([x[cell] for cell in cells], axis=spatial + 1)
    x, rows = move_axis(xp, x, spatial + 1, at), spatial + (at <= spatial)
    if taps.blocks > MOST_STACKED:
        x = move_axis(xp, skew(xp, x, rows, taps, axis.output), rows, at)
        x = xp.reshape(x, (*x.shape[:at], taps.blocks * taps.period, *x.shape[at + 2 :]))
        return x[along(at, slice(0, axis.kernel))]
    parts = []
    for m in range(taps.blocks):
        part = x[along(rows, slice(m * taps.step, m * taps.step + axis.output))]
        parts.append(part[along(at, slice(0, min(taps.period, axis.kernel - m * taps.period)))])
    return xp.concat(parts, axis=at)


def add_taps(xp: Any, y: Array, axis: WindowDimension, at: int, spatial: int) -> Array:
    """The transpose of `take_taps`, last step first: taps are summed undilated, and no zero is put between them."""
    taps, rows = read_taps(axis), spatial + (at <= spatial)
    if taps.blocks > MOST_STACKED:
        y = pad_axes(xp, y, at, [(0, taps.blocks * taps.period - axis.kernel)])
        y = xp.reshape(y, (*y.shape[:at], taps.blocks, taps.period, *y.shape[at + 1 :]))
        y = sum_skewed(xp, move_axis(xp, y, at, rows), rows, taps)
    else:
        y = add_blocks(xp, y, axis.kernel, at, rows, taps)
    y = move_axis(xp, y, at, spatial + 1)
    if taps.in_order:
        y = pad_axes(xp, y, spatial + 1, [(0, taps.stride - taps.period)])
    else:
        y = spread(xp, y, taps, spatial)
    y = xp.reshape(y, (*y.shape[:spatial], taps.reach * taps.stride, *y.shape[spatial + 2 :]))
    return pad_axes(xp, y, spatial, [(0, axis.padded - taps.reach * taps.stride)])


def add_blocks(xp: Any, y: Array, kernel: int, at: int, rows: int, taps: Taps) -> Array:
    """The transpose of slicing for each m, one after the other; a new array."""

    def block(m: int) -> Array:
        part = y[along(at, slice(m * taps.period, min(kernel, (m + 1) * taps.period)))]
        part = pad_axes(xp, part, at, [(0, taps.period - part.shape[at])])
        return pad_axes(xp, part, rows, [(m * taps.step, (taps.blocks - 1 - m) * taps.step)])

    return reduce(add, map(block, range(taps.blocks))) if taps.blocks > 1 else xp.concat([block(0)], axis=at)


def spread(xp: Any, y: Array, taps: Taps, spatial: int) -> Array:
    """Every u back to its phase, a few rows on."""
    phases = {}
    for u, (row, phase) in enumerate(taps.places):
        part = y[((slice(None),) * (spatial + 1) + (u, ...))]
        phases[phase] = pad_axes(xp, part, spatial, [(row, taps.reach - taps.rows - row)])
    zero = full(xp, y, phases[0].shape)
    return xp.stack([phases.get(phase, zero) for phase in range(taps.stride)], axis=spatial + 1)


def skew(xp: Any, x: Array, rows: int, taps: Taps, output: int) -> Array:
    """The axis ``rows`` from ``m * step`` on as element m of a new axis before it, without a slice for each m.

    Copies of R elements, one after the other and read as a matrix R + step wide, start ``step`` later in each row.
    """
    lead, length, rest = x.shape[:rows], taps.rows, x.shape[rows + 1 :]
    wide = length + taps.step
    copies = -(-taps.blocks * wide // length)
    x = xp.broadcast_to(xp.expand_dims(x, axis=rows), (*lead, copies, length, *rest))
    x = xp.reshape(x, (*lead, copies * length, *rest))[along(rows, slice(0, taps.blocks * wide))]
    return xp.reshape(x, (*lead, taps.blocks, wide, *rest))[along(rows + 1, slice(0, output))]


def sum_skewed(xp: Any, y: Array, rows: int, taps: Taps) -> Array:
    """The transpose of `skew`."""
    lead, length, rest = y.shape[:rows], taps.rows, y.shape[rows + 2 :]
    y = pad_axes(xp, y, rows + 1, [(0, length + taps.step - y.shape[rows + 1])])
    y = xp.reshape(y, (*lead, taps.blocks * (length + taps.step), *rest))
    y = xp.reshape(y[along(rows, slice(0, taps.blocks * length))], (*lead, taps.blocks, length, *rest))
    return xp.sum(y, axis=rows, dtype=y.dtype)


def move_axis(xp: Any, x: Array, source: int, target: int) -> Array:
    """One axis to another place, a view where the library has views."""
    order = [*range(x.ndim)]
    order.insert(target, order.pop(source))
    return xp.permute_dims(x, tuple(order))


def read_axes(op: str, sizes: Shape, window: Shape, options: Options) -> tuple[WindowDimension, ...]:
    """The spatial axes."""
    if not window:
        raise ValueError(f"{op}: window=() must have at least one entry, one for each spatial axis")
    return window_axes(op, sizes, window, options)[1]


def read_unfold(shape: Shape, window: Any, stride: Any, padding: Any, dilation: Any, channels: Any) -> Columns:
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


def read_fold(
    shape: Shape, spatial_shape: Any, window: Any, stride: Any, padding: Any, dilation: Any, channels: Any
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
    backend, x, columns = gather_unfold(x, window, stride=stride, padding=padding, dilation=dilation, channels=channels)
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
    given = {"stride": stride, "padding": padding, "dilation": dilation, "channels": channels}
    backend, columns, shape = gather_fold(columns, spatial_shape, window, **given)
    return shape.fold(backend, columns)


DEFAULTS = {"stride": 1, "padding": "valid", "dilation": 1, "channels": "first"}


def gather_unfold(x: Array, window: Any, **options: Any) -> tuple[Backend, Array, Columns]:
    """The arguments of `unfold`, read."""
    backend, (x,) = gather_arrays("unfold", ("x",), (x,))
    given = {"window": window, **DEFAULTS, **options}
    key = [freeze("unfold", name, value) for name, value in given.items()]
    return backend, x, backend.fold(read_unfold, tuple(x.shape), *key)


def gather_fold(columns: Array, spatial_shape: Any, window: Any, **options: Any) -> tuple[Backend, Array, Columns]:
    """The arguments of `fold`, read."""
    backend, (columns,) = gather_arrays("fold", ("columns",), (columns,))
    given = {"spatial_shape": spatial_shape, "window": window, **DEFAULTS, **options}
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
