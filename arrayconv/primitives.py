"""Moves that every algorithm shares, written once over the array API; a backend may hold a better one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import product
from math import prod
from typing import Any

from .boundary import Run
from .geometry import dilated

Array = Any
Widths = Sequence[tuple[int, int]]


def full(xp: Any, like: Array, shape: Sequence[int], value: Any = 0) -> Array:
    """A constant array of ``like``'s dtype beside ``like``."""
    return xp.full(tuple(shape), value, dtype=like.dtype, **placement(like))


def placement(like: Array) -> dict[str, Any]:
    """The keyword that puts a new array beside ``like``.

    Lazy arrays and tracers have no device; a JAX array on several has a sharding that fits its own shape only.
    """
    device = getattr(like, "device", None)
    return {} if device is None or hasattr(device, "device_set") else {"device": device}


def along(axis: int, part: slice) -> tuple[Any, ...]:
    """An index that takes ``part`` of one axis (counted from the front)."""
    return (slice(None),) * axis + (part, ...)


def concat(xp: Any, parts: list[Array], axis: int) -> Array:
    """``xp.concat`` without the copy where there is one part."""
    return parts[0] if len(parts) == 1 else xp.concat(parts, axis=axis)


def pad_zero(xp: Any, x: Array, widths: Widths) -> Array:
    """Zero padding of the last axes; negative widths crop."""
    first = x.ndim - len(widths)
    x, widths = crop(x, widths)
    for axis, (low, high) in enumerate(widths, first):
        before, after = ((*x.shape[:axis], n, *x.shape[axis + 1 :]) for n in (low, high))
        parts = [*([full(xp, x, before)] if low else []), x, *([full(xp, x, after)] if high else [])]
        x = concat(xp, parts, axis)
    return x


def crop(x: Array, widths: Widths) -> tuple[Array, Widths]:
    """x without what negative widths of the last axes take away, and the zeros that are left to add."""
    if all(low >= 0 and high >= 0 for low, high in widths):
        return x, widths
    parts, rest = crop_parts(x.shape[x.ndim - len(widths) :], widths)
    return x[(..., *parts)], rest


def crop_parts(sizes: Sequence[int], widths: Widths) -> tuple[list[slice], Widths]:
    """What is left of each axis, and the zeros to add.

    A crop deeper than x eats into the zeros of the other side: ``(5, -4)`` of 3 elements leaves 4 zeros.
    """
    parts, rest = [], []
    for n, (low, high) in zip(sizes, widths, strict=True):
        start = min(n, max(0, -low))
        stop = max(start, n - max(0, -high))
        parts.append(slice(start, stop))
        added = n + low + high - (stop - start)
        before = min(max(0, low), added)
        rest.append((before, added - before))
    return parts, rest


def forward(xp: Any, x: Array, lengths: Sequence[int]) -> Array:
    """The discrete Fourier transform of the last axes, with zeros after them up to these lengths; half of it if x is
    real.
    """
    transform = xp.fft.fftn if xp.isdtype(x.dtype, "complex floating") else xp.fft.rfftn
    transformed: Array = transform(x, s=tuple(lengths), axes=tuple(range(-len(lengths), 0)))
    return transformed


def inverse(xp: Any, spectrum: Array, lengths: Sequence[int], results: Sequence[slice], is_complex: bool) -> Array:
    """What `forward` made this of, ``results`` of each axis."""
    transform = xp.fft.ifftn if is_complex else xp.fft.irfftn
    return transform(spectrum, s=tuple(lengths), axes=tuple(range(-len(lengths), 0)))[(..., *results)]


def pad_runs(xp: Any, x: Array, runs: Sequence[Sequence[Run]], value: Any = 0) -> Array:
    """Padding of the last axes by `boundary.runs`, one sequence of runs an axis."""
    first = x.ndim - len(runs)
    for axis, pieces in enumerate(runs, first):
        if pieces != ((0, x.shape[axis], 1),):
            parts = [_piece(xp, x, axis, run, value) for run in pieces]
            x = concat(xp, parts, axis) if parts else x[along(axis, slice(0, 0))]
    return x


