"""im2col and col2im: a convolution's windows as the columns of a matrix, and their sum back into place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

from ..arguments import Padding, PerAxis, read_ints, read_word
from ..backend import Backend, dtype_name, gather_arrays
from ..geometry import WindowDimension
from ..planner import ACCUMULATORS
from ..primitives import along, full
from .conv import channel_shape
from .linear import Options, Pullback, as_dtype, freeze, window_axes

Array = Any


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

    def widths(self, sign: int) -> tuple[tuple[int, int], ...]:
        """The padding of x's last axes, or what undoes it."""
        pairs = tuple((sign * axis.low, sign * axis.high) for axis in self.axes)
        return (*pairs, (0, 0)) if self.channels == "last" else pairs

    def unfold(self, backend: Backend, x: Array) -> Array:
        """x as columns, a new array: stacking copies."""
        xp = backend.xp
        x = backend.pad(x, self.widths(1))
        for i, axis in enumerate(self.axes):
            taps, spatial = self.positions(i)
            x = xp.stack([x[along(spatial, part)] for part in tap_slices(axis)], axis=taps)
        return xp.reshape(x, self.shape)

    def fold(self, backend: Backend, columns: Array) -> Array:
        """The columns summed into x's shape; the transpose of every step of `unfold`, last step first."""
        y = backend.xp.reshape(backend.cast(columns, accumulator(backend, columns)), self.split_shape)
        for i, axis in reversed(tuple(enumerate(self.axes))):
            y = add_taps(backend, y, axis, *self.positions(i))
        return backend.cast(backend.pad(y, self.widths(-1)), columns.dtype)


def accumulator(backend: Backend, array: Array) -> Any:
    """The dtype in which elements of ``array`` are summed."""
    name = dtype_name(array.dtype)
    wide = backend.accumulators.get(name, name)
    wide = ACCUMULATORS.get(wide, wide)
    return array.dtype if wide == name else backend.dtype(wide)


def tap_slices(axis: WindowDimension) -> list[slice]:
    """For each tap, the elements of the padded axis that it meets."""
    reach = (axis.output - 1) * axis.stride + 1
    starts = range(0, axis.kernel * axis.window_dilation, axis.window_dilation)
    return [slice(start, start + reach, axis.stride) for start in starts]


def add_taps(backend: Backend, y: Array, axis: WindowDimension, taps: int, spatial: int) -> Array:
    """The transpose of stacking `tap_slices`: axis ``taps`` of y summed into axis ``spatial``.

    Tap t of output j belongs at ``j * stride + t * dilation``. The taps of one remainder ``t * dilation % stride`` are
    added undilated, shifted by ``t * dilation // stride``, and the remainders interleave at the end: no zero is
    inserted between neighbours, and taps that don't overlap (stride >= window) are only moved.
    """
    xp, stride = backend.xp, axis.stride
    rows = -(-axis.padded // stride)
    phases: list[Array] = [None] * stride
    for t, part in enumerate(xp.unstack(y, axis=taps)):
        shift, phase = divmod(t * axis.window_dilation, stride)
        after = [(0, 0)] * (part.ndim - spatial - 1)
        part = backend.pad(part, [(shift, rows - shift - axis.output), *after])
        phases[phase] = part if phases[phase] is None else phases[phase] + part
    shape = (*part.shape[:spatial], rows, *part.shape[spatial + 1 :])
    if None in map(type, phases):
        pass
    return y
