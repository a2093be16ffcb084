"""The windows of one axis, gathered as a new axis and added back, in few steps and with no zeros between elements."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import gcd
from operator import add
from typing import Any, NamedTuple

from ..boundary import Run, runs
from ..geometry import WindowDimension
from ..primitives import MOST_STACKED, along, full, pad_runs

Array = Any


def pad_axes(xp: Any, x: Array, first: int, widths: Sequence[tuple[int, int]]) -> Array:
    """Zero padding of the axes from ``first`` on; negative widths crop."""
    others: list[tuple[Run, ...]] = [((0, n, 1),) for n in x.shape[first + len(widths) :]]
    return pad_runs(
        xp, x, [runs("constant", n, *pair) for n, pair in zip(x.shape[first:], widths, strict=False)] + others
    )


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