def _piece(xp: Any, x: Array, axis: int, run: Run, value: Any) -> Array:
    start, length, step = run
    shape = (*x.shape[:axis], length, *x.shape[axis + 1 :])
    if start is None:
        return full(xp, x, shape, value)
    if step == 0:
        return xp.broadcast_to(x[along(axis, slice(start, start + 1))], shape)
    if step > 0:
        return x[along(axis, slice(start, start + length))]
    return xp.flip(x[along(axis, slice(start - length + 1, start + 1))], axis=axis)


def pad_runs_transpose(xp: Any, dy: Array, runs: Sequence[Sequence[Run]], sizes: Sequence[int]) -> Array:
    """The transpose of `pad_runs`: every padded element is added to the one that it was read from."""
    first = dy.ndim - len(runs)
    for axis, (pieces, size) in enumerate(zip(runs, sizes, strict=True), first):
        if pieces == ((0, size, 1),):
            continue
        total, offset = None, 0
        for start, length, step in pieces:
            part = dy[along(axis, slice(offset, offset + length))]
            offset += length
            if start is None:
                continue
            if step == 0:
                part, length = xp.sum(part, axis=axis, keepdims=True, dtype=dy.dtype), 1
            elif step < 0:
                part, start = xp.flip(part, axis=axis), start - length + 1
            widths = [(0, 0)] * (dy.ndim - axis)
            widths[0] = (start, size - start - length)
            part = pad_zero(xp, part, widths)
            total = part if total is None else total + part
        if total is None:
            total = full(xp, dy, (*dy.shape[:axis], size, *dy.shape[axis + 1 :]))
        dy = total
    return dy


