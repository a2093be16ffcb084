"""im2col and col2im: a convolution's windows as the columns of a matrix, and their sum back into place."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any, NamedTuple

from ..arguments import Padding, PerAxis, read_ints, read_word
from ..backend import Backend, dtype_name
from ..gather import gather_arrays
from ..geometry import WindowDimension
from ..planner import ACCUMULATORS
from ..primitives import MOST_STACKED, full, tap_slice
from .call import Pullback, as_dtype
from .column_blocks import fold_blocks, unfold_blocks
from .conv import channel_shape
from .linear import Options, freeze, window_axes
from .taps import add_taps, pad_axes, take_taps

Array = Any
Shape = tuple[int, ...]
LAYOUTS = ("first", "last")


class Columns(NamedTuple):
    """The two shapes that `unfold` and `fold` go between: ints only.

    Both directions go axis by axis, so they take ``sum(window)`` slices at most, not ``prod(window)``; where arrays can
    be written, columns are one copy of a view, and those of few taps are added up in place.
    """

    lead: Shape
    channel_count: int
    axes: tuple[WindowDimension, ...]
    channels: str

    @property
    def window(self) -> Shape:
        return tuple([axis.kernel for axis in self.axes])  # from lists: Dynamo can't follow a generator here

    @property
    def out(self) -> Shape:
        return tuple([axis.output for axis in self.axes])

    @property
    def steps(self) -> tuple[Shape, Shape]:
        """Strides and dilations."""
        return tuple([axis.stride for axis in self.axes]), tuple([axis.window_dilation for axis in self.axes])

    @property
    def padded(self) -> Shape:
        return tuple([axis.padded for axis in self.axes])

    @property
    def split_shape(self) -> Shape:
        """The columns with all their axes apart."""
        if self.channels == "last":
            return (*self.lead, *self.out, *self.window, self.channel_count)
        return (*self.lead, self.channel_count, *self.window, *self.out)

    @property
    def shape(self) -> Shape:
        return channel_shape(self.lead, self.channel_count * prod(self.window), (prod(self.out),), self.channels)

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
        if backend.has_blocks and 0 not in x.shape:
            return unfold_blocks(xp, self, x)
        if backend.is_writable(x):
            columns = backend.make(x, self.split_shape, x.dtype)
            columns[...] = self._windows(backend, x)
            return xp.reshape(columns, self.shape)
        x = pad_axes(xp, x, self.positions(0)[1], [(axis.low, axis.high) for axis in self.axes])
        for i, axis in enumerate(self.axes):
            x = take_taps(xp, x, axis, *self.positions(i))
        return xp.reshape(x, self.shape)

    def fold(self, backend: Backend, columns: Array) -> Array:
        """The columns summed into x's shape; the transpose of every step of `unfold`, last step first."""
        xp = backend.xp
        if backend.has_blocks and 0 not in (*columns.shape, *[axis.size for axis in self.axes]):
            return fold_blocks(xp, self, columns)
        y = xp.reshape(backend.cast(columns, accumulator(backend, columns)), self.split_shape)
        if prod(self.window) <= MOST_STACKED and backend.is_writable(y):
            y = self._add_up(xp, y)
        else:
            for i, axis in reversed(tuple(enumerate(self.axes))):
                y = add_taps(xp, y, axis, *self.positions(i))
        y = pad_axes(xp, y, self.positions(0)[1], [(-axis.low, -axis.high) for axis in self.axes])
        return backend.cast(y, columns.dtype)

    def _windows(self, backend: Backend, x: Array) -> Array:
        """Of the padded x, in `split_shape`; a view."""
        xp, first, ndim = backend.xp, len(self.lead), len(self.axes)
        lead, is_last = tuple(range(first)), self.channels == "last"
        if is_last:
            x = xp.permute_dims(x, (*lead, first + ndim, *range(first, first + ndim)))
        x = backend.pad(x, [(axis.low, axis.high) for axis in self.axes])
        x = backend.windows(x, self.window, *self.steps)
        out, window = range(first + 1, first + 1 + ndim), range(first + 1 + ndim, first + 1 + 2 * ndim)
        return xp.permute_dims(x, (*lead, *out, *window, first) if is_last else (*lead, first, *window, *out))

    def _add_up(self, xp: Any, y: Array) -> Array:
        """Columns in `split_shape` into the padded x, one tap after the other."""
        is_last, every = self.channels == "last", (slice(None),)
        total = full(xp, y, channel_shape(self.lead, self.channel_count, self.padded, self.channels))
        for taps in product(*map(range, self.window)):
            place = tap_slice(taps, self.out, *self.steps)
            part = total[(*place, *every) if is_last else place]
            part += y[(..., *taps, *every) if is_last else (..., *taps, *every * len(self.axes))]
        return total


def accumulator(backend: Backend, array: Array) -> Any:
    """The dtype in which elements of ``array`` are summed."""
    name = dtype_name(array.dtype)
    wide = backend.accumulators.get(name, name)
    wide = ACCUMULATORS.get(wide, wide)
    return array.dtype if wide == name else backend.dtype(wide)


def read_axes(op: str, sizes: Shape, window: Shape, options: Options) -> tuple[WindowDimension, ...]:
    """The spatial axes."""
    if not window:
        raise ValueError(f"{op}: window=() must have at least one entry, one for each spatial axis")
    return window_axes(op, sizes, window, options)[1]


def find_unfold(*key: Any) -> Columns:
    """`read_unfold`, remembered."""
    return read_unfold(*key)


def find_fold(*key: Any) -> Columns:
    """`read_fold`, remembered."""
    return read_fold(*key)


@lru_cache(maxsize=4096)
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


@lru_cache(maxsize=4096)
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
    return backend, x, backend.fold(find_unfold, tuple(x.shape), *key)


def gather_fold(columns: Array, spatial_shape: Any, window: Any, **options: Any) -> tuple[Backend, Array, Columns]:
    """The arguments of `fold`, read."""
    backend, (columns,) = gather_arrays("fold", ("columns",), (columns,))
    given = {"spatial_shape": spatial_shape, "window": window, **DEFAULTS, **options}
    key = [freeze("fold", name, value) for name, value in given.items()]
    return backend, columns, backend.fold(find_fold, tuple(columns.shape), *key)


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
