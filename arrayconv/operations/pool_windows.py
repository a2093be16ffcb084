"""Windows reduced to a maximum or a sum, as shifted slices along one axis after the other.

Maximum and sum over a box are maxima and sums along its axes in turn, so a window of ``k_1 x k_2`` costs
``k_1 + k_2`` slices. The last axis goes first: the first of equal maxima in row-major order stands in the first row
that has one, and is the first of that row, so each fold need only keep the earlier of two equal elements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from operator import add
from typing import Any

from ..backend import Backend, dtype_name
from ..boundary import Run
from ..geometry import WindowDimension, dilated
from ..primitives import along, dilate
from .pool_axes import nearest

Array = Any

#: Elements of a window up to which they are combined one by one; beyond, a traced graph would grow too long.
MOST_FOLDED = 32


def last_first(x: Array, axes: Sequence[WindowDimension]) -> list[tuple[int, WindowDimension]]:
    """The axes with their places in x, in the order in which they are folded."""
    return list(enumerate(axes, x.ndim - len(axes)))[::-1]


def taps(x: Array, i: int, axis: WindowDimension) -> Iterator[Array]:
    """The first element of every window along axis i of the padded x, then the second, ..."""
    for t in range(axis.kernel):
        start = t * axis.window_dilation
        yield x[along(i, slice(start, start + dilated(axis.output, axis.stride), axis.stride))]


def windowed(combine: Callable[[Array, Array], Array], x: Array, i: int, axis: WindowDimension) -> Array:
    """Every window along axis i of the padded x combined from its first element to its last.

    Long windows are put together from windows of 1, 2, 4, ... elements, one for each binary digit of their length.
    """
    if axis.kernel <= MOST_FOLDED:
        return reduce(combine, taps(x, i, axis))
    whole, done, width, dilation = None, 0, 1, axis.window_dilation
    while True:
        if axis.kernel & width:
            start = done * dilation
            part = x[along(i, slice(start, start + dilated(axis.output, axis.stride), axis.stride))]
            whole, done = part if whole is None else combine(whole, part), done + width
        if 2 * width > axis.kernel:
            return whole
        shift = width * dilation
        x, width = combine(x[along(i, slice(0, -shift))], x[along(i, slice(shift, None))]), 2 * width


def beats(xp: Any, new: Array, best: Array) -> Array:
    """Where a later element replaces an earlier one."""
    wins = new > best
    return wins | xp.isnan(new) if "float" in dtype_name(new.dtype) else wins


def window_max(backend: Backend, axes: Sequence[WindowDimension], x: Array) -> Array:
    """The first maximum of every window; not by xp.maximum, which splits the gradient of a tie, where there may be one.

    Values alone have no order to keep, and along the first axis whole rows are compared.
    """

    def fold(larger: Callable[[Array, Array], Array] | None) -> Array:
        whole: list[int] = []
        xp, y = backend.xp, x
        combine = larger or (lambda best, new: xp.where(beats(xp, new, best), new, best))
        for i, axis in last_first(x, axes)[:: 1 if larger is None else -1]:
            y = backend.pad_runs(y, along_axis(y, i, axis))
            if larger is not None and is_whole(axis):
                y = one_window(y, i, axis)
                whole.append(i)
            else:
                y = windowed(combine, y, i, axis)
        return xp.max(y, axis=tuple(whole), keepdims=True) if whole else y

    return backend.max_windows(fold, axes, x)


def is_whole(axis: WindowDimension) -> bool:
    """Whether there is one window, as in global pooling, however long."""
    return axis.output == 1 < axis.kernel


def one_window(x: Array, i: int, axis: WindowDimension) -> Array:
    """Its elements."""
    if axis.window_dilation == 1 and axis.window == x.shape[i]:
        return x
    return x[along(i, slice(0, axis.window, axis.window_dilation))]


def along_axis(x: Array, i: int, axis: WindowDimension) -> list[tuple[Run, ...]]:
    """`nearest` of one axis: those after it, whose windows may be one element already, are as they are."""
    return [nearest(axis), *(((0, n, 1),) for n in x.shape[i + 1 :])]


def pull_window_max(backend: Backend, axes: Sequence[WindowDimension], x: Array, dy: Array) -> Array:
    """The transpose of `window_max` at x: each cotangent goes to the element that won its window."""
    return _route(backend, dy, x, last_first(x, axes))


def _route(backend: Backend, dy: Array, x: Array, axes: Sequence[tuple[int, WindowDimension]]) -> Array:
    """`pull_window_max` along the axes that are left."""
    if not axes:
        return dy
    (i, axis), *inner = axes
    xp, pieces, wins = backend.xp, along_axis(x, i, axis), []
    later = taps(backend.pad_runs(x, pieces), i, axis)
    best = next(later)
    for new in later:
        wins.append(beats(xp, new, best))
        best = xp.where(wins[-1], new, best)
    dy = _route(backend, dy, best, inner)
    zero, shares = xp.zeros_like(dy), []
    for win in reversed(wins):  # the last element that beat those before it is the winner
        shares.append(xp.where(win, dy, zero))
        dy = xp.where(win, zero, dy)
    dx = interleave(backend, [dy, *reversed(shares)], i, axis)
    return backend.pad_runs_transpose(dx, pieces, x.shape[i:])


def interleave(backend: Backend, shares: Sequence[Array], i: int, axis: WindowDimension) -> Array:
    """The transpose of `taps`: what each tap of each window gives back, summed along axis i of the padded x.

    Window j reads with tap t the place ``j * stride + t * dilation = (j + q) * stride + r``, so a tap shifts its share
    by q within the r-th of ``stride`` interleaved parts.
    """
    if axis.window == axis.stride == 1:
        return shares[0]
    xp, stride, rest = backend.xp, axis.stride, [(0, 0)] * (shares[0].ndim - 1 - i)
    most = (axis.window - 1) // stride
    parts: list[Any] = [None] * min(stride, axis.window)
    for t, share in enumerate(shares):
        q, r = divmod(t * axis.window_dilation, stride)
        moved = backend.pad(share, [(q, most - q), *rest])
        parts[r] = moved if parts[r] is None else parts[r] + moved
    zero = xp.zeros_like(parts[0])
    x = xp.stack([zero if part is None else part for part in parts], axis=i + 1)
    x = backend.pad(x, [(0, stride - len(parts)), *rest])
    x = xp.reshape(x, (*x.shape[:i], (axis.output + most) * stride, *x.shape[i + 2 :]))
    return x[along(i, slice(0, dilated(axis.output, stride) + axis.window - 1))]


def window_sum(backend: Backend, axes: Sequence[WindowDimension], x: Array) -> Array:
    """The sum of every window; along `Pooling.transposed` its own transpose."""
    x = dilate(backend.xp, x, [axis.base_dilation for axis in axes])
    widths, nothing = [(axis.low, axis.high) for axis in axes], [(0, 0)] * len(axes)
    if backend.compiled is not None:  # XLA pads and adds in one loop; others copy less of what is summed already
        x, widths = backend.pad(x, widths), nothing
    whole = []
    for k, (i, axis) in enumerate(last_first(x, axes)[::-1]):
        x = backend.pad(x, [widths[k], *nothing[k + 1 :]])
        if is_whole(axis):
            x = one_window(x, i, axis)
            whole.append(i)
        else:
            x = windowed(add, x, i, axis)
    return backend.xp.sum(x, axis=tuple(whole), keepdims=True, dtype=x.dtype) if whole else x