def tap_slice(taps: Sequence[int], out: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Any:
    """The index of all inputs that one tap meets: a strided slice an axis, of ``out`` elements each."""
    axes = zip(taps, out, stride, dilation, strict=True)
    return (..., *(slice(t * d, t * d + (n - 1) * s + 1 if n else t * d, s) for t, n, s, d in axes))


def sum_products(pairs: Iterable[tuple[Array, Array]]) -> Array:
    """``a * b`` of all pairs, added up in order."""
    total = None
    for a, b in pairs:
        total = a * b if total is None else total + a * b
    return total


#: Taps above which windows are not stacked at once, and those of one axis doubled: a traced graph grows with slices.
MOST_STACKED = 32


def window_counts(
    sizes: Sequence[int], window: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> list[int]:
    """How many windows there are along each axis."""
    return [(n - (k - 1) * d - 1) // s + 1 for n, k, s, d in zip(sizes, window, stride, dilation, strict=True)]


def windows(xp: Any, x: Array, window: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Array:
    """Sliding windows over the last axes, ``(..., *out, *window)``: few taps at once, many one axis after the other."""
    ndim = len(window)
    first = x.ndim - ndim
    if 1 < prod(window) <= MOST_STACKED:
        out = window_counts(x.shape[first:], window, stride, dilation)
        shifts = [tap_slice(taps, out, stride, dilation) for taps in product(*map(range, window))]
        stacked = xp.stack([x[shift] for shift in shifts], axis=first)
        stacked = xp.reshape(stacked, (*x.shape[:first], *window, *out))
        return xp.permute_dims(
            stacked, (*range(first), *range(first + ndim, first + 2 * ndim), *range(first, first + ndim))
        )
    for i, (k, s, d) in enumerate(zip(window, stride, dilation, strict=True)):
        axis = first + 2 * i
        if k > MOST_STACKED and k <= s * MOST_STACKED and d == 1:
            x = joined_windows(xp, partial(pad_zero, xp), x, axis, k, s)
        elif k > MOST_STACKED:
            x = _doubled_windows(xp, x, axis, k, d)[along(axis, slice(None, None, s))]
        else:
            span = (x.shape[axis] - (k - 1) * d - 1) // s * s + 1
            x = xp.stack([x[along(axis, slice(t, t + span, s))] for t in range(0, k * d, d)], axis=axis + 1)
    pairs = range(first, first + 2 * ndim, 2)
    return xp.permute_dims(x, (*range(first), *pairs, *(axis + 1 for axis in pairs)))


def _doubled_windows(xp: Any, x: Array, axis: int, taps: int, dilation: int) -> Array:
    """All windows of one axis in log2(taps) steps: the last taps of a wider window are those of a later one."""
    size, width = x.shape[axis], 1
    x = xp.expand_dims(x, axis=axis + 1)
    while width < taps:
        more = min(width, taps - width)
        count, shift = size - (width + more - 1) * dilation, more * dilation
        later = x[along(axis, slice(shift, shift + count))][along(axis + 1, slice(width - more, width))]
        x = xp.concat([x[along(axis, slice(0, count))], later], axis=axis + 1)
        width += more
    return x


def joined_windows(
    xp: Any, pad: Callable[[Array, Widths], Array], x: Array, axis: int, taps: int, stride: int
) -> Array:
    """All windows of one axis from blocks of a stride: each is its own block, and the beginning of those after it."""
    count, blocks = (x.shape[axis] - taps) // stride + 1, -(-taps // stride)
    size = (count + blocks - 1) * stride
    x = pad(x, [(0, size - x.shape[axis]), *[(0, 0)] * (x.ndim - axis - 1)])
    x = xp.reshape(x, (*x.shape[:axis], count + blocks - 1, stride, *x.shape[axis + 1 :]))
    parts = [x[along(axis, slice(i, i + count))] for i in range(blocks)]
    parts[-1] = parts[-1][along(axis + 1, slice(0, taps - (blocks - 1) * stride))]
    return concat(xp, parts, axis + 1)


def dilate(xp: Any, x: Array, dilation: Sequence[int]) -> Array:
    """``dilation - 1`` zeros between neighbours of the last axes."""
    for axis, d in enumerate(dilation, x.ndim - len(dilation)):
        n = x.shape[axis]
        if d > 1 and n > 1:
            holes = full(xp, x, (*x.shape[: axis + 1], d - 1, *x.shape[axis + 1 :]))
            x = xp.concat([xp.expand_dims(x, axis=axis + 1), holes], axis=axis + 1)
            x = xp.reshape(x, (*x.shape[:axis], n * d, *x.shape[axis + 2 :]))
            x = x[along(axis, slice(0, dilated(n, d)))]
    return x


def band(xp: Any, kernel: Array, place: int, block: int, stride: int, dilation: int) -> Array:
    """``(O, I, *k)`` as ``(O * block, I, *k)``, axis ``place`` longer: the taps of row b of a block lie ``b * stride``
    further, zeros around them.

    A row of taps and ``block * stride`` zeros, repeated and cut into rows shorter by one stride, steps on by it every
    row.
    """
    kernel = dilate(xp, kernel, [dilation if i == place else 1 for i in range(2, kernel.ndim)])
    order = [i for i in range(kernel.ndim) if i != place]
    taps = pad_zero(xp, xp.permute_dims(kernel, (*order, place)), [(0, block * stride)])
    lead, length = taps.shape[:-1], taps.shape[-1]
    rows = xp.broadcast_to(xp.expand_dims(taps, axis=-2), (*lead, block, length))
    span = length - stride
    rows = xp.reshape(rows, (*lead, block * length))[..., : block * span]
    rows = xp.reshape(rows, (*lead, block, span))
    # axes are now (O, I, *others, block, span)
    others = list(range(2, kernel.ndim - 1))
    others.insert(place - 2, kernel.ndim)
    rows = xp.permute_dims(rows, (0, kernel.ndim - 1, 1, *others))
    return xp.reshape(rows, (rows.shape[0] * block, *rows.shape[2:]))


def add_windows(
    xp: Any, y: Array, sizes: Sequence[int], window: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Array:
    """The transpose of `windows`: ``y (..., *out, *window)`` summed into ``(..., *sizes)``."""
    ndim = len(window)
    lead = y.shape[: y.ndim - 2 * ndim]
    total = full(xp, y, (*lead, *sizes))
    for taps in product(*map(range, window)):
        spread = dilate(xp, y[(..., *taps)], stride)
        offsets = [t * d for t, d in zip(taps, dilation, strict=True)]
        inner = spread.shape[len(lead) :]
        widths = [(low, n - low - m) for low, n, m in zip(offsets, sizes, inner, strict=True)]
        total = total + pad_zero(xp, spread, widths)
    return total


def join(xp: Any, parts: list[Array], counts: Sequence[int], axes: Sequence[int]) -> Array:
    """Blocks of a grid, the last axis fastest, as one array: ``counts[i]`` of them along ``axes[i]``."""
    for count, axis in zip(reversed(counts), reversed(axes), strict=True):
        parts = [concat(xp, parts[i : i + count], axis) for i in range(0, len(parts), count)]
    return parts[0]


def split_ranges(count: int, step: int) -> list[range]:
    """``range(count)`` in pieces of ``step``."""
    return [range(start, min(start + step, count)) for start in range(0, count, step)]


#: Products that are held at once: as many as stay in a cache.
HELD = 2**19


def sum_each(xp: Any, parts: Sequence[Array], kernel: Array, axes: Sequence[int]) -> list[Array]:
    """``sum(part * kernel, axes)`` for each part, some indices of the fifth axis at a time."""
    size, axis = parts[0].shape[4], tuple(axes)
    own = prod([max(pair) for pair in zip(parts[0].shape, kernel.shape, strict=True)])
    pieces = [(slice(None),) * 4 + (slice(r.start, r.stop),) for r in split_ranges(size, max(1, size * HELD // own))]
    kernels = [kernel[piece] for piece in pieces]

    def total(part: Array) -> Array:
        sums = [
            xp.sum(part[piece] * taps, axis=axis, dtype=kernel.dtype)
            for piece, taps in zip(pieces, kernels, strict=True)
        ]
        return sums[0] if len(sums) == 1 else xp.concat(sums, axis=3)

    return [total(part) for part in parts]


def beside(places: slice, step: int) -> tuple[int, slice]:
    """Where every ``step`` th element lies after `apart`."""
    first, rest = divmod(places.start, step)
    return rest, slice(first, first + len(range(places.start, places.stop, step)))


def apart(xp: Any, x: Array, step: int) -> Array:
    """``(..., s)`` as ``(..., step, s / step)``: every ``step`` th element in a row, with as many zeros as it takes."""
    *lead, size = x.shape
    count = -(-size // step)
    x = pad_zero(xp, x, ((0, 0),) * len(lead) + ((0, count * step - size),))
    return xp.permute_dims(xp.reshape(x, (*lead, count, step)), (*range(len(lead)), len(lead) + 1, len(lead)))


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def sum_equal_rows(xp: Any, index: Array, values: Array, count: int) -> Array:
    """``out[i] = sum of values[k] over index[k] == i``, for ``count`` rows, in the array API standard.

    The standard has no scatter. Sorted by index, equal indices are neighbours; each row then adds the one 1, 2, 4, ...
    places before it while that has its index (a segmented scan, Hillis and Steele, CACM 29, 1986), and the last of each
    stretch holds its sum. Differences of one running sum would need fewer steps, but mix and cancel unrelated rows.
    """
    terms = values.shape[0]
    if terms == 0:
        return full(xp, values, (count, values.shape[1]))
    order = xp.argsort(index)
    index, values = xp.take(index, order), xp.take(values, order, axis=0)
    step = 1
    while step < terms:
        same = (index[step:] == index[:-step])[:, None]
        before = xp.where(same, values[:-step, :], xp.zeros_like(values[step:, :]))
        values = xp.concat([values[:step, :], values[step:, :] + before], axis=0)
        step *= 2
    wanted = xp.arange(count, dtype=index.dtype, device=index.device)
    last = xp.searchsorted(index, wanted, side="right") - 1
    last = xp.where(last < 0, xp.zeros_like(last), last)
    found = (xp.take(index, last) == wanted)[:, None]
    sums = xp.take(values, last, axis=0)
    return xp.where(found, sums, xp.zeros_like(sums))
